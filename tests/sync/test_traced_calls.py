"""Spans of a blocking client: children of the calling thread's span."""

from __future__ import annotations

import gc
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

import lmstudio_sync as lms
from tests.spans import Spans, attributes, collected

LLAMA = "llama-3.2-1b-instruct"

pytestmark = pytest.mark.usefixtures("nothing_loaded")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    return collected(monkeypatch)


def test_each_call_is_a_span_below_the_span_of_its_caller(client: lms.Client, spans: Spans) -> None:
    with spans.own("load"):
        llm = client.llm.model(LLAMA)
    with spans.own("respond"):
        llm.respond("Hello")
    with spans.own("stream"):
        for _ in llm.respond_stream("Hello"):
            pass
    with spans.own("unload"):
        llm.unload()
    ours = [span for span in spans.all() if "server.address" in attributes(span)]
    assert [(span.name, spans.parent_of(span)) for span in ours] == [
        ("lmstudio.load", "load"),
        (f"chat {LLAMA}", "respond"),
        (f"chat {LLAMA}", "stream"),
        ("lmstudio.unload", "unload"),
    ]


def test_the_unload_at_the_end_of_a_block_is_a_span_below_that_of_the_caller(
    client: lms.Client, spans: Spans
) -> None:
    with spans.own("request"), client.llm.load_new_instance(LLAMA):
        pass
    assert spans.parent_of(spans.one("lmstudio.unload")) == "request"


def test_each_thread_has_its_own_parent(client: lms.Client, spans: Spans) -> None:
    llm = client.llm.load_new_instance(LLAMA)
    together = threading.Barrier(2)

    def respond(name: str) -> None:
        with spans.own(name):
            together.wait()
            llm.respond("Hello")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(respond, ["one", "two"]))
    llm.respond("Hello")
    assert {spans.parent_of(span) for span in spans.named("chat")} == {"one", "two", None}


def test_a_dropped_stream_ends_its_span(client: lms.Client, spans: Spans) -> None:
    llm = client.llm.load_new_instance("talker")
    stream = llm.respond_stream("Hello")
    next(iter(stream))
    assert not spans.named("chat")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del stream
        gc.collect()
    # The event loop ends the span before it runs this call.
    client.list_loaded_models()
    assert attributes(spans.one("chat"))["lmstudio.cancelled"] is True


def test_closing_the_client_ends_the_span_of_its_stream(models: object, spans: Spans) -> None:
    with lms.Client(lms.EmbeddedServer(str(models), threads=1)) as client:
        stream = client.llm.load_new_instance("talker").respond_stream("Hello")
        next(iter(stream))
        assert not spans.named("chat")
    assert attributes(spans.one("chat"))["lmstudio.cancelled"] is True
