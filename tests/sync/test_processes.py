"""Whole interpreters: clients that are open at their end or at a fork, and the cost of an import."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import lmstudio_sync as lms
from lmstudio_async import EmbeddedServer
from lmstudio_async._client_limits import ClientLimits
from lmstudio_async.testing import served
from tests.sync.programs import program

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.fixture(scope="module")
def address(models: Path) -> Iterator[str]:
    """The address of a server that outlives the programs."""
    with served(EmbeddedServer(models, threads=1)) as place:
        yield place


# -- imports


def test_importing_starts_no_thread_and_imports_nothing_heavy() -> None:
    code = """
        before = set(sys.modules)
        import lmstudio_sync
        lmstudio_sync.LMStudioError
        heavy = {"anyio", "asyncio", "attr", "cattrs", "httpx", "httpx_ws", "trio", "xllamacpp", "starlette", "uvicorn"}
        say(*sorted({name.split(".")[0] for name in set(sys.modules) - before} & heavy), threading.active_count())
    """
    with program(code, imports=False) as running:
        assert running.finish() == (0, ["1"]), running.errors()


def test_a_client_imports_nothing_of_the_extras() -> None:
    code = """
        import lmstudio_sync as lms

        lms.Client("127.0.0.1:9").close()
        extras = {"huggingface_hub", "starlette", "uvicorn", "xllamacpp"}
        say(*sorted(extras & set(sys.modules)), threads_left())
    """
    with program(code, warnings="error", imports=False) as running:
        assert running.finish() == (0, ["1"]), running.errors()


# -- the end of the interpreter


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_interpreter_ends_during_a_load_and_warns_of_the_open_client(backend: str) -> None:
    code = """
        server = QuietServer()
        client = client_of(server, backend=sys.argv[1])
        loading = client.llm.load_new_instance_stream("qwen3-4b")
        next(loading)
        say("the end")
    """
    with program(code, backend) as running:
        running.wait_for("the end")
        assert running.finish() == (0, []), running.errors()
        assert "ResourceWarning: Client(api_host='quiet') was not closed" in running.errors()


def test_a_load_in_flight_at_the_end_is_cancelled_on_the_server() -> None:
    code = """
        server = QuietServer()
        client = client_of(server)
        loading = client.llm.load_new_instance_stream("qwen3-4b")
        next(loading)
        original = server._hear
        async def hear(transport, message):
            if message.get("message") == {"type": "cancel"}:
                say("cancelled")
            await original(transport, message)
        server._hear = hear
    """
    with program(code) as running:
        assert running.finish() == (0, ["cancelled"]), running.errors()


def test_an_interpreter_ends_while_other_threads_are_in_calls() -> None:
    code = """
        server = QuietServer()
        client = client_of(server)
        begun = threading.Event()
        def load():
            try:
                client.llm.load_new_instance("qwen3-4b", on_progress=lambda fraction: fraction and begun.set())
            except lms.LMStudioConnectionClosedError:
                # Print nothing: an interpreter whose daemon threads still write when it ends may abort.
                pass
        threading.Thread(target=load, daemon=True).start()
        begun.wait()
        say("the end")
    """
    with program(code) as running:
        running.wait_for("the end")
        assert running.finish()[0] == 0, running.errors()


def test_open_clients_are_closed_at_exit_even_if_warnings_are_errors() -> None:
    code = """
        import atexit

        # The hook that is registered first runs last.
        atexit.register(lambda: say(threads_left()))
        from tests.sync.quiet_server import QuietServer, client_of

        clients = [client_of(QuietServer()), client_of(QuietServer())]
        loads = [client.llm.load_new_instance_stream("qwen3-4b") for client in clients]
        for load in loads:
            next(load)
    """
    with program(code, warnings="error", imports=False) as running:
        assert running.finish() == (0, ["1"]), running.errors()
        assert "was not closed" in running.errors()


def test_the_default_client_is_closed_at_exit_without_a_warning(address: str) -> None:
    code = """
        lms.configure_default_client(sys.argv[1])
        say(lms.llm("llama-3.2-1b-instruct").respond("hi").content)
    """
    with program(code, address, warnings="error") as running:
        assert running.finish() == (0, ["The meaning of life is what you make of it"])
        assert running.errors() == ""


def test_an_exit_hook_may_use_an_open_client(address: str) -> None:
    code = """
        import atexit

        def last_words():
            say("bye", llm.respond("hi").content)
            llm.unload()
            say(llm in lms.list_loaded_models("llm"))

        atexit.register(last_words)
        lms.configure_default_client(sys.argv[1])
        llm = lms.get_default_client().llm.load_new_instance("llama-3.2-1b-instruct")
    """
    with program(code, address, warnings="error") as running:
        assert running.finish() == (0, ["bye The meaning of life is what you make of it", "False"]), (
            running.errors()
        )


def test_an_embedded_server_ends_with_its_program_and_leaves_no_process(models: Path) -> None:
    code = """
        from tests.processes import workers

        client = lms.Client(lms.EmbeddedServer(sys.argv[1], threads=1))
        client.llm.load_new_instance("llama-3.2-1b-instruct")
        say(*workers())
    """
    with program(code, models) as running:
        status, (worker,) = running.finish()
        assert status == 0, running.errors()
        assert "was not closed" in running.errors()
    with pytest.raises(ProcessLookupError):
        os.kill(int(worker), 0)


def test_an_exit_hook_that_comes_too_late_gets_a_new_client_or_a_clear_error(address: str) -> None:
    code = """
        import atexit

        def too_late():
            try:
                lms.get_default_client().api_host and say("open")
            except lms.LMStudioRuntimeError as error:
                say("too late" if "about to end" in str(error) else error)

        # Register this hook before that of the SDK, so that it runs after that.
        atexit.register(too_late)
        import lmstudio_sync as lms
        lms.configure_default_client(sys.argv[1])
        lms.get_default_client()
    """
    with program(code, address, imports=False) as running:
        status, (word,) = running.finish()
        # Some versions of Python start no thread any more at this point.
        assert (status, word) in ((0, "open"), (0, "too late")), running.errors()


# -- forks


@needs_fork
def test_a_client_raises_an_error_in_a_forked_process_and_a_new_client_works(address: str) -> None:
    code = """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads

        with lms.Client(sys.argv[1]) as client:
            llm = client.llm.model("llama-3.2-1b-instruct")
            child = os.fork()
            if not child:
                try:
                    llm.get_info()
                except lms.LMStudioRuntimeError as error:
                    say("child:", str(error).partition(".")[0])
                client.close()
                with lms.Client(sys.argv[1]) as mine:
                    say("child:", mine.llm.model() == llm)
                sys.exit(7)
            say("parent:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            say("parent:", llm.get_info().identifier)
    """
    with program(code, address, warnings="error") as running:
        assert running.finish() == (
            0,
            [
                "child: This client belongs to the process that this one was forked from",
                "child: True",
                "parent: 7",
                "parent: llama-3.2-1b-instruct",
            ],
        ), running.errors()


@needs_fork
def test_a_forked_process_has_a_default_client_of_its_own(address: str) -> None:
    code = """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads

        lms.configure_default_client(sys.argv[1])
        llm = lms.llm("llama-3.2-1b-instruct")
        child = os.fork()
        if not child:
            say("child:", lms.llm() == llm)
            sys.exit()
        say("parent:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), lms.llm() == llm)
    """
    with program(code, address, warnings="error") as running:
        assert running.finish() == (0, ["child: True", "parent: 0 True"]), running.errors()


@pytest.mark.parametrize("method", ["spawn", pytest.param("fork", marks=needs_fork)])
def test_worker_processes_have_clients_of_their_own(method: str, address: str, tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(
        "import multiprocessing, sys, warnings\n"
        "import lmstudio_sync as lms\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "def ask(address):\n"
        "    with lms.Client(address) as client:\n"
        "        return client.llm.model('llama-3.2-1b-instruct').identifier\n"
        "if __name__ == '__main__':\n"
        "    with lms.Client(sys.argv[1]) as client:\n"
        "        client.llm.model('llama-3.2-1b-instruct')\n"
        "        with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:\n"
        "            print(pool.map(ask, [sys.argv[1]] * 4))\n"
        "            pool.close()\n"
        "            pool.join()\n"
    )
    with program(script, address, method) as running:
        assert running.finish() == (0, [str(["llama-3.2-1b-instruct"] * 4)]), running.errors()


# -- the default client


@pytest.mark.usefixtures("default_client")
class TestDefaultClient:
    def test_the_default_client_is_made_once(self) -> None:
        assert lms.get_default_client() is lms.get_default_client()

    def test_the_default_client_is_made_anew_after_it_was_closed(self) -> None:
        first = lms.get_default_client()
        first.close()
        assert lms.get_default_client() is not first
        assert lms.list_loaded_models() == []

    def test_a_client_that_could_not_connect_is_not_kept(
        self, monkeypatch: pytest.MonkeyPatch, address: str
    ) -> None:
        monkeypatch.delenv("LMSTUDIO_HOST")
        nowhere = ClientLimits(api_ports=(9,), app_port=9)
        monkeypatch.setattr("lmstudio_async._server_access.DEFAULT_LIMITS", nowhere)
        with pytest.raises(lms.LMStudioUnreachableError):
            lms.llm()
        lms.configure_default_client(address)
        assert lms.get_default_client().api_host == address

    def test_the_default_client_is_configured_before_its_first_use(self, address: str) -> None:
        assert lms.get_default_client(address).api_host == address
        with pytest.raises(lms.LMStudioClientError, match="made already"):
            lms.configure_default_client("127.0.0.1:9")
        with pytest.raises(lms.LMStudioClientError, match="made already"):
            lms.get_default_client(address)

    def test_invalid_settings_are_refused_at_once(self) -> None:
        with pytest.raises(lms.LMStudioValueError):
            lms.configure_default_client("http://")
        with pytest.raises(lms.LMStudioValueError):
            lms.configure_default_client(api_token="sk-wrong")
        assert lms.get_default_client().api_host == "embedded"

    def test_the_default_client_has_the_default_timeout(self) -> None:
        client = lms.get_default_client()
        assert client._core._timeout == lms.get_sync_api_timeout() == 60
