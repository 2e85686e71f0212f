"""An interrupt at each step of a call leaves no lock taken, and makes no later call wait for ever."""

from __future__ import annotations

import sys
from textwrap import dedent

import pytest

from tests.sync.programs import program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a single process")

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])

#: Interrupt every step of a piece of code once; after each, a call in another thread must still return.
HEAD = """
from concurrent.futures import ThreadPoolExecutor
from tests.sync.interruption import is_interrupted

# Start the thread before anything is interrupted; it runs no interrupted code.
other_thread = ThreadPoolExecutor(1)
other_thread.submit(int).result()

def answer(function):
    '''Return the result of a call in another thread, or the name of the error that it raises.'''
    def call():
        try:
            return function()
        except lms.LMStudioError as error:
            return type(error).__name__
    return other_thread.submit(call).result()

def interrupt_each_step(function, make, check):
    '''Call the function with a new object each time, interrupt it one step later each time, and check the object.'''
    # Run to the end once, so that all imports are done: an interrupt may leave Python's own import locked.
    made = make()
    is_interrupted(0, lambda: function(made))
    check(made)
    step, done = 0, False
    while not done:
        step += 1
        made = make()
        done = not is_interrupted(step, lambda: function(made))
        check(made)
    say("survived", step > 10)

def open_client(*args):
    client = client_of(QuietServer(), backend=(sys.argv + ["asyncio"])[1])
    client.llm
    return client

def closed_client():
    client = open_client()
    client.close()
    return client

def check_closed(client):
    assert answer(lambda: client.llm) == "LMStudioConnectionClosedError"

def check_open_or_closed(client):
    assert answer(lambda: len(client.llm.list_loaded())) in (1, "LMStudioConnectionClosedError")
    client.close()
    check_closed(client)
"""


def survives(code: str, *arguments: object) -> None:
    with program(HEAD + dedent(code), *arguments, warnings="ignore") as running:
        assert running.finish() == (0, ["survived True"]), running.errors()


def test_a_closed_client_raises_closed_error_after_an_interrupt_at_any_step() -> None:
    survives("""
        interrupt_each_step(lambda client: client.llm, closed_client, check_closed)
    """)


@BACKENDS
def test_a_client_is_open_or_closed_after_an_interrupt_at_any_step_of_opening(backend: str) -> None:
    survives(
        """
        interrupt_each_step(
            lambda client: client.llm,
            lambda: client_of(QuietServer(), backend=sys.argv[1]),
            check_open_or_closed,
        )
        """,
        backend,
    )


@BACKENDS
def test_a_client_works_or_is_closed_after_an_interrupt_at_any_step_of_a_call(backend: str) -> None:
    survives(
        """
        interrupt_each_step(lambda client: client.llm.list_loaded(), open_client, check_open_or_closed)
        """,
        backend,
    )


@BACKENDS
def test_a_client_is_closed_after_an_interrupt_at_any_step_of_closing(backend: str) -> None:
    survives(
        """
        def check(client):
            client.close()
            check_closed(client)

        interrupt_each_step(lambda client: client.close(), open_client, check)
        """,
        backend,
    )


def test_the_default_client_works_after_an_interrupt_at_any_step_of_making_it() -> None:
    survives("""
        from lmstudio_sync import _default_client

        _default_client.Client = lambda *args: client_of(QuietServer())

        def check(made):
            assert answer(lambda: lms.get_default_client()) is answer(lambda: lms.get_default_client())
            assert answer(lambda: len(lms.list_loaded_models())) == 1

        interrupt_each_step(lambda made: lms.get_default_client(), lms.close_default_client, check)
    """)


def test_the_default_client_can_be_configured_after_an_interrupt_at_any_step() -> None:
    survives("""
        def check(made):
            answer(lms.close_default_client)
            answer(lambda: lms.configure_default_client("127.0.0.1:9"))
            assert answer(lambda: lms.get_default_client().api_host) == "127.0.0.1:9"
            answer(lms.close_default_client)

        def use(made):
            lms.configure_default_client("127.0.0.1:9")
            lms.close_default_client()

        interrupt_each_step(use, int, check)
    """)


def test_the_timeout_can_be_set_after_an_interrupt_at_any_step_of_setting_it() -> None:
    survives("""
        def check(clients):
            assert answer(lambda: lms.set_sync_api_timeout(60)) is None
            clients.append(answer(lambda: client_of(QuietServer())))
            assert {client._core._timeout for client in clients} == {60}

        def use(clients):
            lms.set_sync_api_timeout(30)
            clients.append(client_of(QuietServer()))

        interrupt_each_step(use, lambda: [client_of(QuietServer())], check)
    """)


@BACKENDS
def test_many_interrupts_in_a_row_block_no_client(backend: str) -> None:
    survives(
        """
        class Strike(BaseException):
            pass

        def strike(number, frame):
            # An exception in these frames would end the program.
            if frame.f_code not in (hammer.__code__, strike.__code__):
                raise Strike

        def hammer(function):
            for number in range(100):
                pause = 0.0002 + number % 20 * 0.0002
                signal.setitimer(signal.ITIMER_REAL, pause, pause / 3)
                try:
                    while True:
                        try:
                            function()
                        except lms.LMStudioError:
                            pass
                except Strike:
                    pass
            signal.setitimer(signal.ITIMER_REAL, 0)

        # Do all imports now: an interrupt may leave Python's own import locked.
        open_client().close()
        signal.signal(signal.SIGALRM, strike)
        for _ in range(3):
            client = client_of(QuietServer(), backend=sys.argv[1])
            hammer(lambda: client.llm)
            answer(lambda: client.llm)
            client.close()
            hammer(lambda: client.llm)
            check_closed(client)
        say("survived", True)
        """,
        backend,
    )
