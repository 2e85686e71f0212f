"""The command `lmsa ps`: the loaded instances."""

from __future__ import annotations

from typing import Annotated

import typer

from lmstudio_async._cli._console import Console
from lmstudio_async._cli._instance_rows import COLUMNS, as_json, nothing_loaded, rows
from lmstudio_async._cli._options import Json, Quiet, ServerHost, TokenFile
from lmstudio_async._cli._run import run
from lmstudio_async._cli._target import Target

__all__ = ["command"]


def command(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show the table until Ctrl-C, as 'lmsa top' does.")
    ] = False,
    host: ServerHost = None,
    token_file: TokenFile = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the loaded instances."""
    target, console = Target(host, token_file), Console(json, quiet)
    if watch:
        from lmstudio_async._cli._watch import watch_instances

        run(watch_instances, target, console, on_interrupt=None)
    else:
        run(_ps, target, console)


async def _ps(target: Target, console: Console) -> None:
    async with target.connect(console, may_embed=False, timeout=30) as client:
        instances = await client.list_instances()
    if console.is_json:
        console.json([as_json(each) for each in instances])
    elif instances:
        console.table(COLUMNS, rows(instances, console.width))
    else:
        console.note(nothing_loaded(target))
