"""All exceptions that this SDK raises.

::

    LMStudioError
    ├─ LMStudioValueError (ValueError)            an argument makes no sense; nothing was sent
    │  └─ LMStudioConfigError                     a config key is misspelt or has a wrong type
    ├─ LMStudioRuntimeError (RuntimeError)        a call came at the wrong moment
    ├─ LMStudioOSError (OSError)                  a local file could not be read
    ├─ LMStudioTimeoutError (TimeoutError)        no news from the server for `timeout` seconds
    ├─ LMStudioConfigMismatchError                an instance is not what `ensure_instance` asks for
    ├─ LMStudioServerError                        the server refused or failed
    │  ├─ LMStudioAuthenticationError             it does not accept this client or its token
    │  ├─ LMStudioModelNotFoundError              no such model key, identifier or match
    │  │  └─ LMStudioInstanceUnloadedError        the handle's instance is gone
    │  ├─ LMStudioIdentifierInUseError            another instance has that identifier
    │  ├─ LMStudioDomainMismatchError             an embedding model loaded as an LLM, or the reverse
    │  ├─ LMStudioUnsupportedFeatureError         the engine cannot do this
    │  ├─ LMStudioMissingRuntimeError             no engine is installed for this model
    │  ├─ LMStudioPresetNotFoundError             no such preset
    │  ├─ LMStudioPredictionError                 the model generated something unusable
    │  │  └─ LMStudioStructuredOutputError        an answer does not fit `response_format`
    │  ├─ LMStudioChannelClosedError              the server ended an operation without a result
    │  └─ LMStudioProtocolError                   one side does not understand a message
    └─ LMStudioClientError
       ├─ LMStudioCancelledError                  you cancelled or left the operation
       ├─ LMStudioBacklogError                    you left too many items of a stream unread
       ├─ LMStudioUnknownMessageWarning (UserWarning)
       └─ LMStudioWebsocketError                  the connection
          ├─ LMStudioUnreachableError             could not be made
          ├─ LMStudioConnectionClosedError        was closed by you
          └─ LMStudioConnectionBrokenError        was lost

An exception that ends a prediction has the text that had arrived before, as ``content``.

Names that the official ``lmstudio`` package has too mean the same here. Exceptions of httpx, cattrs, json and anyio
never leave the public API: they are the ``__cause__`` of one of these exceptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "LMStudioAuthenticationError",
    "LMStudioCancelledError",
    "LMStudioChannelClosedError",
    "LMStudioClientError",
    "LMStudioConfigError",
    "LMStudioConfigMismatchError",
    "LMStudioConnectionBrokenError",
    "LMStudioConnectionClosedError",
    "LMStudioDomainMismatchError",
    "LMStudioError",
    "LMStudioIdentifierInUseError",
    "LMStudioInstanceUnloadedError",
    "LMStudioMissingRuntimeError",
    "LMStudioModelNotFoundError",
    "LMStudioOSError",
    "LMStudioPredictionError",
    "LMStudioPresetNotFoundError",
    "LMStudioProtocolError",
    "LMStudioRuntimeError",
    "LMStudioServerError",
    "LMStudioStructuredOutputError",
    "LMStudioTimeoutError",
    "LMStudioUnknownMessageWarning",
    "LMStudioUnreachableError",
    "LMStudioUnsupportedFeatureError",
    "LMStudioValueError",
    "LMStudioWebsocketError",
]


class LMStudioError(Exception):
    """Base class of all exceptions that this SDK raises."""

    #: Text that had arrived of the prediction that this exception ended; empty if it ended no prediction.
    content: str

    def __init__(self, *_args: object) -> None:
        super().__init__(*_args)
        # Not a class attribute: libraries that wrap errors read from the original only the attributes that the wrapper
        # lacks.
        self.content = ""


class LMStudioValueError(LMStudioError, ValueError):
    """An argument makes no sense. Nothing was sent to the server."""


class LMStudioConfigError(LMStudioValueError):
    """A config has an unknown key, or a value that its key cannot have. Nothing was sent to the server."""


class LMStudioRuntimeError(LMStudioError, RuntimeError):
    """A call came at the wrong moment, such as ``result()`` of an operation that still runs."""


class LMStudioOSError(LMStudioError, OSError):
    """A local file could not be read."""


class LMStudioTimeoutError(LMStudioError, TimeoutError):
    """The server was silent for longer than the client's ``timeout``."""


class LMStudioConfigMismatchError(LMStudioError):
    """An instance is not what ``ensure_instance`` asks for: it has other settings, or is of another model or kind.

    The instance stays loaded.

    :param message: message for people.
    :param identifier: name of the instance.
    :param instance_reference: reference of the instance.
    :param mismatches: for each setting that differs, by its name in the load config (such as ``context_length`` or
        ``gpu.ratio``), the value that was asked for and the value that is; None for a setting that the server does not
        report. ``model_key``, ``kind`` and ``device`` name the instance's model, its kind, and its LM Link device.
    """

    def __init__(
        self,
        message: str,
        *,
        identifier: str = "",
        instance_reference: str = "",
        mismatches: Mapping[str, tuple[Any, Any]] | None = None,
    ) -> None:
        super().__init__(message)
        self.identifier = identifier
        self.instance_reference = instance_reference
        self.mismatches: Mapping[str, tuple[Any, Any]] = dict(mismatches or {})


class LMStudioServerError(LMStudioError):
    """The server refused a request, or failed while working on it.

    :param message: message for people. Texts of the server are escaped in it where they are not printable, and cut
        where they are long.
    :param server_error: the error object as the server sent it, without its stack: neither escaped nor cut.
    """

    def __init__(self, message: str, server_error: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.server_error: Mapping[str, Any] = dict(server_error or {"title": message, "rootTitle": message})

    @property
    def title(self) -> str:
        """Title of the server's error, escaped where it is not printable, and cut where it is long."""
        from lmstudio_async._printable import printable_lines

        return printable_lines(str(self.server_error.get("title") or self))

    @property
    def display_data(self) -> Mapping[str, Any]:
        """The machine-readable part of the server's error: a ``code`` and its details, or empty."""
        data = self.server_error.get("displayData")
        return data if isinstance(data, Mapping) else {}


class LMStudioAuthenticationError(LMStudioServerError):
    """The server does not accept this client: its token is wrong, or the server requires one."""


class LMStudioModelNotFoundError(LMStudioServerError):
    """No downloaded model has this key, or no loaded instance fits."""

    @property
    def candidates(self) -> Sequence[str]:
        """Some of the existing names: model keys, or identifiers of loaded instances.

        The embedded server lists names first that may have been meant.
        """
        data = self.display_data
        names = data.get("availablePathsSample") or data.get("loadedModelsSample") or ()
        return [str(name) for name in names] if isinstance(names, list | tuple) else []


class LMStudioIdentifierInUseError(LMStudioServerError):
    """Another loaded instance already has this identifier."""


class LMStudioDomainMismatchError(LMStudioServerError):
    """The model is of another kind: use ``client.llm`` for LLMs and ``client.embedding`` for embedding models."""


class LMStudioInstanceUnloadedError(LMStudioModelNotFoundError):
    """The instance of this handle was unloaded. Its identifier may belong to another instance by now.

    The message says why, if the server or this client knows, and what to do.
    """


class LMStudioUnsupportedFeatureError(LMStudioServerError):
    """The engine that runs this model does not support the request."""


class LMStudioMissingRuntimeError(LMStudioServerError):
    """No engine is installed that could run this model."""


class LMStudioPresetNotFoundError(LMStudioServerError):
    """There is no preset of this name."""


class LMStudioPredictionError(LMStudioServerError):
    """The model generated something unusable: a tool call that cannot be parsed or run, or an answer of a wrong format."""


class LMStudioStructuredOutputError(LMStudioPredictionError):
    """An answer is complete, but does not have the format that ``response_format`` requests.

    :param content: all of the answer's text.
    """

    def __init__(
        self, message: str, server_error: Mapping[str, Any] | None = None, *, content: str = ""
    ) -> None:
        super().__init__(message, server_error)
        self.content = content


class LMStudioChannelClosedError(LMStudioServerError):
    """The server ended an operation without sending its result."""


class LMStudioProtocolError(LMStudioServerError):
    """The server sent a message that this SDK cannot understand, or could not understand a message of this SDK."""


class LMStudioClientError(LMStudioError):
    """An error on the client's side of the connection."""


class LMStudioCancelledError(LMStudioClientError):
    """The operation was cancelled, or left before its end, by this program."""


class LMStudioBacklogError(LMStudioClientError):
    """The consumer left too many items of a stream unread; the operation was cancelled."""


class LMStudioUnknownMessageWarning(LMStudioClientError, UserWarning):
    """The server sent something newer than this SDK; it was ignored."""


class LMStudioWebsocketError(LMStudioClientError):
    """The connection to the server could not be made, or is gone."""


class LMStudioUnreachableError(LMStudioWebsocketError):
    """No LM Studio answers at the given address, or at any address that was tried."""


class LMStudioConnectionClosedError(LMStudioWebsocketError):
    """The client was closed by this program, and with it the connection."""


class LMStudioConnectionBrokenError(LMStudioWebsocketError):
    """The connection was lost. The next use of the client makes a new one.

    Before this is raised, an idempotent call is retried once, and the instance of a load is looked for: the message
    reports the outcome.
    """


for _name in __all__:
    # Tracebacks and pickles then show the public location of these classes instead of this module.
    globals()[_name].__module__ = "lmstudio_async"
del _name
