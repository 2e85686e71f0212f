"""Spans that the SDK makes in a test, collected in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

__all__ = ["Spans", "attributes", "collected", "texts"]


class Spans:
    """The ended spans of a program, and spans of the program itself."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.provider = TracerProvider(sampler=sampler)
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._tracer = self.provider.get_tracer("test")

    @contextmanager
    def own(self, name: str) -> Iterator[None]:
        """A span of the program."""
        with self._tracer.start_as_current_span(name):
            yield

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, beginning: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name.startswith(beginning)]

    def one(self, beginning: str) -> ReadableSpan:
        (span,) = self.named(beginning)
        return span

    def parent_of(self, span: ReadableSpan) -> str | None:
        """Return the name of the parent; None if there is none."""
        if span.parent is None:
            return None
        numbers = {each.context.span_id: each.name for each in self.all() if each.context}
        return numbers[span.parent.span_id]


def collected(monkeypatch: pytest.MonkeyPatch, sampler: Sampler = ALWAYS_ON) -> Spans:
    """Collect the spans of this process until the end of the test, as if the program had set this provider."""
    spans = Spans(sampler)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: spans.provider)
    return spans


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def texts(span: ReadableSpan) -> str:
    """Return all that a span shows."""
    return str(span.to_json())
