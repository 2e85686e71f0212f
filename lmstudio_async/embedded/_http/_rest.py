"""LM Studio's REST calls for models (``/api/v1/models``): list, load, unload."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from lmstudio_async._wire._kv import stack, to_fields
from lmstudio_async._wire._models import LoadModelCreation
from lmstudio_async.embedded._catalog._catalog import CatalogEntry
from lmstudio_async.embedded._instances._instance import Domain, Instance
from lmstudio_async.embedded._running_server import RunningServer
from lmstudio_async.embedded._server import EmbeddedServer, state_of
from lmstudio_async.errors import (
    LMStudioDomainMismatchError,
    LMStudioError,
    LMStudioModelNotFoundError,
    LMStudioServerError,
    LMStudioUnreachableError,
)

if TYPE_CHECKING:
    from lmstudio_async.embedded._instances._registry import Instances

__all__ = ["RestError", "list_models", "load_model", "unload_model"]

Json = dict[str, Any]

#: Key of a load request -> its type, the type in words, and the key in the load config without its prefix.
_LOAD_KEYS: dict[str, tuple[type, str, str]] = {
    "context_length": (int, "a whole number", "contextLength"),
    "eval_batch_size": (int, "a whole number", "llama.evalBatchSize"),
    "num_experts": (int, "a whole number", "numExperts"),
    "flash_attention": (bool, "true or false", "llama.flashAttention"),
    "offload_kv_cache_to_gpu": (bool, "true or false", "offloadKVCacheToGpu"),
}


class RestError(Exception):
    """The error response to a request.

    :ivar status: HTTP status.
    :ivar type: LM Studio's type of the error.
    :ivar param: the invalid key, if the error is about one.
    """

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.type = kind
        self.param = param


async def list_models(server: EmbeddedServer, _: Any) -> Json:
    """Handle ``GET /api/v1/models``: list the downloaded models."""
    running = _running(server)
    entries = await anyio.to_thread.run_sync(running.catalog.scan)
    loaded: dict[str, list[Instance]] = defaultdict(list)
    for instance in running.instances.loaded():
        loaded[instance.entry.path].append(instance)
    return {"models": [_model(entry, loaded[entry.path]) for entry in entries]}


async def load_model(server: EmbeddedServer, body: Any) -> Json:
    """Handle ``POST /api/v1/models/load``: load a model."""
    running = _running(server)
    _check_keys(body, {"model", "echo_load_config", *_LOAD_KEYS})
    model = _text(body, "model")
    echo = body.get("echo_load_config", False)
    if not isinstance(echo, bool):
        raise RestError(400, "invalid_request", "echo_load_config must be true or false.", "echo_load_config")
    domain = await _domain(running.instances, model)
    values = {}
    for name, (kind, words, key) in _LOAD_KEYS.items():
        if name in body:
            if type(body[name]) is not kind:
                raise RestError(400, "invalid_request", f"{name} must be {words}.", name)
            values[f"{domain}.load.{key}"] = body[name]
    started = anyio.current_time()
    creation = LoadModelCreation(model_key=model, load_config_stack=stack(to_fields(values)))
    try:
        instance = await running.instances.load(domain, creation, lambda _: None)
    except LMStudioError as error:
        raise _rest_error(error) from error
    answer: Json = {
        "type": domain,
        "instance_id": instance.identifier,
        "load_time_seconds": round(anyio.current_time() - started, 3),
        "status": "loaded",
    }
    if echo:
        answer["load_config"] = _config(instance)
    return answer


async def unload_model(server: EmbeddedServer, body: Any) -> Json:
    """Handle ``POST /api/v1/models/unload``: unload an instance."""
    running = _running(server)
    _check_keys(body, {"instance_id"})
    identifier = _text(body, "instance_id")
    try:
        await running.instances.unload(identifier)
    except LMStudioError as error:
        raise _rest_error(error) from error
    return {"instance_id": identifier}


def _running(server: EmbeddedServer) -> RunningServer:
    try:
        return state_of(server)
    except LMStudioUnreachableError as error:
        raise RestError(503, "internal_error", str(error)) from error


def _check_keys(body: Any, known: set[str]) -> None:
    if not isinstance(body, dict):
        raise RestError(400, "invalid_request", "The body of the request must be a JSON object.")
    unknown = sorted(body.keys() - known)
    if unknown:
        names = ", ".join(name[:60] for name in unknown[:10])
        raise RestError(
            400,
            "invalid_request",
            f"Unknown keys: {names}. There are: {', '.join(sorted(known))}.",
            unknown[0][:60],
        )


def _text(body: Json, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise RestError(400, "invalid_request", f"{name} must be a text, and not empty.", name)
    return value


async def _domain(instances: Instances, model: str) -> Domain:
    try:
        await anyio.to_thread.run_sync(instances.catalog.resolve, model, "llm")
    except LMStudioDomainMismatchError:
        return "embedding"
    except LMStudioError as error:
        raise _rest_error(error) from error
    return "llm"


def _rest_error(error: LMStudioError) -> RestError:
    if isinstance(error, LMStudioModelNotFoundError):
        there_are = f". There are: {', '.join(error.candidates)}" if error.candidates else ""
        return RestError(404, "model_not_found", f"{error.title.rstrip('.')}{there_are}")
    if isinstance(error, LMStudioServerError):
        suggestion = error.server_error.get("suggestion")
        return RestError(400, "invalid_request", f"{error.title} {suggestion}" if suggestion else error.title)
    return RestError(500, "internal_error", str(error))


def _model(entry: CatalogEntry, loaded: list[Instance]) -> Json:
    quantization = entry.quantization
    model: Json = {
        "type": entry.type,
        "publisher": entry.publisher,
        "key": entry.model_key,
        "display_name": entry.display_name,
        "quantization": quantization and {"name": quantization[0], "bits_per_weight": quantization[1]},
        "size_bytes": entry.size_bytes,
        "params_string": entry.params_string,
        "loaded_instances": [{"id": each.identifier, "config": _config(each)} for each in loaded],
        "max_context_length": entry.max_context_length,
        "format": "gguf",
    }
    if entry.type == "llm":
        model |= {
            "architecture": entry.architecture,
            "capabilities": {"vision": entry.vision, "trained_for_tool_use": entry.trained_for_tool_use},
            "description": None,
        }
    return model


def _config(instance: Instance) -> Json:
    """Return the load config of an instance, with the keys of the REST calls."""
    config: Json = {"context_length": instance.context_length}
    if instance.domain == "llm":
        names = {name: key for name, (_, _, key) in _LOAD_KEYS.items()} | {"parallel": "numParallelSessions"}
        found = {name: instance.config.get(f"llm.load.{key}") for name, key in names.items()}
        config |= {name: value for name, value in found.items() if value is not None}
    return config
