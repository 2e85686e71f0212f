"""The command `lmsa` as a typer application. The module of a command is imported when the command is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from lmstudio_async._cli._completion_scripts import correct_zsh_script
from lmstudio_async._cli._help import HelpfulCommand, summary
from lmstudio_async._cli._plain_values import pass_plain_values

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMMANDS", "make_app"]

#: The commands, in the order of the help. ``_commands/_NAME.py`` has the function ``command``, whose docstring is the help.
COMMANDS = (
    "ls",
    "ps",
    "top",
    "load",
    "unload",
    "estimate",
    "events",
    "pull",
    "rm",
    "run",
    "embed",
    "serve",
    "demo",
    "doctor",
)


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer passes it
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer passes it
        if cmd_name not in COMMANDS:
            return None
        command: Callable[..., None] = import_module(f"{__package__}._commands._{cmd_name}").command
        app = _typer()
        app.command(cmd_name, cls=HelpfulCommand)(command)
        made = typer.main.get_command(app)
        pass_plain_values(made, command)
        return made

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = [(name, summary(self.get_command(ctx, name))) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def make_app() -> Any:
    """Return the application, which is called with the arguments and the name of the program."""
    correct_zsh_script()
    app = _typer(cls=_Commands, add_completion=True, no_args_is_help=True)
    app.callback(
        help="Load, watch and use language models on LM Studio, or on the embedded server.",
        epilog="Exit codes: 0 success, 1 failure, 2 wrong arguments, 3 no server, 4 no such model or instance, "
        "130 interrupted.",
    )(_root)
    group: Any = typer.main.get_command(app)
    pass_plain_values(group, _root)
    # Only its keys are used: for the suggestion of a similar name.
    group.commands = dict.fromkeys(COMMANDS)
    return group


def _typer(**options: Any) -> typer.Typer:
    options.setdefault("add_completion", False)
    return typer.Typer(
        context_settings={"help_option_names": ["-h", "--help"]},
        # Errors that a user can cause are explained without a traceback; a bug shows Python's own.
        pretty_exceptions_enable=False,
        # Plain text: to draw the help in boxes, typer would import rich, which takes longer than the rest of `--help`.
        rich_markup_mode=None,
        **options,
    )


def _print_version(wanted: bool) -> None:
    if wanted:
        from lmstudio_async._cli._version import version_line

        typer.echo(version_line())
        raise typer.Exit


def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Do nothing: the help is given where the application is made."""
