"""Conversion of the protocol's error objects to this SDK's exceptions, and back.

The client makes exceptions out of the error objects that arrive. The embedded server raises the same exceptions, made
by the functions at the end, and sends the error objects that they carry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from lmstudio_async._printable import printable, printable_lines
from lmstudio_async._protocol._departure import Departure, advice, departure_of, explanation, more_precise
from lmstudio_async.errors import (
    LMStudioAuthenticationError,
    LMStudioDomainMismatchError,
    LMStudioError,
    LMStudioIdentifierInUseError,
    LMStudioInstanceUnloadedError,
    LMStudioMissingRuntimeError,
    LMStudioModelNotFoundError,
    LMStudioPresetNotFoundError,
    LMStudioServerError,
    LMStudioUnsupportedFeatureError,
)

__all__ = [
    "authentication_refused",
    "domain_mismatch",
    "error_from_wire",
    "error_to_wire",
    "identifier_in_use",
    "instance_unloaded",
    "missing_runtime",
    "no_model_matching",
    "path_not_found",
    "repository_not_found",
    "server_error",
    "unsupported_feature",
    "unwrap_group",
]

ServerErrorT = TypeVar("ServerErrorT", bound=LMStudioServerError)

_BY_CODE: dict[str, type[LMStudioServerError]] = {
    "generic.specificModelUnloaded": LMStudioInstanceUnloadedError,
    "generic.noModelMatchingQuery": LMStudioModelNotFoundError,
    "generic.pathNotFound": LMStudioModelNotFoundError,
    "generic.identifierNotFound": LMStudioModelNotFoundError,
    "generic.domainMismatch": LMStudioDomainMismatchError,
    "generic.engineDoesNotSupportFeature": LMStudioUnsupportedFeatureError,
    "generic.missingRuntimeExtension": LMStudioMissingRuntimeError,
    "generic.presetNotFound": LMStudioPresetNotFoundError,
}

# Codes of the embedded server, which are in the error's data: published clients know only the above ones.
_NO_REPOSITORY = "repository.notFound"
_BY_DATA: dict[str, type[LMStudioServerError]] = {_NO_REPOSITORY: LMStudioModelNotFoundError}

_SAMPLE = 10
# Limits of the characters of a name that are shown, and of the names that are compared with the requested one.
_LONGEST_NAME = 200
_MOST_NAMES = 200


def error_from_wire(
    error: Any,
    label: str,
    default: type[LMStudioServerError] = LMStudioServerError,
    *,
    known: Departure | None = None,
) -> LMStudioServerError:
    """Make an exception out of an error object, or of any value in its place.

    The message has the server's texts in printable form, each of them cut short; ``server_error`` has them unchanged.

    :param error: the value that the server sent; a bare text is taken as its title.
    :param label: the failed operation, for the message: ``Model load``.
    :param default: class for errors without a known code.
    :param known: why the instance of the request is gone, as far as the client knows.
    """
    if isinstance(error, Mapping):
        wire = {key: value for key, value in error.items() if key != "stack"}
    else:
        wire = {"title": error if isinstance(error, str) and error else "Unknown error"}
    title = _text(wire.get("title")) or _text(wire.get("rootTitle")) or "Unknown error"
    display_data = wire.get("displayData")
    code = display_data.get("code") if isinstance(display_data, Mapping) else None
    kind = _BY_CODE.get(code) if isinstance(code, str) else None
    error_data = wire.get("errorData")
    if kind is None and isinstance(error_data, Mapping):
        kind = _BY_DATA.get(str(error_data.get("code")))
    if kind is None and not code and "already exists" in title:
        # The server gives no code to a load under an identifier that is in use, only this text.
        kind = LMStudioIdentifierInUseError
    exception = (kind or default)(f"{label} error: {title}", wire)
    cause = _text(wire.get("cause"))
    lines = [title, cause, _text(wire.get("suggestion"))]
    if isinstance(exception, LMStudioInstanceUnloadedError):
        told = departure_of(exception)
        departure = more_precise(told, known)
        if departure is not None and (departure is not told or not cause):
            lines[1] = explanation(departure) or cause
        lines.append(advice(departure))
    elif isinstance(exception, LMStudioModelNotFoundError):
        lines += _model_hints(exception)
    exception.args = (f"{label} error: " + "\n".join(line for line in lines if line),)
    return exception


def _model_hints(error: LMStudioModelNotFoundError) -> Iterator[str]:
    """Yield lines about the requested model, the model that may be meant, and the models that exist."""
    data = error.display_data
    query = data.get("query")
    if isinstance(query, Mapping) and query:
        # Show the query, because the title mentions it, and a caller that gave an identifier has never seen it.
        asked = islice(query.items(), _SAMPLE)
        yield "Asked for: " + ", ".join(f"{printable(str(key), 80)} {value!r:.80}" for key, value in asked)
    else:
        query = data
    if names := error.candidates:
        wanted = _text(query.get("path")) or _text(query.get("identifier"))
        near = [name for name in names[:_MOST_NAMES] if len(name) <= _LONGEST_NAME]
        meant = f"Did you mean {close[0]!r}? " if (close := _closest(wanted[:_LONGEST_NAME], near, 1)) else ""
        total = data.get("totalModels", data.get("totalLoadedModels"))
        shown = [printable(name, _LONGEST_NAME) for name in names[:_SAMPLE]]
        others = max(len(names), total if isinstance(total, int) else 0) - len(shown)
        yield f"{meant}There are: {', '.join(shown)}" + (f", and {others} more" if others > 0 else "")
    elif data.get("totalLoadedModels") == 0:
        yield "None is loaded."


def _closest(wanted: str, names: Sequence[str], count: int) -> list[str]:
    """Return the names that are spelt nearly as the wanted one, the closest first."""
    import difflib  # only errors need it

    by_folded = {name.lower(): name for name in names}
    return [by_folded[name] for name in difflib.get_close_matches(wanted.lower(), by_folded, n=count)]


def error_to_wire(error: BaseException) -> dict[str, Any]:
    """Make an error object out of an exception.

    An exception other than `LMStudioError` is an internal error of the server: the client gets its class name only.
    """
    if isinstance(error, LMStudioServerError):
        wire = dict(error.server_error)
    elif isinstance(error, LMStudioError):
        wire = {"title": str(error)}
    else:
        wire = {"title": "Internal server error", "cause": type(error).__name__}
    wire.setdefault("rootTitle", wire.get("title", "Unknown error"))
    # Without a stack, a published client reports to its user that the stack is missing.
    wire.setdefault("stack", f"Error: {wire['rootTitle']}")
    return wire


def unwrap_group(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the only exception in a group; else the innermost group that has several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _text(value: Any) -> str:
    return printable_lines(value.strip()) if isinstance(value, str) else ""


# -- errors that a server sends


def _error(
    kind: type[ServerErrorT],
    title: str,
    display_data: Mapping[str, Any] | None = None,
    suggestion: str = "",
    *,
    cause: str = "",
) -> ServerErrorT:
    wire: dict[str, Any] = {"title": title, "rootTitle": title}
    if cause:
        wire["cause"] = cause
    if suggestion:
        wire["suggestion"] = suggestion
    if display_data:
        wire["displayData"] = dict(display_data)
    return kind(title, wire)


def server_error(title: str, suggestion: str = "") -> LMStudioServerError:
    """Make an error that has no code."""
    return _error(LMStudioServerError, title, suggestion=suggestion)


def _sample(wanted: str, names: Sequence[str]) -> list[str]:
    """Return the few names that an error lists: the names closest to the wanted one come first."""
    close = _closest(wanted, names, _SAMPLE)
    return [*close, *(name for name in names if name not in close)][:_SAMPLE]


def path_not_found(path: str, available: Sequence[str], suggestion: str = "") -> LMStudioModelNotFoundError:
    """Make the error for a key or path that no downloaded model has."""
    return _error(
        LMStudioModelNotFoundError,
        f'Cannot find a model with path "{path}"',
        {
            "code": "generic.pathNotFound",
            "path": path,
            "availablePathsSample": _sample(path, available),
            "totalModels": len(available),
        },
        suggestion,
    )


def repository_not_found(title: str, suggestion: str = "") -> LMStudioModelNotFoundError:
    """Make the error for a repository of the Hub that does not exist, or has no model that the server can load."""
    error = _error(LMStudioModelNotFoundError, title, suggestion=suggestion)
    error.server_error = {**error.server_error, "errorData": {"code": _NO_REPOSITORY}}
    return error


def no_model_matching(query: Mapping[str, Any], loaded: Sequence[str]) -> LMStudioModelNotFoundError:
    """Make the error for a query that no loaded instance fits."""
    return _error(
        LMStudioModelNotFoundError,
        "No model found that fits the query.",
        {
            "code": "generic.noModelMatchingQuery",
            "query": dict(query),
            "loadedModelsSample": _sample(str(query.get("identifier", "")), loaded),
            "totalLoadedModels": len(loaded),
        },
    )


def domain_mismatch(path: str, actual: str, expected: str) -> LMStudioDomainMismatchError:
    """Make the error for a model of another kind than the requested one."""
    return _error(
        LMStudioDomainMismatchError,
        f'The model "{path}" is of type "{actual}", not "{expected}".',
        {"code": "generic.domainMismatch", "path": path, "actualDomain": actual, "expectedDomain": expected},
        f"Use the {actual} namespace for it: client.{actual}.",
    )


def identifier_in_use(identifier: str) -> LMStudioIdentifierInUseError:
    """Make the error for an identifier that is in use. It has one line and no code, as the real server's error has."""
    return _error(LMStudioIdentifierInUseError, f'A model with the identifier "{identifier}" already exists.')


def instance_unloaded(
    cause: str = "", departure: Mapping[str, Any] | None = None
) -> LMStudioInstanceUnloadedError:
    """Make the error for a reference to an instance that was unloaded. Its title is LM Studio's own.

    :param cause: why the instance is gone, as a sentence; empty if it is not known.
    :param departure: the same for programs; None if it is not known.
    """
    display_data: dict[str, Any] = {"code": "generic.specificModelUnloaded"}
    if departure is not None:
        display_data["departure"] = departure
    return _error(LMStudioInstanceUnloadedError, "Model is unloaded.", display_data, cause=cause)


def unsupported_feature(
    feature: str, engine_version: str, reason: str, suggestion: str = ""
) -> LMStudioUnsupportedFeatureError:
    """Make the error for a feature that the engine, or this server with it, does not support."""
    return _error(
        LMStudioUnsupportedFeatureError,
        f"{feature}: {reason}",
        {
            "code": "generic.engineDoesNotSupportFeature",
            "feature": feature,
            "engineName": "llama.cpp",
            "engineType": "gguf",
            "installedVersion": engine_version,
            "supportedVersion": None,
        },
        suggestion,
    )


def missing_runtime(reason: str, suggestion: str) -> LMStudioMissingRuntimeError:
    """Make the error for a server without an engine that can load models."""
    return _error(
        LMStudioMissingRuntimeError, reason, {"code": "generic.missingRuntimeExtension"}, suggestion
    )


def authentication_refused(reason: str) -> LMStudioAuthenticationError:
    """Make the error for a client that the server refused."""
    return LMStudioAuthenticationError(
        f"The server refused this client: {printable_lines(reason)}\n"
        "Give the API token that LM Studio shows under Developer > Server settings, as api_token or in LM_API_TOKEN.",
        {"title": reason, "rootTitle": reason},
    )
