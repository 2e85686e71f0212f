"""The command `lmsa doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from lmstudio_async._cli._console import Console
from lmstudio_async._cli._exit_codes import FAILURE
from lmstudio_async._cli._line_breaks import cell_count, fold
from lmstudio_async._cli._options import Host, Json, Models, Quiet, TokenFile
from lmstudio_async._cli._run import run
from lmstudio_async._cli._target import Target
from lmstudio_async._printable import printable

if TYPE_CHECKING:
    from lmstudio_async._cli._checks._check import Check

__all__ = ["command"]

_HEADINGS = ("STATUS", "CHECK", "FINDING")
#: Columns of a finding at least.
_NARROWEST = 10
_STATUS = {"ok": "ok", "note": "note", "problem": "TO DO"}


def command(
    host: Host = None,
    token_file: TokenFile = None,
    models: Models = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check what works on this machine, and say what to do about the rest.

    It looks for a server as the other commands do, and at the engine and the models of the embedded server, disk, memory,
    tokens and proxies. It changes nothing. Exit code 1 if something must be done; with --quiet, only that is shown.
    """
    console = Console(json, quiet)
    checks: list[Check] = []
    run(_examine, Target(host, token_file, models), console, checks)
    is_well = all(check.status != "problem" for check in checks)
    if json:
        import attrs

        console.json({"ok": is_well, "checks": [attrs.asdict(check) for check in checks]})
    else:
        shown = [check for check in checks if not quiet or check.status == "problem"]
        if shown:
            _print(shown, console.width)
    if not is_well:
        raise typer.Exit(FAILURE)


async def _examine(target: Target, _: Console, checks: list[Check]) -> None:
    from lmstudio_async._cli._checks import _environment
    from lmstudio_async._cli._checks._engine import engine_check
    from lmstudio_async._cli._checks._models import models_checks
    from lmstudio_async._cli._checks._server import server_checks

    checks += [_environment.version_check(), _environment.packages_check()]
    of_server, is_embedded = await server_checks(target)
    checks += of_server
    checks.append(await engine_check(is_needed=is_embedded))
    checks += await models_checks(target, is_needed=is_embedded)
    checks += [
        _environment.memory_check(target),
        _environment.token_check(target),
        _environment.proxy_check(),
    ]


def _print(checks: Sequence[Check], width: int | None) -> None:
    """Print the checks as a table, whose findings and remedies have line breaks for a terminal.

    No command, path or URL is broken. One that is longer than its column begins further to the left.

    :param width: columns of the terminal; None in a pipe.
    """
    from rich.console import Console as RichConsole
    from rich.text import Text

    rows = list(_rows(checks))
    sizes = [max(cell_count(row[number]) for row in (_HEADINGS, *rows)) for number in range(2)]
    start = sum(sizes) + 2 * len(sizes)
    lines = [_line(_HEADINGS, sizes)]
    for status, name, text in rows:
        first, *others = [text] if width is None else fold(text, max(width - start, _NARROWEST)).split("\n")
        if width is not None and start + cell_count(first) > width:
            others.insert(0, first)
            first = ""
        lines.append(_line((status, name, first), sizes))
        for line in others:
            indent = min(start, (width or 0) - cell_count(line))
            lines.append(" " * indent + line)
    console = RichConsole(highlight=False)
    for number, line in enumerate(lines):
        if line:
            console.print(Text(line, "bold" if number == 0 else ""), soft_wrap=True)


def _line(row: Sequence[str], sizes: Sequence[int]) -> str:
    status, name, text = row
    return f"{status:{sizes[0]}}  {name:{sizes[1]}}  {text}".rstrip()


def _rows(checks: Sequence[Check]) -> Iterator[Sequence[str]]:
    for check in checks:
        yield _STATUS[check.status], check.name, printable(check.text)
        if check.remedy is not None:
            for line in check.remedy.splitlines():
                yield "", "", f"-> {printable(line)}"
