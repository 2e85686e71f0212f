"""Streams: iteration, ``with`` blocks, and cancelling on the server however a stream is left."""

from __future__ import annotations

import sys

import pytest

import lmstudio_sync as lms
from tests.processes import HeldLoads
from tests.sync.quiet_server import QuietServer, client_of

pytestmark = pytest.mark.usefixtures("nothing_loaded")

KEY = "llama-3.2-1b-instruct"

#: A long context, so that an endless answer goes on for seconds: it ends when the context is full.
ROOM: lms.LlmLoadModelConfigDict = {"context_length": 65536}


def test_a_load_stream_yields_progress_and_returns_the_handle(client: lms.Client) -> None:
    with client.llm.load_new_instance_stream(KEY, "watched") as loading:
        phases = [progress.phase for progress in loading]
        llm = loading.wait_for_result()
    assert (phases[0], phases[-1]) == ("resolved", "loaded")
    assert isinstance(llm, lms.LLM)
    assert llm == loading.result()
    assert loading.fraction == 1.0
    assert client.llm.list_loaded() == [llm]


def test_a_load_stream_can_be_iterated_to_its_end_without_a_with_block(client: lms.Client) -> None:
    fractions = [progress.fraction for progress in client.llm.model_stream(KEY)]
    assert fractions == sorted(fractions)
    assert len(client.llm.list_loaded()) == 1


def test_a_prediction_stream_yields_fragments(client: lms.Client) -> None:
    llm = client.llm.model(KEY)
    with llm.respond_stream("hi") as answer:
        pieces = [fragment.content for fragment in answer]
    assert "".join(pieces) == answer.result().content == answer.content
    assert len(pieces) > 2


def test_a_stream_can_be_started_and_waited_for(client: lms.Client) -> None:
    stream = client.llm.model(KEY).respond_stream("hi")
    assert stream.start() is stream
    assert stream.wait_for_result().content.startswith("The meaning")


@pytest.mark.skipif(sys.platform == "win32", reason="stops a process by SIGSTOP")
def test_leaving_a_load_stream_half_way_cancels_the_load(client: lms.Client, held_loads: HeldLoads) -> None:
    with client.llm.load_new_instance_stream(KEY) as loading:
        for progress in loading:
            if progress.phase == "loading":
                break
    with pytest.raises(lms.LMStudioCancelledError):
        loading.result()
    assert client.llm.list_loaded() == []


def test_leaving_an_endless_prediction_stream_cancels_it(client: lms.Client) -> None:
    llm = client.llm.model("talker", config=ROOM)
    with llm.respond_stream("hi") as answer:
        assert next(answer).content
    with pytest.raises(lms.LMStudioCancelledError):
        answer.result()


def test_cancel_keeps_the_text_so_far(client: lms.Client) -> None:
    with client.llm.model("talker", config=ROOM).respond_stream("hi") as answer:
        next(answer)
        answer.cancel()
        assert answer.wait_for_result().stats.stop_reason == "userStopped"


def test_break_in_a_with_block_cancels_the_load() -> None:
    server = QuietServer()
    with client_of(server) as client:
        with client.llm.load_new_instance_stream("qwen3-4b") as loading:
            for _ in loading:
                break
        assert server.has_received("cancel")


def test_an_exception_in_a_with_block_cancels_the_load() -> None:
    server = QuietServer()
    with client_of(server) as client:
        with pytest.raises(ZeroDivisionError), client.llm.load_new_instance_stream("qwen3-4b") as loading:
            for _ in loading:
                raise ZeroDivisionError
        assert server.has_received("cancel")


def test_dropping_a_stream_that_was_not_entered_stops_it_and_warns() -> None:
    server = QuietServer()
    with client_of(server) as client:
        with pytest.warns(ResourceWarning, match="Model load: dropped half-way"):
            next(client.llm.load_new_instance_stream("qwen3-4b"))
        assert server.wait_until_received("cancel")


def test_fragments_that_come_together_are_fetched_in_one_bridge_call() -> None:
    server = QuietServer(fragments=5000)
    with client_of(server) as client:
        llm = client.llm.list_loaded()[0]
        trips = 0
        call = llm._bridge.call

        def counting(*args: object, **named: object) -> object:
            nonlocal trips
            trips += 1
            return call(*args, **named)  # type: ignore[call-overload]

        with llm.respond_stream("hi") as answer:
            llm._bridge.call = counting  # type: ignore[method-assign,assignment]
            pieces = [next(answer) for _ in range(5000)]
            llm._bridge.call = call  # type: ignore[method-assign]
    assert len(pieces) == 5000
    assert trips < 50


def test_a_stream_yields_nothing_more_after_wait_for_result(client: lms.Client) -> None:
    stream = client.llm.model(KEY).respond_stream("hi")
    next(stream)
    stream.wait_for_result()
    assert list(stream) == []


def test_callbacks_of_a_stream_run_during_its_iteration(client: lms.Client) -> None:
    seen: list[str] = []
    stream = client.llm.model(KEY).respond_stream(
        "hi", on_prediction_fragment=lambda fragment: seen.append(fragment.content)
    )
    assert [fragment.content for fragment in stream] == seen
    assert "".join(seen) == stream.content


def test_a_stream_can_be_closed_after_its_client() -> None:
    with client_of(QuietServer()) as client:
        loading = client.llm.load_new_instance_stream("qwen3-4b").start()
    loading.close()
    loading.cancel()
    with pytest.raises(lms.LMStudioConnectionClosedError):
        loading.result()
