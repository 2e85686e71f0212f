"""Ctrl-C in a blocking call: it cancels the work on the server, and a second one does not wait for the server."""

from __future__ import annotations

import sys
from textwrap import dedent

import pytest

from tests.sync.programs import program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a single process")

#: Limits so long that `Program` kills a program that waits for the end of one.
ENDLESS = """
from lmstudio_async._client_limits import ClientLimits

ENDLESS = ClientLimits(
    connect_seconds=3600.0, clean_up_seconds=3600.0, stop_seconds=3600.0, close_at_exit_seconds=3600.0
)
"""

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@BACKENDS
def test_ctrl_c_in_a_load_cancels_it_on_the_server(backend: str) -> None:
    code = """
        server = QuietServer()
        with client_of(server, backend=sys.argv[1], _limits=ENDLESS) as client:
            try:
                client.llm.load_new_instance("qwen3-4b", on_progress=lambda fraction: say(fraction))
            except KeyboardInterrupt:
                say("interrupted")
                say("cancelled" if server.has_received("cancel") else "not cancelled")
                say(client.llm.list_loaded()[0].identifier)
    """
    with program(ENDLESS + dedent(code), backend, warnings="error") as running:
        running.wait_for("0.5")
        running.interrupt()
        running.wait_for("interrupted")
        assert running.finish() == (0, ["cancelled", "qwen3-4b"]), running.errors()


def test_ctrl_c_while_waiting_for_the_next_item_cancels_the_operation() -> None:
    code = """
        server = QuietServer()
        with client_of(server, _limits=ENDLESS) as client:
            try:
                for progress in client.llm.load_new_instance_stream("qwen3-4b"):
                    if progress.fraction == 0.5:
                        say_when_waiting()
            except KeyboardInterrupt:
                say("interrupted", server.has_received("cancel"))
    """
    with program(ENDLESS + dedent(code), warnings="error") as running:
        running.wait_for("waiting")
        running.interrupt()
        running.wait_for("interrupted True")
        assert running.finish() == (0, []), running.errors()


def test_ctrl_c_in_the_body_of_a_loop_cancels_the_operation() -> None:
    code = """
        server = QuietServer(fragments=1000)
        with client_of(server, _limits=ENDLESS) as client:
            llm = client.llm.list_loaded()[0]
            try:
                with llm.respond_stream("hi") as answer:
                    for fragment in answer:
                        say("in the body")
                        pause()
            except KeyboardInterrupt:
                say("interrupted", server.has_received("cancel"))
    """
    with program(ENDLESS + dedent(code), warnings="error") as running:
        running.wait_for("in the body")
        running.interrupt()
        running.wait_for("interrupted True")
        assert running.finish() == (0, []), running.errors()


def test_ctrl_c_in_a_callback_cancels_the_call() -> None:
    code = """
        server = QuietServer()
        with client_of(server, _limits=ENDLESS) as client:
            def on_progress(fraction):
                say("in the callback")
                pause()
            try:
                client.llm.load_new_instance("qwen3-4b", on_progress=on_progress)
            except KeyboardInterrupt:
                say("interrupted", server.has_received("cancel"))
    """
    with program(ENDLESS + dedent(code), warnings="error") as running:
        running.wait_for("in the callback")
        running.interrupt()
        running.wait_for("interrupted True")
        assert running.finish() == (0, []), running.errors()


@BACKENDS
def test_ctrl_c_while_connecting_raises_keyboard_interrupt(backend: str) -> None:
    code = """
        server = QuietServer(authenticates=False)
        threading.Thread(target=lambda: server.is_connected.wait() and say("connected"), daemon=True).start()
        with client_of(server, backend=sys.argv[1], _limits=ENDLESS) as client:
            try:
                client.llm.list_loaded()
            except KeyboardInterrupt:
                say("interrupted")
    """
    with program(ENDLESS + dedent(code), backend, warnings="error") as running:
        running.wait_for("connected")
        running.interrupt()
        running.wait_for("interrupted")
        assert running.finish() == (0, []), running.errors()


def test_ctrl_c_while_looking_for_a_server_raises_keyboard_interrupt() -> None:
    code = """
        import socket

        # A server listens at LM Studio's port and never responds.
        silent = socket.create_server(("127.0.0.1", 0))
        limits = ENDLESS._replace(api_ports=(silent.getsockname()[1],), greeting_seconds=3600.0)
        visitors = []
        host = threading.Thread(target=lambda: visitors.append(silent.accept()) or say("asked"), daemon=True)
        host.start()
        try:
            with lms.Client(_limits=limits):
                say("never")
        except KeyboardInterrupt:
            host.join()
            say("interrupted", threads_left())
        for each in (silent, *(connection for connection, _ in visitors)):
            each.close()
    """
    with program(ENDLESS + dedent(code)) as running:
        running.wait_for("asked")
        running.interrupt()
        running.wait_for("interrupted 1")
        assert running.finish() == (0, []), running.errors()


def test_ctrl_c_while_a_client_starts_its_thread_leaves_no_thread() -> None:
    code = """
        import anyio
        from lmstudio_sync import _loop

        lives = threading.Event()

        async def tell_and_stay(loop, tasks):
            lives.set()
            await anyio.sleep_forever()

        class Thread(threading.Thread):
            def start(self):
                super().start()
                # The thread lives, and the client is not open yet.
                lives.wait()
                signal.raise_signal(signal.SIGINT)

        _loop.Loop._own = tell_and_stay
        threading.Thread = Thread
        client = client_of(QuietServer(), _limits=ENDLESS)
        try:
            client.llm.list_loaded()
        except KeyboardInterrupt:
            say("interrupted", threads_left())
    """
    with program(ENDLESS + dedent(code), warnings="error") as running:
        assert running.finish() == (0, ["interrupted 1"]), running.errors()


@BACKENDS
def test_a_second_ctrl_c_does_not_wait_for_the_server(backend: str) -> None:
    code = """
        server = QuietServer(confirms=False)
        threading.Thread(target=lambda: server.wait_until_received("cancel") and say("cancelled"), daemon=True).start()
        with client_of(server, backend=sys.argv[1], _limits=ENDLESS) as client:
            client.llm.load_new_instance("qwen3-4b", on_progress=lambda fraction: say(fraction))
    """
    with program(ENDLESS + dedent(code), backend) as running:
        running.wait_for("0.5")
        running.interrupt()
        running.wait_for("cancelled")
        running.interrupt()
        code_of_end, rest = running.finish()
        assert (code_of_end, rest) != (0, [])
        assert "KeyboardInterrupt" in running.errors()


def test_an_exception_injected_into_a_waiting_thread_cancels_its_call() -> None:
    code = """
        import ctypes

        class Stop(Exception):
            pass

        server = QuietServer()
        with client_of(server, _limits=ENDLESS) as client:
            begun = threading.Event()

            def load():
                try:
                    client.llm.load_new_instance("qwen3-4b", on_progress=lambda fraction: fraction and begun.set())
                except Stop:
                    say("stopped", server.has_received("cancel"))

            thread = threading.Thread(target=load)
            thread.start()
            begun.wait()
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stop))
            thread.join()
    """
    with program(ENDLESS + dedent(code), warnings="error") as running:
        assert running.finish() == (0, ["stopped True"]), running.errors()
