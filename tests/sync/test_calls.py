"""Blocking calls: results, callbacks, threads and closing."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

import lmstudio_async
import lmstudio_sync as lms
from lmstudio_sync._loop import MOST_IDLE_WORKERS
from tests.sync.quiet_server import QuietServer, client_of
from tests.worker_threads import join_worker_threads

pytestmark = pytest.mark.usefixtures("nothing_loaded")

KEY = "llama-3.2-1b-instruct"


@pytest.fixture
def threads() -> Iterator[None]:
    """Check that the test leaves no thread behind."""
    before = set(threading.enumerate())
    yield
    join_worker_threads(before)
    # trio keeps its idle worker threads for a while.
    left = {thread for thread in threading.enumerate() if not thread.name.startswith("Trio thread")}
    assert left <= before


# -- results


def test_handles_of_one_instance_are_equal_and_hash_alike(client: lms.Client) -> None:
    llm = client.llm.load_new_instance(KEY)
    assert {llm, client.llm.model()} == {llm}
    assert llm != client.llm.load_new_instance(KEY)
    assert repr(llm) == f"LLM(identifier={KEY!r})"


def test_a_blocking_handle_differs_from_its_async_handle(client: lms.Client) -> None:
    llm = client.llm.load_new_instance(KEY)
    assert llm != llm._core


def test_value_types_and_errors_are_the_cores_own() -> None:
    assert lms.LoadProgress is lmstudio_async.LoadProgress
    assert lms.LlmLoadModelConfig is lmstudio_async.LlmLoadModelConfig
    assert lms.LMStudioError is lmstudio_async.LMStudioError
    assert lms.EmbeddedServer is lmstudio_async.EmbeddedServer


def test_embed_and_tokenize_return_a_list_for_each_text(client: lms.Client) -> None:
    model = client.embedding.model("nomic-embed-text-v1.5")
    one, two = model.embed(["a", "b"])
    assert one == pytest.approx(model.embed("a"))
    assert len(two) == len(one)
    assert [len(tokens) for tokens in model.tokenize(["a", "b"])] == [len(model.tokenize("a"))] * 2


# -- callbacks


def test_callbacks_run_in_the_thread_that_made_the_call(client: lms.Client) -> None:
    seen: set[int] = set()
    client.llm.load_new_instance(KEY, on_progress=lambda _: seen.add(threading.get_ident()))
    assert seen == {threading.get_ident()}


def test_a_callback_may_use_the_sdk(client: lms.Client) -> None:
    seen: list[list[str]] = []

    def on_progress(fraction: float) -> None:
        if fraction == 1.0:
            seen.append([llm.identifier for llm in client.llm.list_loaded()])

    client.llm.load_new_instance(KEY, on_progress=on_progress)
    assert seen == [[KEY]]


def test_an_exception_of_a_callback_is_raised_and_cancels_the_load() -> None:
    server = QuietServer()

    def on_progress(fraction: float) -> None:
        try:
            raise KeyError("the cause")
        except KeyError as error:
            raise StopIteration(fraction) from error

    with client_of(server) as client:
        with pytest.raises(StopIteration) as caught:
            client.llm.load_new_instance("qwen3-4b", on_progress=on_progress)
        assert isinstance(caught.value.__cause__, KeyError)
        assert caught.value.__notes__ == ["Raised by the callback on_progress."]
        assert server.has_received("cancel")


def test_system_exit_in_a_callback_does_not_end_the_client() -> None:
    with client_of(QuietServer()) as client:
        with pytest.raises(SystemExit):
            client.llm.load_new_instance("qwen3-4b", on_progress=lambda _: exec("raise SystemExit"))
        assert len(client.llm.list_loaded()) == 1


def test_an_async_callback_is_awaited(client: lms.Client) -> None:
    received: list[float] = []

    async def on_progress(fraction: float) -> None:
        await anyio.lowlevel.checkpoint()
        received.append(fraction)

    client.llm.load_new_instance(KEY, on_progress=on_progress)
    assert received[-1] == 1.0


def test_a_blocking_call_in_an_async_callback_is_an_error_not_a_deadlock(client: lms.Client) -> None:
    async def on_progress(fraction: float) -> None:
        await anyio.lowlevel.checkpoint()
        client.llm.list_loaded()

    with pytest.raises(lms.LMStudioRuntimeError, match="plain function"):
        client.llm.load_new_instance(KEY, on_progress=on_progress)


def test_act_takes_plain_tools_and_runs_callbacks_in_the_callers_thread(client: lms.Client) -> None:
    llm = client.llm.model("tools")
    received: list[tuple[str, int]] = []

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        # A tool runs in a thread of its own, and can use the SDK there as well.
        received.append((llm.get_info().identifier, a + b))
        return a + b

    def on_message(message: object) -> None:
        received.append((threading.current_thread().name, threading.get_ident()))

    result = llm.act("What is 1 + 2?", [add], on_message=on_message)
    here = (threading.current_thread().name, threading.get_ident())
    assert result.rounds == 2
    assert [each for each in received if each != here] == [("tools", 3)]
    assert received.count(here) == 3


def test_guard_tool_call_runs_in_the_callers_thread(client: lms.Client) -> None:
    here: list[int] = []

    def guard(request: lms.ToolCallRequest, round_index: int) -> dict[str, int]:
        here.append(threading.get_ident())
        return {"a": 20, "b": round_index}

    steps: list[lms.ToolCallProgress] = []
    result = client.llm.model("tools").act(
        "What is 1 + 2?",
        [lms.ToolFunctionDef("add", "Add.", {"a": int, "b": int}, lambda a, b: a + b)],
        guard_tool_call=guard,
        on_tool_call=steps.append,
    )
    assert result.rounds == 2
    assert here == [threading.get_ident()]
    assert steps[-1].result == "20"


def test_act_raises_the_exception_of_a_callback_unchanged(client: lms.Client) -> None:
    def fail(a: int, b: int) -> int:
        """Add two numbers."""
        raise ArithmeticError(a + b)

    def on_invalid(error: lms.LMStudioPredictionError, request: object) -> None:
        raise KeyError(request) from error

    with pytest.raises(KeyError) as caught:
        client.llm.model("tools").act(
            "What is 1 + 2?",
            [lms.ToolFunctionDef("add", "Add.", {"a": int, "b": int}, fail)],
            handle_invalid_tool_request=on_invalid,
        )
    assert isinstance(caught.value.__cause__, lms.LMStudioPredictionError)
    assert caught.value.__notes__ == ["Raised by the callback handle_invalid_tool_request."]


def test_an_error_out_of_an_async_callback_names_the_callback(client: lms.Client) -> None:
    async def on_progress(fraction: float) -> None:
        raise KeyError(fraction)

    with pytest.raises(KeyError) as caught:
        client.llm.load_new_instance(KEY, on_progress=on_progress)
    assert caught.value.__notes__ == ["Raised by the callback on_progress."]


# -- threads and loops


def test_many_threads_share_a_client(client: lms.Client) -> None:
    client.llm.load_new_instance(KEY, "shared")

    def call_often(_: int) -> set[str]:
        return {llm.identifier for _ in range(100) for llm in client.llm.list_loaded()}

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call_often, range(16))) == [{"shared"}] * 16


def test_successive_calls_share_a_task(client: lms.Client) -> None:
    async def task() -> object:
        return anyio.get_current_task().id

    assert len({client._bridge.call(task()) for _ in range(10)}) == 1


def test_the_result_of_a_call_is_released_before_the_next_call(client: lms.Client) -> None:
    async def give() -> threading.Event:
        return threading.Event()

    freed = threading.Event()
    weakref.finalize(client._bridge.call(give()), freed.set)
    assert freed.wait(20)


def test_concurrent_calls_have_a_task_each_and_few_idle_tasks_are_kept() -> None:
    count = MOST_IDLE_WORKERS + 4
    with client_of(QuietServer()) as client:
        together = threading.Barrier(count)

        async def tasks_in_use() -> int:
            return len(anyio.get_running_tasks())

        async def meet() -> None:
            await anyio.to_thread.run_sync(together.wait)

        before = client._bridge.call(tasks_in_use())
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda _: client._bridge.call(meet()), range(count)))
        kept = client._bridge.call(tasks_in_use()) - before
    assert kept == MOST_IDLE_WORKERS - 1


def test_a_context_variable_set_by_an_async_callback_is_not_seen_by_the_next_call(client: lms.Client) -> None:
    received: contextvars.ContextVar[str] = contextvars.ContextVar("received", default="nothing")

    async def on_progress(fraction: float) -> None:
        await anyio.lowlevel.checkpoint()
        received.set("a lot")

    async def look() -> str:
        return received.get()

    client.llm.load_new_instance(KEY, on_progress=on_progress)
    assert client._bridge.call(look()) == "nothing"


def test_threads_that_make_the_first_call_together_share_a_connection(threads: None) -> None:
    server = QuietServer()
    with client_of(server) as client, ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: client.llm.list_loaded()[0], range(16)))) == 1


async def test_a_blocking_call_works_inside_a_running_event_loop(client: lms.Client) -> None:
    assert client.llm.load_new_instance(KEY).respond("hi").content


def test_a_client_works_inside_asyncio_as_in_a_notebook(models: object) -> None:
    async def cell() -> list[lms.LLM | lms.EmbeddingModel]:
        with lms.Client(lms.EmbeddedServer(str(models), threads=1)) as client:
            return client.list_loaded_models()

    assert asyncio.run(cell()) == []


# -- timeouts


def test_a_call_to_a_silent_server_times_out() -> None:
    server = QuietServer()
    with client_of(server, timeout=0.05) as client:
        with pytest.raises(lms.LMStudioTimeoutError, match=r"0\.05 seconds"):
            client.llm.load_new_instance("qwen3-4b")
        assert server.wait_until_received("cancel")


def test_the_default_timeout_is_a_minute_and_can_be_set() -> None:
    assert lms.get_sync_api_timeout() == 60
    server = QuietServer()
    with client_of(server) as client, client_of(QuietServer(), timeout=1000) as patient:
        llm, other = client.llm.list_loaded()[0], patient.llm.list_loaded()[0]
        lms.set_sync_api_timeout(0.05)
        try:
            with pytest.raises(lms.LMStudioTimeoutError, match=r"0\.05 seconds"):
                llm.respond("hi")
            assert other._core._session.timeout == 1000
            lms.set_sync_api_timeout(None)
            assert lms.get_sync_api_timeout() is None
            assert llm._core._session.timeout is None
        finally:
            lms.set_sync_api_timeout(60)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), True, "1"])
def test_an_invalid_timeout_is_refused_and_changes_nothing(timeout: float) -> None:
    with pytest.raises(lms.LMStudioValueError, match="timeout"):
        lms.set_sync_api_timeout(timeout)
    with pytest.raises(lms.LMStudioValueError, match="timeout"):
        lms.Client("embedded", timeout=timeout)
    assert lms.get_sync_api_timeout() == 60


# -- closing


def test_a_client_can_be_closed_without_a_with_block(threads: None) -> None:
    client = client_of(QuietServer())
    assert len(client.llm.list_loaded()) == 1
    client.close()
    client.close()


def test_a_client_that_was_never_used_leaves_no_thread(threads: None) -> None:
    client_of(QuietServer())
    lms.Client("127.0.0.1:9").close()


def test_a_closed_client_raises_connection_closed_error() -> None:
    with client_of(QuietServer()) as client:
        llm = client.llm.list_loaded()[0]
    for call in (lambda: client.llm, client.list_loaded_models, llm.get_info, client.__enter__):
        with pytest.raises(lms.LMStudioConnectionClosedError, match="closed"):
            call()


def test_closing_in_one_thread_ends_the_calls_of_the_others() -> None:
    server = QuietServer()
    outcome: list[BaseException] = []
    begun = threading.Event()

    def on_progress(fraction: float) -> None:
        if fraction:
            begun.set()

    def load() -> None:
        try:
            client.llm.load_new_instance("qwen3-4b", on_progress=on_progress)
        except lms.LMStudioConnectionClosedError as error:
            outcome.append(error)

    with client_of(server) as client:
        thread = threading.Thread(target=load)
        thread.start()
        assert begun.wait(20)
    thread.join(20)
    assert len(outcome) == 1
    assert server.has_received("cancel")


def test_an_exception_in_the_with_block_is_raised_unchanged() -> None:
    with pytest.raises(ZeroDivisionError) as caught, client_of(QuietServer()):
        raise ZeroDivisionError
    assert caught.value.__context__ is None


def test_a_client_that_is_dropped_warns_and_closes(threads: None) -> None:
    server = QuietServer()
    client = client_of(server)
    client.llm.list_loaded()
    (thread,) = [each for each in threading.enumerate() if each.name == "lmstudio" and each.daemon][-1:]
    with pytest.warns(
        ResourceWarning, match=r"Client\(api_host='quiet'\) was not closed\. It was made at \S+\.py:\d+\."
    ):
        del client
    thread.join(20)


def test_a_handle_keeps_its_client_open() -> None:
    llm = client_of(QuietServer()).llm.list_loaded()[0]
    gc.collect()
    assert llm.get_info().identifier == "qwen3-4b"
    llm._bridge.close()


def test_a_constructor_that_fails_causes_no_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(lms.LMStudioValueError):
            lms.Client("http://")
        gc.collect()
    assert caught == []


def test_is_valid_api_host_needs_no_client(threads: None) -> None:
    assert lms.Client.is_valid_api_host("127.0.0.1:9") is False
    with pytest.raises(lms.LMStudioValueError):
        lms.Client.is_valid_api_host("http://")
