"""The command `lmsa estimate`: the memory that a load would take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lmstudio_async._cli._console import Console
from lmstudio_async._cli._load_options import Config, Context, Device, Gpu, Key, load_config
from lmstudio_async._cli._options import Host, Json, Models, Quiet, TokenFile
from lmstudio_async._cli._run import run
from lmstudio_async._cli._target import Target
from lmstudio_async._cli._units import size_text

if TYPE_CHECKING:
    from lmstudio_async import ModelUsage
    from lmstudio_async._cli._model_kinds import AnyNamespace

__all__ = ["command", "estimate_lines"]


def command(
    key: Key,
    context: Context = None,
    gpu: Gpu = None,
    config: Config = None,
    device: Device = None,
    host: Host = None,
    token_file: TokenFile = None,
    models: Models = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Estimate the memory that a model would take, without loading it."""
    target = Target(host, token_file, models)
    run(_estimate, target, Console(json, quiet), key, load_config(context, gpu, config), device)


async def _estimate(
    target: Target, console: Console, key: str, config: dict[str, Any] | None, device: str | None
) -> None:
    from lmstudio_async._cli._missing_model import missing_model_error
    from lmstudio_async._cli._model_kinds import keys_of_both_kinds, with_namespace_of
    from lmstudio_async.errors import LMStudioModelNotFoundError

    async def estimate(namespace: AnyNamespace) -> ModelUsage:
        return await namespace.estimate_resources(key, config, device=device)

    async with target.connect(console, may_embed=True, timeout=60) as client:
        try:
            usage = await with_namespace_of(client, key, estimate)
        except LMStudioModelNotFoundError as error:
            # The user asks before a load, or a download: none is offered.
            raise missing_model_error(client, key, await keys_of_both_kinds(client), target) from error
    if console.is_json:
        console.json(_as_json(key, usage))
        return
    for line in estimate_lines(usage):
        console.line(line)


def estimate_lines(usage: ModelUsage) -> Sequence[str]:
    """Return an estimate as the lines that the command prints."""
    memory = usage.memory
    parts = f"weights {size_text(memory.model_bytes)}, context {size_text(memory.context_bytes)}"
    on_gpus = "nothing"
    if memory.total_vram_bytes:
        on_gpus = (
            f"{size_text(memory.total_vram_bytes)} (weights {size_text(memory.model_vram_bytes)}, "
            f"context {size_text(memory.context_vram_bytes)})"
        )
    verdict = "would load it" if usage.passes_guardrails else "would refuse to load it"
    return (
        f"Memory      {size_text(memory.total_bytes)} ({parts})",
        f"On GPUs     {on_gpus}",
        f"Confidence  {memory.confidence}",
        f"Guardrails  the server {verdict}",
    )


def _as_json(key: str, usage: ModelUsage) -> dict[str, Any]:
    names = "total_bytes model_bytes context_bytes total_vram_bytes model_vram_bytes context_vram_bytes confidence"
    memory = {name: getattr(usage.memory, name) for name in names.split()}
    return {"model_key": key, **memory, "passes_guardrails": usage.passes_guardrails}
