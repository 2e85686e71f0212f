"""An interrupt between the end of a call and its return: a result that does not reach the caller is undone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

import lmstudio_sync as lms
from lmstudio_async._callbacks import ScopedCallback
from lmstudio_async._client_limits import ClientLimits
from lmstudio_async._deliveries import deliveries
from tests.sync.interruption import is_interrupted
from tests.sync.programs import program
from tests.sync.quiet_server import QuietServer, client_of

#: An interrupt at the first step keeps the coroutine from ever being run.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a single process")


class Load:
    """An operation with only the members that the bridge needs."""

    def __init__(self, take_back: Callable[[], Any] = anyio.lowlevel.checkpoint) -> None:
        self.is_handed_over = False
        self.times_taken_back = 0
        self._undo = take_back

    async def hand_over(self) -> str:
        """End, and deliver the result to the consumer."""
        await anyio.lowlevel.checkpoint()
        delivered = deliveries.get()
        assert delivered is not None
        delivered.append(self.take_back)
        self.is_handed_over = True
        return "the handle"

    async def take_back(self) -> None:
        self.times_taken_back += 1
        await self._undo()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_result_that_an_interrupt_keeps_from_the_caller_is_taken_back(backend: str) -> None:
    taken_back = 0
    with client_of(QuietServer(), backend=backend) as client:
        client.llm.list_loaded()
        bridge = client._bridge
        # More steps than there are: their number varies, because a call does not always have to wait.
        for step in range(1, 200):
            load = Load()
            received: list[str] = []

            def call() -> str:
                # As in the methods of the facade: no interrupt can come between this return and the assignment.
                return bridge.call(load.hand_over(), str.upper)  # noqa: B023

            if is_interrupted(step, lambda: received.append(call()), {"lmstudio_sync._bridge"}):  # noqa: B023
                assert received == []
                assert load.times_taken_back == load.is_handed_over
            else:
                assert received == ["THE HANDLE"]
                assert load.times_taken_back == 0
            taken_back += load.times_taken_back
    assert taken_back


def test_an_error_in_taking_back_does_not_hide_the_interrupt() -> None:
    async def fail() -> None:
        raise lms.LMStudioServerError("gone")

    first, second = Load(fail), Load()

    async def hand_over_both() -> None:
        await first.hand_over()
        await second.hand_over()

    with client_of(QuietServer()) as client, pytest.raises(KeyboardInterrupt):
        client._bridge.call(hand_over_both(), interrupt)
    assert (first.times_taken_back, second.times_taken_back) == (1, 1)


def test_taking_back_takes_no_longer_than_its_limit() -> None:
    load = Load(anyio.sleep_forever)
    with client_of(QuietServer(), _limits=ClientLimits(take_back_seconds=0)) as client:
        with pytest.raises(KeyboardInterrupt):
            client._bridge.call(load.hand_over(), interrupt)
        assert len(client.llm.list_loaded()) == 1


def test_a_call_that_fails_hands_over_nothing() -> None:
    load = Load()

    async def hand_over_and_fail() -> None:
        await load.hand_over()
        raise ZeroDivisionError

    with client_of(QuietServer()) as client, pytest.raises(ZeroDivisionError):
        client._bridge.call(hand_over_and_fail())
    assert load.times_taken_back == 0


def interrupt(_: object) -> None:
    raise KeyboardInterrupt


def test_a_clean_up_that_fails_after_an_interrupt_does_not_count_as_run() -> None:
    async def fail() -> None:
        raise lms.LMStudioServerError("gone")

    async def succeed() -> None:
        pass

    with client_of(QuietServer()) as client:
        client.llm.list_loaded()
        # Otherwise `__enter__` would close the scope of another block.
        assert not client._bridge.catch_up(fail())
        assert client._bridge.catch_up(succeed())


class Bar(ScopedCallback):
    """A callback that fails, and a second interrupt comes while it is being told so."""

    is_prepared = True

    def __call__(self, fraction: float) -> None:
        raise NotImplementedError

    def prepare(self) -> None:
        raise NotImplementedError

    @contextmanager
    def used_once(self) -> Iterator[Callable[..., object]]:
        try:
            yield interrupt
        finally:
            raise KeyboardInterrupt("the second one")


def test_a_second_interrupt_while_a_callback_ends_cancels_the_load() -> None:
    server = QuietServer()
    with client_of(server) as client:
        with pytest.raises(KeyboardInterrupt, match="the second one"):
            client.llm.load_new_instance("qwen3-4b", on_progress=Bar())
        assert server.wait_until_received("cancel")


@needs_signals
def test_a_second_ctrl_c_does_not_wait_for_taking_back() -> None:
    code = """
        import anyio
        from lmstudio_async._client_limits import ClientLimits
        from lmstudio_async._deliveries import deliveries

        class Load:
            async def hand_over(self):
                deliveries.get().append(self.take_back)

            async def take_back(self):
                say("taking back")
                await anyio.sleep_forever()

        client = client_of(QuietServer(), _limits=ClientLimits(take_back_seconds=3600))
        try:
            client._bridge.call(Load().hand_over(), lambda _: signal.raise_signal(signal.SIGINT))
        except KeyboardInterrupt:
            client.close()
            say("interrupted")
    """
    with program(code) as running:
        running.wait_for("taking back")
        running.interrupt()
        running.wait_for("interrupted")
        assert running.finish() == (0, []), running.errors()


STREAMS = [
    pytest.param(lambda client: client.llm.load_new_instance_stream("qwen3-4b"), id="load"),
    pytest.param(lambda client: client.llm.list_loaded()[0].respond_stream("hi"), id="answer"),
]


@pytest.mark.parametrize("make", STREAMS)
@pytest.mark.parametrize(
    "use",
    [next, lambda stream: stream.start(), lambda stream: stream.__enter__()],
    ids=["next", "start", "enter"],
)
def test_an_operation_is_cancelled_by_an_interrupt_at_any_step_of_its_start(
    make: Callable[[lms.Client], Any], use: Callable[[Any], object]
) -> None:
    step, done = 0, False
    while not done:
        step += 1
        server = QuietServer()
        with client_of(server) as client:
            stream = make(client)
            done = not is_interrupted(step, lambda: use(stream), {"lmstudio_sync._bridge"})  # noqa: B023
            has_begun = bool({"loadModel", "predict"} & set(server.calls()))
            assert server.has_received("cancel") == (has_begun and not done)
    assert step > 10


def test_a_load_that_an_interrupt_keeps_from_the_caller_is_unloaded(
    client: lms.Client,
) -> None:
    step = 0
    while True:
        step += 1
        loaded: list[lms.LLM] = []

        def load() -> lms.LLM:
            return client.llm.load_new_instance("llama-3.2-1b-instruct")

        is_over = not is_interrupted(step, lambda: loaded.append(load()), {"lmstudio_sync._bridge"})  # noqa: B023
        assert client.llm.list_loaded() == loaded
        if is_over:
            break
    loaded[0].unload()
