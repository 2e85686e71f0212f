"""Spans of OpenTelemetry for loads, unloads and predictions.

Imported only by programs that have imported `opentelemetry.trace` themselves: the others have set up no tracing. Spans of
predictions have the names of OpenTelemetry's conventions for generative AI, and never prompts or answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, Tracer

from lmstudio_async._printable import printable
from lmstudio_async._transport import parse_api_host
from lmstudio_async._wire._kv import checked, collapse
from lmstudio_async.errors import (
    LMStudioCancelledError,
    LMStudioClientError,
    LMStudioConnectionClosedError,
    LMStudioModelNotFoundError,
    LMStudioTimeoutError,
)

if TYPE_CHECKING:
    from lmstudio_async._wire._infos import ModelInstanceInfo
    from lmstudio_async._wire._models import GetOrLoadCreation, LoadModelCreation
    from lmstudio_async._wire._predict import PredictSuccess

__all__ = [
    "EmbeddingSpan",
    "LoadSpan",
    "NamedInstance",
    "OperationSpan",
    "PredictionSpan",
    "Tracing",
    "find_tracer",
]

SpanT = TypeVar("SpanT", bound="OperationSpan")

#: A load reports one event for each of these steps of its fraction.
STEPS = 4
#: Characters of a text in a load config that a span shows, because a chat template has thousands.
LONGEST_TEXT = 200
LONGEST_MESSAGE = 1000

#: Key of the prediction config -> attribute and its type. The values of checkboxes are recorded if they are ticked.
_SETTINGS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "llm.prediction.temperature": ("gen_ai.request.temperature", float),
    "llm.prediction.topPSampling": ("gen_ai.request.top_p", float),
    "llm.prediction.topKSampling": ("gen_ai.request.top_k", int),
    "llm.prediction.maxPredictedTokens": ("gen_ai.request.max_tokens", int),
    "llm.prediction.llama.frequencyPenalty": ("gen_ai.request.frequency_penalty", float),
    "llm.prediction.llama.presencePenalty": ("gen_ai.request.presence_penalty", float),
    "llm.prediction.seed": ("gen_ai.request.seed", int),
    "llm.prediction.stopStrings": ("gen_ai.request.stop_sequences", list),
}

#: LM Studio's stop reason -> the name that other providers have for it. All others mean that the answer is not whole.
_FINISH_REASONS = {
    "eosFound": "stop",
    "stopStringFound": "stop",
    "maxPredictedTokensReached": "length",
    "contextLengthReached": "length",
    "toolCalls": "tool_calls",
}


class NamedInstance(Protocol):
    """An instance, or what is known of it."""

    @property
    def identifier(self) -> str:
        """Name of the instance."""

    @property
    def model_key(self) -> str:
        """Key of its model."""


def find_tracer() -> Tracer | None:
    """Return the tracer of this SDK; None while the program has set up no tracing."""
    global _latest  # noqa: PLW0603 - a cache, because making a tracer takes longer than making a span
    provider = trace.get_tracer_provider()
    if isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
        return None
    if _latest is None or _latest[0] is not provider:
        _latest = (provider, provider.get_tracer("lmstudio_async"))
    return _latest[1]


_latest: tuple[trace.TracerProvider, Tracer] | None = None


class OperationSpan:
    """The span of an operation, which ends with it."""

    #: Errors whose text is recorded. Of all others only the class is.
    _quotable: ClassVar[tuple[type[Exception], ...]] = (Exception,)

    def __init__(self, span: Span) -> None:
        self._span = span

    def link(self) -> Link:
        """Return a link to this span."""
        return Link(self._span.get_span_context())

    def end(self, error: BaseException | None, *, was_cancelled: bool = False) -> None:
        """End the span.

        :param error: the error that ended the operation; None for a result.
        :param was_cancelled: whether this program has given the operation up.
        """
        span = self._span
        if was_cancelled or isinstance(error, LMStudioCancelledError | LMStudioConnectionClosedError):
            self._complete("cancelled")
            span.set_attribute("lmstudio.cancelled", True)
        elif error is not None:
            self._complete("failed")
            span.set_attribute("error.type", type(error).__name__)
            text = printable(str(error), LONGEST_MESSAGE) if isinstance(error, self._quotable) else None
            span.set_status(StatusCode.ERROR, text)
        else:
            self._complete(None)
        span.end()

    def _complete(self, failure: Literal["cancelled", "failed"] | None) -> None:
        """Record the last attributes.

        :param failure: how the operation has ended without a result; None if it has a result.
        """


class LoadSpan(OperationSpan):
    """The span of a load."""

    def __init__(self, span: Span) -> None:
        super().__init__(span)
        self._steps = 0
        self._result = ""

    def as_current(self) -> AbstractContextManager[Span]:
        """Return a context in which new spans are children of this one."""
        return trace.use_span(self._span, record_exception=False, set_status_on_exception=False)

    def on_evicting(self, victim: ModelInstanceInfo) -> None:
        """Record that the server unloads another instance first."""
        names = {"lmstudio.identifier": victim.identifier, "lmstudio.model_key": victim.model_key}
        self._span.add_event("evicting", names)

    def on_fraction(self, fraction: float) -> None:
        """Record the progress of the load, in coarse steps."""
        steps = 1 + int(fraction * STEPS)
        if steps > self._steps:
            self._steps = steps
            self._span.add_event("loading", {"lmstudio.fraction": fraction})

    def on_instance(self, info: ModelInstanceInfo, *, has_loaded: bool) -> None:
        """Record the instance in which the load has ended."""
        self._result = "loaded" if has_loaded else "already_loaded"
        self._span.set_attributes(
            {
                "lmstudio.identifier": info.identifier,
                "lmstudio.model_key": info.model_key,
                "lmstudio.instance_reference": info.instance_reference,
                "lmstudio.context_length": info.context_length,
            }
        )

    def _complete(self, failure: Literal["cancelled", "failed"] | None) -> None:
        self._span.set_attribute("lmstudio.result", failure or self._result)


class _ContentSpan(OperationSpan):
    """The span of a request with a prompt or a text."""

    # The client has made these texts, or they name an instance. Other errors may quote the prompt or the answer.
    _quotable = (LMStudioClientError, LMStudioTimeoutError, LMStudioModelNotFoundError)


class PredictionSpan(_ContentSpan):
    """The span of a prediction."""

    def __init__(self, span: Span) -> None:
        super().__init__(span)
        self._began = time.perf_counter()
        self._stop_reason: str | None = None

    def on_first_chunk(self) -> None:
        """Record that the first fragment has arrived."""
        seconds = time.perf_counter() - self._began
        self._span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)

    def on_success(self, success: PredictSuccess) -> None:
        """Record the statistics of the answer."""
        stats, model = success.stats, success.model_info
        self._stop_reason = stats.stop_reason
        attributes: dict[str, Any] = {
            "lmstudio.stop_reason": stats.stop_reason,
            "gen_ai.usage.input_tokens": stats.prompt_tokens_count,
            "gen_ai.usage.output_tokens": stats.predicted_tokens_count,
            "gen_ai.response.model": model and model.model_key,
        }
        self._span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def end(self, error: BaseException | None, *, was_cancelled: bool = False) -> None:
        if self._stop_reason is not None:
            # A stop that came too late has not cancelled anything.
            was_cancelled = self._stop_reason == "userStopped"
        super().end(error, was_cancelled=was_cancelled)

    def _complete(self, failure: Literal["cancelled", "failed"] | None) -> None:
        reason = "error" if failure else _FINISH_REASONS.get(self._stop_reason or "", "error")
        self._span.set_attribute("gen_ai.response.finish_reasons", [reason])


class EmbeddingSpan(_ContentSpan):
    """The span of a computation of vectors."""

    def on_vectors(self, vectors: Sequence[Sequence[float]]) -> None:
        """Record the number of dimensions."""
        if vectors:
            self._span.set_attribute("gen_ai.embeddings.dimension.count", len(vectors[0]))


class Tracing:
    """Begins the spans of a namespace, each as a child of the caller's span.

    :param tracer: see `find_tracer`.
    :param address: address of the server.
    """

    def __init__(self, tracer: Tracer, address: str) -> None:
        self._tracer = tracer
        self._server: dict[str, Any] = {"server.address": address}
        if ":" in address:
            parsed = parse_api_host(address)
            self._server = {"server.address": parsed.host, "server.port": parsed.port}

    def load(self, kind: str, wanted: LoadModelCreation | GetOrLoadCreation) -> LoadSpan:
        """Begin the span of a load. It need not be recorded, and is then the parent of spans that are not either."""
        key = getattr(wanted, "model_key", wanted.identifier)
        ttl = getattr(wanted, "ttl_ms", None) or getattr(wanted, "load_ttl_ms", None)
        attributes = {
            "lmstudio.kind": kind,
            "lmstudio.model_key": key,
            "lmstudio.identifier": None if wanted.identifier == key else wanted.identifier,
            "lmstudio.ttl": None if ttl is None else ttl / 1000,
        }
        span = self._start("lmstudio.load", attributes)
        if span.is_recording():
            config = collapse(wanted.load_config_stack)
            span.set_attribute("lmstudio.config", json.dumps(_shortened(config), ensure_ascii=False))
        return LoadSpan(span)

    @contextmanager
    def wait(self, load: LoadSpan) -> Iterator[None]:
        """Record the block as a wait for a load that another caller has begun."""
        span = self._begin("lmstudio.load.wait", {}, [load.link()])
        with _ending(None if span is None else OperationSpan(span)):
            yield

    @contextmanager
    def unload(self, kind: str, identifier: str, model_key: str | None = None) -> Iterator[None]:
        """Record the block as an unload."""
        attributes = {
            "lmstudio.kind": kind,
            "lmstudio.identifier": identifier,
            "lmstudio.model_key": model_key,
        }
        span = self._begin("lmstudio.unload", attributes)
        with _ending(None if span is None else OperationSpan(span)):
            yield

    def prediction(self, operation: str, instance: NamedInstance, config_stack: Any) -> PredictionSpan | None:
        """Begin the span of a prediction; None if it would not be recorded.

        :param operation: ``chat`` or ``text_completion``.
        :param instance: the instance that predicts.
        :param config_stack: the prediction config of the request.
        """
        span = self._begin_generative(operation, instance)
        if span is None:
            return None
        span.set_attribute("gen_ai.request.stream", True)
        config = collapse(config_stack)
        for key, (attribute, convert) in _SETTINGS.items():
            value = config.get(key)
            value = checked(value) if isinstance(value, Mapping) else value
            if value is not None:
                span.set_attribute(attribute, convert(value))
        structured = config.get("llm.prediction.structured")
        if isinstance(structured, Mapping) and structured.get("type") == "json":
            span.set_attribute("gen_ai.output.type", "json")
        return PredictionSpan(span)

    @contextmanager
    def embedding(self, instance: NamedInstance) -> Iterator[EmbeddingSpan | None]:
        """Record the block as the computation of vectors."""
        span = self._begin_generative("embeddings", instance)
        with _ending(None if span is None else EmbeddingSpan(span)) as recorded:
            yield recorded

    def _begin_generative(self, operation: str, instance: NamedInstance) -> Span | None:
        model = instance.model_key or instance.identifier
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "lmstudio",
            "gen_ai.request.model": model,
            "lmstudio.identifier": instance.identifier,
        }
        return self._begin(f"{operation} {model}", attributes)

    def _begin(
        self, name: str, attributes: Mapping[str, Any], links: list[Link] | None = None
    ) -> Span | None:
        span = self._start(name, attributes, links)
        return span if span.is_recording() else None

    def _start(self, name: str, attributes: Mapping[str, Any], links: list[Link] | None = None) -> Span:
        given = {key: value for key, value in attributes.items() if value is not None}
        return self._tracer.start_span(
            name, kind=SpanKind.CLIENT, attributes=given | self._server, links=links
        )


@contextmanager
def _ending(span: SpanT | None) -> Iterator[SpanT | None]:
    """End a span with the block."""
    try:
        yield span
    except BaseException as error:
        if span is not None:
            # Cancellations of asyncio and trio are no exceptions in this sense.
            span.end(error, was_cancelled=not isinstance(error, Exception))
        raise
    if span is not None:
        span.end(None)


def _shortened(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(item) for item in value]
    return printable(value, LONGEST_TEXT) if isinstance(value, str) else value
