"""The command `lmsa events`: a line for each event of an instance."""

from __future__ import annotations

from lmstudio_async._cli._console import Console
from lmstudio_async._cli._options import Json, Quiet, ServerHost, TokenFile
from lmstudio_async._cli._run import run
from lmstudio_async._cli._target import Target

__all__ = ["command"]


def command(
    host: ServerHost = None, token_file: TokenFile = None, json: Json = False, quiet: Quiet = False
) -> None:
    """Print a line for each load, unload and change of an instance, until Ctrl-C."""
    run(_events, Target(host, token_file), Console(json, quiet), on_interrupt=None)


async def _events(target: Target, console: Console) -> None:
    import sys

    import anyio

    from lmstudio_async._cli._event_lines import as_json, event_line
    from lmstudio_async._cli._output import check_reader

    async with target.connect(console, may_embed=False) as client, client.watch_instances() as events:
        console.note(f"Watching the instances of {client.api_host}. Ctrl-C ends.")
        while True:
            event = None
            # A timeout loses no event.
            with anyio.move_on_after(1):
                event = await anext(events)
            if event is None:
                check_reader(sys.stdout)
            elif console.is_json:
                console.json_line(as_json(event))
            else:
                console.line(event_line(event))
