"""Wire types of the server's log."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lmstudio_async._wire._predict import LlmPredictionStats
from lmstudio_async._wire._struct import Unknown, WireObject

__all__ = [
    "LogData",
    "LogEvent",
    "LogPacket",
    "PredictionInputLog",
    "PredictionOutputLog",
    "RuntimeLog",
    "ServerLog",
    "StopLogs",
    "StreamLogsPacket",
]


@attrs.frozen(kw_only=True)
class PredictionInputLog(WireObject):
    """Input of a language model, as text.

    :param input: the text, with the chat template applied.
    :param model_path: path of the model.
    :param model_identifier: identifier of the instance.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "llm.prediction.input"

    input: str = ""
    model_path: str = ""
    model_identifier: str = ""


@attrs.frozen(kw_only=True)
class PredictionOutputLog(WireObject):
    """Output of a language model, as text.

    :param output: the text.
    :param stats: statistics of the prediction.
    :param model_identifier: identifier of the instance.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "llm.prediction.output"

    output: str = ""
    stats: LlmPredictionStats | None = None
    model_identifier: str = ""


@attrs.frozen(kw_only=True)
class ServerLog(WireObject):
    """A log message of the server itself.

    :param content: the text.
    :param level: ``debug``, ``info``, ``warn`` or ``error``.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "server.log"

    content: str = ""
    level: str = "info"


@attrs.frozen(kw_only=True)
class RuntimeLog(WireObject):
    """A log message of an engine.

    :param level: ``debug``, ``info``, ``warn`` or ``error``.
    :param message: the text.
    :param engine_name: name of the engine.
    :param engine_version: version of the engine.
    :param engine_type: for example ``gguf``.
    :param model_identifier: identifier of the instance that the message is about, if it is about one.
    :param instance_reference: reference of the same instance.
    :param pid: process id of the engine.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "runtime.log"

    level: str = "info"
    message: str = ""
    engine_name: str = ""
    engine_version: str = ""
    engine_type: str = ""
    model_identifier: str | None = None
    instance_reference: str | None = None
    pid: int | None = None


LogData = PredictionInputLog | PredictionOutputLog | ServerLog | RuntimeLog | Unknown


@attrs.frozen(kw_only=True)
class LogEvent(WireObject):
    """An entry of the log.

    :param timestamp: time of the entry, in milliseconds since 1970.
    :param data: content of the entry.
    :param extra: members that the server sent and this SDK does not know.
    """

    timestamp: float = 0
    data: LogData


@attrs.frozen(kw_only=True)
class LogPacket(WireObject):
    TAG: ClassVar[str] = "log"
    log: LogEvent


StreamLogsPacket = LogPacket | Unknown


@attrs.frozen(kw_only=True)
class StopLogs(WireObject):
    TAG: ClassVar[str] = "stop"
