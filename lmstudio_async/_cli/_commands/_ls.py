"""The command `lmsa ls`: the downloaded models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lmstudio_async._cli._console import Column, Console
from lmstudio_async._cli._options import Host, Json, Models, Quiet, TokenFile
from lmstudio_async._cli._run import run
from lmstudio_async._cli._target import Target
from lmstudio_async._cli._units import size_text

if TYPE_CHECKING:
    from lmstudio_async import AsyncDownloadedModel

__all__ = ["command"]

_COLUMNS = (
    Column("MODEL"),
    Column("KIND"),
    Column("PARAMETERS", is_number=True),
    Column("QUANTIZATION"),
    Column("SIZE", is_number=True),
    Column("CONTEXT", is_number=True),
    Column("LOADED"),
)


def command(
    host: Host = None,
    token_file: TokenFile = None,
    models: Models = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the downloaded models."""
    run(_ls, Target(host, token_file, models), Console(json, quiet))


async def _ls(target: Target, console: Console) -> None:
    async with target.connect(console, may_embed=True) as client:
        models = await client.system.list_downloaded_models()
        loaded = await client.list_loaded_models()
    instances: dict[str, list[str]] = {}
    for handle in loaded:
        instances.setdefault(handle.info.model_key, []).append(handle.identifier)
    rows = [(model, instances.get(model.model_key, [])) for model in models]
    if console.is_json:
        console.json([_as_json(*each) for each in rows])
    elif rows:
        console.table(_COLUMNS, (_row(*each) for each in rows))
    else:
        console.note("There are no models. lmsa pull NAME downloads one, such as: lmsa pull smollm2-135m")


def _row(model: AsyncDownloadedModel[Any, Any, Any], identifiers: Sequence[str]) -> Sequence[str]:
    info = model.info
    return (
        model.model_key,
        info.type,
        info.params_string or "",
        info.quantization.name if info.quantization is not None else "",
        size_text(info.size_bytes),
        str(info.max_context_length),
        ", ".join(identifiers),
    )


def _as_json(model: AsyncDownloadedModel[Any, Any, Any], identifiers: Sequence[str]) -> dict[str, Any]:
    info = model.info
    return {
        "model_key": model.model_key,
        "kind": info.type,
        "path": model.path,
        "params": info.params_string,
        "quantization": info.quantization.name if info.quantization is not None else None,
        "architecture": info.architecture,
        "size_bytes": info.size_bytes,
        "max_context_length": info.max_context_length,
        "loaded": list(identifiers),
    }
