"""The command `lmsa ls`: the downloaded models."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmstudio_async._cli._console import Column, Console, is_narrow
from lmstudio_async._cli._options import Host, Json, Models, Quiet, TokenFile
from lmstudio_async._cli._run import run
from lmstudio_async._cli._target import EMBEDDED, Target
from lmstudio_async._cli._units import size_text

if TYPE_CHECKING:
    from lmstudio_async import AsyncDownloadedModel

__all__ = ["command", "row"]

_COLUMNS = (
    Column("MODEL"),
    Column("KIND", is_short=True),
    Column("PARAMS", is_number=True),
    Column("QUANT", is_short=True),
    Column("SIZE", is_number=True),
    Column("CONTEXT", is_number=True),
    Column("VARIANTS"),
    Column("LOADED AS"),
)


def command(
    llm: Annotated[bool, typer.Option("--llm", help="List language models only.")] = False,
    embedding: Annotated[bool, typer.Option("--embedding", help="List embedding models only.")] = False,
    host: Host = None,
    token_file: TokenFile = None,
    models: Models = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the downloaded models."""
    kinds = {kind for kind, wanted in (("llm", llm), ("embedding", embedding)) if wanted}
    run(_ls, Target(host, token_file, models), Console(json, quiet), kinds or {"llm", "embedding"})


async def _ls(target: Target, console: Console, kinds: Collection[str]) -> None:
    async with target.connect(console, may_embed=True) as client:
        downloaded = await client.system.list_downloaded_models()
        models = [model for model in downloaded if model.type in kinds]
        loaded = await client.list_loaded_models()
        skipped = await _skipped(target) if client.api_host == EMBEDDED else {}
    instances: dict[str, list[str]] = {}
    for handle in loaded:
        instances.setdefault(handle.info.model_key, []).append(handle.identifier)
    rows = [(model, instances.get(model.model_key, [])) for model in models]
    if console.is_json:
        console.json([_as_json(*each) for each in rows])
    elif rows:
        console.table(_COLUMNS, (row(*each, console.width) for each in rows))
    else:
        from lmstudio_async._cli._download_advice import small_model_advice

        kind = {"llm": "language ", "embedding": "embedding "}["".join(kinds)] if len(kinds) == 1 else ""
        advice = small_model_advice(target, client.api_host, "llm" if "llm" in kinds else "embedding")
        console.note(f"There are no {kind}models. {advice}")
    if skipped:
        from lmstudio_async._install_command import shell_line

        path, reason = next(iter(skipped.items()))
        files = "1 file was" if len(skipped) == 1 else f"{len(skipped)} files were"
        all_of_them = shell_line(["lmsa", "doctor", *target.options])
        console.note(f"{files} skipped, such as {path}: {reason}. To list all of them: {all_of_them}")


async def _skipped(target: Target) -> Mapping[str, str]:
    """Return the files that the embedded server does not take for models, and the reasons."""
    from lmstudio_async import EmbeddedServer
    from lmstudio_async._cli._embedded import scan_models

    return (await scan_models(EmbeddedServer(target.models or None))).skipped


def row(
    model: AsyncDownloadedModel[Any, Any, Any], identifiers: Sequence[str], width: int | None
) -> Sequence[str]:
    """Return the cells of a model.

    :param identifiers: the instances of it that are loaded.
    :param width: columns of the terminal; None in a pipe. In a narrow terminal, an identifier that is the model key is not
        written twice, because both would take several lines.
    """
    info = model.info
    if is_narrow(width):
        identifiers = ["same name" if name == model.model_key else name for name in identifiers]
    return (
        model.model_key,
        info.type,
        info.params_string or "",
        info.quantization.name if info.quantization is not None else "",
        size_text(info.size_bytes),
        str(info.max_context_length),
        ", ".join(variant.rpartition("@")[2] for variant in info.variants or ()),
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
        "variants": list(info.variants or ()),
        "selected_variant": info.selected_variant,
        "vision": getattr(info, "vision", None),
        "trained_for_tool_use": getattr(info, "trained_for_tool_use", None),
        "loaded": list(identifiers),
    }
