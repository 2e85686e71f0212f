"""The command `lmsa unload`: some instances, or all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmstudio_async._cli._completion import identifiers as complete_identifiers
from lmstudio_async._cli._console import Console
from lmstudio_async._cli._options import Json, Quiet, ServerHost, TokenFile
from lmstudio_async._cli._run import run
from lmstudio_async._cli._target import Target

if TYPE_CHECKING:
    from lmstudio_async import InstanceStatus

__all__ = ["command"]


def command(
    identifiers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID",
            autocompletion=complete_identifiers,
            help="Identifiers of instances, as 'lmsa ps' shows them.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Unload all instances.")] = False,
    host: ServerHost = None,
    token_file: TokenFile = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Unload instances."""
    if bool(identifiers) == everything:
        raise typer.BadParameter("give the identifiers of instances, or --all", param_hint="ID")
    # Without duplicates, in the user's order.
    names = None if everything else list(dict.fromkeys(identifiers or ()))
    run(_unload, Target(host, token_file), Console(json, quiet), names)


async def _unload(target: Target, console: Console, names: Sequence[str] | None) -> None:
    from lmstudio_async._cli._exit_codes import NotFoundError
    from lmstudio_async.errors import LMStudioError, LMStudioModelNotFoundError, LMStudioServerError

    unloaded: list[str] = []
    failed: dict[str, str] = {}
    async with target.connect(console, may_embed=False, timeout=60) as client:
        instances = await client.list_instances()
        loaded = [instance.identifier for instance in instances]
        for instance in _chosen(instances, names):
            name, news = instance.identifier, "Unloaded {}."
            try:
                await instance.handle().unload()
            except LMStudioModelNotFoundError:
                # Another client was faster, or its TTL has passed.
                news = "{} was gone already."
            except LMStudioServerError as error:
                # Unload the others nevertheless.
                failed[name] = str(error)
                continue
            unloaded.append(name)
            if not console.is_json:
                console.line(news.format(name))
    missing = [name for name in names or () if name not in loaded]
    if console.is_json:
        console.json({"unloaded": unloaded, "missing": missing, "failed": failed})
    elif not instances and not missing:
        console.note("Nothing is loaded.")
    # The instances that the user can choose from now.
    rest = [name for name in loaded if name not in unloaded]
    there = f"Loaded: {', '.join(rest)}." if rest else f"Nothing{' else' if unloaded else ''} is loaded."
    absent = f"There is no instance {', '.join(map(repr, missing))}. {there}" if missing else ""
    if failed:
        messages = [f"{name} was not unloaded: {message}" for name, message in failed.items()]
        raise LMStudioError("\n".join([*messages, absent]).rstrip())
    if missing:
        raise NotFoundError(absent)


def _chosen(
    instances: Sequence[InstanceStatus[Any]], names: Sequence[str] | None
) -> Sequence[InstanceStatus[Any]]:
    """Return the instances of some names, in the order of the names; all of them if there are no names."""
    if names is None:
        return instances
    return [instance for name in names for instance in instances if instance.identifier == name]
