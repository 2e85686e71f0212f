"""Everything this SDK raises.

::

    LMStudioError
    ├─ LMStudioValueError (ValueError)            an argument makes no sense; nothing was sent
    │  └─ LMStudioConfigError                     a config key is misspelt or has a wrong type
    ├─ LMStudioRuntimeError (RuntimeError)        a call came at the wrong moment
    ├─ LMStudioOSError (OSError)                  a local file could not be read
    ├─ LMStudioTimeoutError (TimeoutError)        no news from the server for `timeout` seconds
    ├─ LMStudioServerError                        the server refused or failed
    │  ├─ LMStudioAuthenticationError             it does not accept this client or its token
    │  ├─ LMStudioModelNotFoundError              no such model key, identifier or match
    │  │  └─ LMStudioInstanceUnloadedError        the handle's instance is gone
    │  ├─ LMStudioIdentifierInUseError            another instance has that identifier
    │  ├─ LMStudioDomainMismatchError             an embedding model loaded as an LLM, or the reverse
    │  ├─ LMStudioUnsupportedFeatureError         the engine cannot do this
    │  ├─ LMStudioMissingRuntimeError             no engine is installed for this model
    │  ├─ LMStudioPresetNotFoundError             no such preset
    │  ├─ LMStudioPredictionError                 an answer failed half-way
    │  │  └─ LMStudioStructuredOutputError        an answer is not of the form that was asked for
    │  ├─ LMStudioChannelClosedError              the server ended an operation without a result
    │  └─ LMStudioProtocolError                   the server said something that cannot be understood
    └─ LMStudioClientError
       ├─ LMStudioCancelledError                  you cancelled or left the operation
       ├─ LMStudioBacklogError                    you left too many items of a stream unread
       ├─ LMStudioUnknownMessageWarning (UserWarning)
       └─ LMStudioWebsocketError                  the connection
          ├─ LMStudioUnreachableError             could not be made
          ├─ LMStudioConnectionClosedError        was closed by you
          └─ LMStudioConnectionBrokenError        was lost

An answer that ends half-way is not lost: whichever of these ended it has in ``content`` what had arrived.

Names that the official ``lmstudio`` package has too mean the same here. Nothing of httpx, cattrs, json or
anyio leaves the public API: what they raise is the ``__cause__`` of one of these.
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
    """Base of everything this SDK raises."""

    #: What had arrived of the answer that this ended, whichever way it ended it; empty if it ended none.
    content: str

    def __init__(self, *_args: object) -> None:
        super().__init__(*_args)
        # Not a default of the class: libraries that wrap errors ask the original only for what the wrapper lacks.
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


class LMStudioServerError(LMStudioError):
    """The server refused a request, or failed while working on it.

    :param message: what a person should read. Texts of the server's are escaped in it where they are not printable,
        and cut where they are long.
    :param server_error: the error object as the server sent it, without its stack: neither escaped nor cut.
    """

    def __init__(self, message: str, server_error: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.server_error: Mapping[str, Any] = dict(server_error or {"title": message, "rootTitle": message})

    @property
    def title(self) -> str:
        """The server's headline, escaped where it is not printable, and cut where it is long."""
        from lmstudio_async._printable import printable_lines

        return printable_lines(str(self.server_error.get("title") or self))

    @property
    def display_data(self) -> Mapping[str, Any]:
        """The machine-readable part of the server's error: a ``code`` and what belongs to it, or empty."""
        data = self.server_error.get("displayData")
        return data if isinstance(data, Mapping) else {}


class LMStudioAuthenticationError(LMStudioServerError):
    """The server does not accept this client: its token is wrong, or the server insists on one."""


class LMStudioModelNotFoundError(LMStudioServerError):
    """No downloaded model has this key, or no loaded instance fits."""

    @property
    def candidates(self) -> Sequence[str]:
        """Some of the names that would have been found: model keys, or identifiers of loaded instances.

        The embedded server puts those first that may have been meant.
        """
        data = self.display_data
        names = data.get("availablePathsSample") or data.get("loadedModelsSample") or ()
        return [str(name) for name in names] if isinstance(names, list | tuple) else []


class LMStudioIdentifierInUseError(LMStudioServerError):
    """Another loaded instance already has this identifier."""


class LMStudioDomainMismatchError(LMStudioServerError):
    """The model is of another kind: use ``client.llm`` for LLMs and ``client.embedding`` for embedding models."""


class LMStudioInstanceUnloadedError(LMStudioModelNotFoundError):
    """The instance of this handle was unloaded. Its identifier may belong to another instance by now."""


class LMStudioUnsupportedFeatureError(LMStudioServerError):
    """The engine that runs this model cannot do what was asked."""


class LMStudioMissingRuntimeError(LMStudioServerError):
    """No engine is installed that could run this model."""


class LMStudioPresetNotFoundError(LMStudioServerError):
    """There is no preset of this name."""


class LMStudioPredictionError(LMStudioServerError):
    """An answer failed after it had begun."""


class LMStudioStructuredOutputError(LMStudioPredictionError):
    """An answer is complete, but not of the form that ``response_format`` asks for.

    :param content: all of the answer's text.
    """

    def __init__(
        self, message: str, server_error: Mapping[str, Any] | None = None, *, content: str = ""
    ) -> None:
        super().__init__(message, server_error)
        self.content = content


class LMStudioChannelClosedError(LMStudioServerError):
    """The server ended an operation without giving its result."""


class LMStudioProtocolError(LMStudioServerError):
    """The server said something that cannot be understood, or could not understand us."""


class LMStudioClientError(LMStudioError):
    """Something on this side of the connection."""


class LMStudioCancelledError(LMStudioClientError):
    """The operation was cancelled, or left before its end, by this program."""


class LMStudioBacklogError(LMStudioClientError):
    """More items of a stream came than its consumer may leave unread; the operation was cancelled."""


class LMStudioUnknownMessageWarning(LMStudioClientError, UserWarning):
    """The server sent something newer than this SDK; it was ignored."""


class LMStudioWebsocketError(LMStudioClientError):
    """The connection to the server could not be made, or is gone."""


class LMStudioUnreachableError(LMStudioWebsocketError):
    """No LM Studio answers where it was looked for."""


class LMStudioConnectionClosedError(LMStudioWebsocketError):
    """The client was closed by this program, and with it the connection."""


class LMStudioConnectionBrokenError(LMStudioWebsocketError):
    """The connection was lost. The next use of the client makes a new one.

    What does no harm twice has been tried once more by then, and a load has been looked for: the message says what came
    of it.
    """


for _name in __all__:
    # Tracebacks and pickles show where users find these, whichever module defines them.
    globals()[_name].__module__ = "lmstudio_async"
del _name
