"""The command `lmsa top`: the loaded instances, as they change."""

from __future__ import annotations

from lmstudio_async._cli._console import Console
from lmstudio_async._cli._options import Json, Quiet, ServerHost, TokenFile
from lmstudio_async._cli._run import run
from lmstudio_async._cli._target import Target

__all__ = ["command"]


def command(
    host: ServerHost = None, token_file: TokenFile = None, json: Json = False, quiet: Quiet = False
) -> None:
    """Show the loaded instances as they change, until Ctrl-C. In a pipe: a table for each change."""
    from lmstudio_async._cli._watch import watch_instances

    run(watch_instances, Target(host, token_file), Console(json, quiet), on_interrupt=None)
