"""Views of a server's instances: a screen of its own in a terminal, else a table or a line of JSON for each change."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import attrs

from lmstudio_async._cli._console import Console, make_table
from lmstudio_async._cli._instance_rows import COLUMNS, as_json, rows
from lmstudio_async._printable import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from lmstudio_async import InstanceStatus

__all__ = ["Look", "View", "make_view"]


@attrs.frozen
class Look:
    """The state of a server at one moment.

    :param instances: its instances; if it does not answer, those of the last look that succeeded.
    :param lost_since: time of the first look that failed, if the last one has failed.
    :param error: why that look has failed.
    :param events: the latest events, as lines, the newest one last.
    """

    instances: Sequence[InstanceStatus[Any]] = ()
    lost_since: datetime | None = None
    error: str = ""
    events: Sequence[str] = ()


class View(Protocol):
    """A view, which ends with its block."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

    def show(self, look: Look) -> None:
        """Show the latest look, if there is something new to see."""


def make_view(console: Console, host: str, no_instances: str) -> View:
    """Return the view that fits standard output.

    :param host: address of the server.
    :param no_instances: the text in place of a table without rows.
    """
    if not console.is_json and sys.stdout.isatty():
        from rich.console import Console as RichConsole

        rich = RichConsole(highlight=False)
        if rich.is_terminal and not rich.is_dumb_terminal:
            from rich.live import Live

            return _Screen(Live(console=rich, screen=True, auto_refresh=False), host, no_instances)
    return _Changes(console, host, no_instances)


class _Screen:
    def __init__(self, live: Live, host: str, no_instances: str) -> None:
        self._live = live
        self._host = host
        self._no_instances = no_instances

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, look: Look) -> None:
        """Show a look on the whole screen."""
        from rich.console import Group
        from rich.text import Text

        count = len(look.instances)
        instances = "1 instance" if count == 1 else f"{count or 'no'} instances"
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        title = printable(f"{self._host}: {instances}, {now}. Ctrl-C leaves.")
        parts: list[Any] = [Text(title, "dim", no_wrap=True, overflow="ellipsis")]
        if look.lost_since is not None:
            parts.append(Text(printable(_lost_text(look, self._host)), "bold red"))
        parts.append(Text())
        if look.instances:
            table = make_table(COLUMNS, rows(look.instances, self._live.console.width))
            table.style = "dim" if look.lost_since is not None else "none"
            parts.append(table)
        elif look.lost_since is None:
            parts.append(Text(self._no_instances))
        if look.events:
            parts.append(Text())
            parts += [Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in look.events]
        self._live.update(self._fitted(Group(*parts)), refresh=True)

    def _fitted(self, screen: RenderableType) -> RenderableType:
        """Return what fits the height of the terminal: rich would leave the rest out without a word."""
        from rich.console import Group
        from rich.segment import Segment, Segments
        from rich.text import Text

        console = self._live.console
        lines = console.render_lines(screen, pad=False)
        if len(lines) <= console.height:
            return screen
        room = max(console.height - 1, 0)
        shown = Segments([segment for line in lines[:room] for segment in (*line, Segment.line())])
        more = Text(f"{len(lines) - room} more lines need a higher terminal.", "dim", end="", no_wrap=True)
        return Group(shown, more)


class _Changes:
    def __init__(self, console: Console, host: str, no_instances: str) -> None:
        self._console = console
        self._host = host
        self._no_instances = no_instances
        self._shown: object = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def show(self, look: Look) -> None:
        """Print a look, if something has changed besides the times and the progress."""
        essence = look.lost_since is not None, tuple(_essence(instance) for instance in look.instances)
        if essence == self._shown:
            return
        is_first = self._shown is None
        self._shown = essence
        now = datetime.now().astimezone()
        if self._console.is_json:
            self._console.json_line(
                {
                    "at": now.isoformat(),
                    "error": look.error if look.lost_since is not None else None,
                    "instances": None
                    if look.lost_since is not None
                    else [as_json(instance) for instance in look.instances],
                }
            )
            return
        if not is_first:
            self._console.line("")
        self._console.line(now.strftime("%H:%M:%S"))
        if look.lost_since is not None:
            self._console.line(_lost_text(look, self._host))
        elif look.instances:
            self._console.table(COLUMNS, rows(look.instances, self._console.width))
        else:
            self._console.line(self._no_instances)


def _essence(instance: InstanceStatus[Any]) -> object:
    """Return what is worth a new table: not the times, which change all the time, nor the progress of a prompt."""
    names = "identifier model_key instance_reference status queued ttl context_length size_bytes device"
    return tuple(getattr(instance, name) for name in names.split())


def _lost_text(look: Look, host: str) -> str:
    since = "" if look.lost_since is None else f" since {look.lost_since.strftime('%H:%M:%S')}"
    # Its first sentence, because advice is of no use while the command tries again.
    reason = look.error.partition(". ")[0].rstrip(".")
    return f"{host} does not answer{since}: {reason}. Trying again."
