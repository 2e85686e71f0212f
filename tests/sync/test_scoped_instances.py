"""``with`` blocks of handles: their end unloads what the client has loaded, also after Ctrl-C at any moment."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent
from threading import Barrier

import pytest

import lmstudio_sync as lms
from tests.sync.interruption import is_interrupted
from tests.sync.programs import program
from tests.sync.quiet_server import QuietServer, client_of

KEY = "llama-3.2-1b-instruct"
ROOM: lms.LlmLoadModelConfigDict = {"context_length": 65536}

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a single process")
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.mark.usefixtures("nothing_loaded")
def test_the_end_of_a_block_unloads_a_new_instance(client: lms.Client) -> None:
    loading = client.llm.load_new_instance(KEY)
    with loading as llm:
        assert llm is loading
        assert llm.respond("Why?").content.startswith("The meaning")

    assert client.llm.list_loaded() == []


@pytest.mark.usefixtures("nothing_loaded")
def test_an_exception_of_the_block_is_raised_after_the_unload(client: lms.Client) -> None:
    with pytest.raises(ZeroDivisionError), client.embedding.load_new_instance("nomic-embed-text-v1.5"):
        raise ZeroDivisionError

    assert client.list_loaded_models() == []


@pytest.mark.usefixtures("nothing_loaded")
def test_only_handles_of_loads_unload(client: lms.Client) -> None:
    client.llm.load_new_instance(KEY)
    with client.llm.model(KEY), client.llm.list_loaded()[0], client.list_instances()[0].handle() as llm:
        assert llm.identifier == KEY

    assert [each.identifier for each in client.llm.list_loaded()] == [KEY]


@pytest.mark.usefixtures("nothing_loaded")
def test_a_handle_cannot_be_entered_again_after_its_instance_is_gone(client: lms.Client) -> None:
    with client.llm.load_new_instance(KEY) as llm:
        pass

    with pytest.raises(lms.LMStudioInstanceUnloadedError):
        llm.__enter__()


@pytest.mark.usefixtures("nothing_loaded")
def test_the_last_of_several_threads_that_share_a_load_unloads(client: lms.Client) -> None:
    threads = 4
    together = Barrier(threads)

    def work(number: int) -> str:
        with client.llm.model(KEY) as llm:
            together.wait(20)
            return llm.respond(f"Question {number}?").content

    with ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(work, range(threads)))

    assert len(answers) == threads
    assert client.llm.list_loaded() == []


@pytest.mark.usefixtures("nothing_loaded")
def test_the_end_of_a_block_ends_a_running_prediction_with_the_text_so_far(client: lms.Client) -> None:
    with client.llm.load_new_instance("talker", config=ROOM) as talker:
        stream = talker.respond_stream("Go")
        first = next(stream)

    result = stream.wait_for_result()
    assert result.content.startswith(first.content)
    assert result.stats.stop_reason == "modelUnloaded"
    assert client.llm.list_loaded() == []


def test_closing_the_client_in_a_block_unloads_once() -> None:
    server = QuietServer(finishes_loads=True)
    with client_of(server) as client, client.llm.load_new_instance("qwen3-4b"):
        client.close()
        assert server.calls().count("unloadModel") == 1

    assert server.calls().count("unloadModel") == 1


@pytest.mark.usefixtures("default_client")
def test_a_handle_of_the_default_client_unloads_what_it_has_loaded() -> None:
    with lms.llm(KEY) as llm:
        assert lms.list_loaded_models() == [llm]
    assert lms.list_loaded_models() == []

    lms.get_default_client().llm.load_new_instance(KEY)
    with lms.llm(KEY) as found:
        pass
    assert lms.list_loaded_models() == [found]


# -- interrupts


@BACKENDS
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_an_interrupt_at_any_step_of_a_block_leaves_nothing_loaded(backend: str) -> None:
    step, done = 0, False
    while not done:
        step += 1
        server = QuietServer(finishes_loads=True)
        with client_of(server, backend=backend) as client:
            # The client is open then, so that no step of opening it is counted.
            client.llm.list_loaded()

            def use() -> None:
                with client.llm.load_new_instance("qwen3-4b"):
                    pass

            done = not is_interrupted(step, use, {"lmstudio_sync._bridge"})
            # Not only when the client is closed.
            assert server.calls().count("unloadModel") == server.loads, step
        assert server.calls().count("unloadModel") == server.loads, step
    assert step > 100


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_an_interrupt_at_any_step_of_a_block_is_raised_although_the_unload_fails() -> None:
    step, done = 0, False
    while not done:
        step += 1
        server = QuietServer(finishes_loads=True, unloads=False)
        raised: list[BaseException] = []
        with client_of(server) as client:
            client.llm.list_loaded()

            def use() -> None:
                try:
                    with client.llm.load_new_instance("qwen3-4b"):
                        pass
                except BaseException as error:
                    raised.append(error)  # noqa: B023
                    raise

            done = not is_interrupted(step, use, {"lmstudio_sync._bridge"})
            assert [type(error) for error in raised] == [
                lms.LMStudioServerError if done else KeyboardInterrupt
            ], step
    assert step > 100


#: A server that shows when it unloads, and takes its time for that until `go_on` is set.
SLOW = """
import anyio
from lmstudio_async._client_limits import ClientLimits

go_on = threading.Event()

class SlowServer(QuietServer):
    async def _hear(self, transport, message):
        if message.get("endpoint") == "getModelInfo":
            say("unloading")
            while not go_on.is_set():
                await anyio.sleep(0.001)
        await super()._hear(transport, message)

def unloads():
    return server.calls().count("unloadModel")

server = SlowServer(finishes_loads=True)
client = client_of(server, backend=sys.argv[1], _limits=ClientLimits(undo_seconds=3600, clean_up_seconds=3600))
"""


@needs_signals
@BACKENDS
def test_ctrl_c_in_the_block_unloads_once(backend: str) -> None:
    code = """
        go_on.set()
        with client:
            try:
                with client.llm.load_new_instance("qwen3-4b"):
                    say("in the block")
                    pause()
            except KeyboardInterrupt:
                say("interrupted", unloads())
        say("closed", unloads())
    """
    with program(SLOW + dedent(code), backend, warnings="error") as running:
        running.wait_for("in the block")
        running.interrupt()
        running.wait_for("interrupted 1")
        assert running.finish() == (0, ["closed 1"]), running.errors()


@needs_signals
@BACKENDS
def test_ctrl_c_in_a_call_of_the_block_unloads_once(backend: str) -> None:
    code = """
        go_on.set()
        with client:
            try:
                with client.llm.load_new_instance("qwen3-4b") as llm:
                    for fragment in llm.respond_stream("hi"):
                        say_when_waiting()
            except KeyboardInterrupt:
                say("interrupted", unloads(), server.has_received("cancel"))
    """
    with program(SLOW + dedent(code), backend, warnings="error") as running:
        running.wait_for("waiting")
        running.interrupt()
        running.wait_for("interrupted 1 True")
        assert running.finish() == (0, []), running.errors()


@needs_signals
@BACKENDS
def test_ctrl_c_at_the_end_of_the_block_waits_for_the_unload(backend: str) -> None:
    code = """
        def interrupt(number, frame):
            go_on.set()
            raise KeyboardInterrupt

        signal.signal(signal.SIGINT, interrupt)
        with client:
            try:
                with client.llm.load_new_instance("qwen3-4b"):
                    pass
            except KeyboardInterrupt:
                say("interrupted", unloads())
    """
    with program(SLOW + dedent(code), backend, warnings="error") as running:
        running.wait_for("unloading")
        running.interrupt()
        running.wait_for("interrupted 1")
        assert running.finish() == (0, []), running.errors()


@needs_signals
@BACKENDS
def test_a_second_ctrl_c_at_the_end_of_the_block_does_not_wait(backend: str) -> None:
    code = """
        def say_when_interrupted():
            main = threading.main_thread().ident
            def names():
                frame = sys._current_frames()[main]
                while frame is not None:
                    yield frame.f_code.co_qualname
                    frame = frame.f_back
            def look():
                while "_BlockingCall.interrupt" not in names():
                    pass
                say("waits for the unload")
            threading.Thread(target=look, daemon=True).start()

        with client:
            try:
                with client.llm.load_new_instance("qwen3-4b"):
                    say_when_interrupted()
            except KeyboardInterrupt:
                say("interrupted", unloads())
    """
    with program(SLOW + dedent(code), backend, warnings="error") as running:
        running.wait_for("unloading")
        running.interrupt()
        running.wait_for("waits for the unload")
        running.interrupt()
        running.wait_for("interrupted 0")
        # The end of the client does not wait either, and the unload ends with the program.
        assert running.finish()[0] == 0, running.errors()


@needs_signals
def test_the_end_of_a_program_in_the_block_unloads() -> None:
    code = """
        class TellingServer(QuietServer):
            async def _hear(self, transport, message):
                await super()._hear(transport, message)
                if message.get("endpoint") == "unloadModel":
                    say("unloaded")

        client = client_of(TellingServer(finishes_loads=True))
        client.llm.load_new_instance("qwen3-4b").__enter__()
        sys.exit()
    """
    with program(SLOW + dedent(code), "asyncio", warnings="ignore") as running:
        assert running.finish() == (0, ["unloaded"]), running.errors()
