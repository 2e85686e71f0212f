"""The help of a command as plain text. The names of values are those that the document has; no types, no bounds."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

__all__ = ["HelpfulCommand", "summary"]

#: Longer than any first sentence, so that none is cut.
_WHOLE = 1000


class HelpfulCommand(TyperCommand):
    """A command whose help is independent of typer's version."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage line: ``[OPTIONS] KEY [PROMPT...]``."""
        names = ((_name(each), each.required) for each in self.get_params(ctx) if _is_argument(each))
        return ["[OPTIONS]", *(name if is_required else f"[{name}]" for name, is_required in names)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options."""
        shown: list[Any] = [each for each in self.get_params(ctx) if not getattr(each, "hidden", False)]
        arguments = [(_name(each), each.help or "") for each in shown if _is_argument(each)]
        options = [(_option(each), each.help or "") for each in shown if not _is_argument(each)]
        for title, rows in (("Arguments", arguments), ("Options", options)):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def summary(command: Any) -> str:
    """Return the first sentence of a command's help."""
    return str(command.get_short_help_str(_WHOLE))


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _name(argument: Any) -> str:
    return f"{argument.metavar}{'...' if argument.nargs != 1 else ''}"


def _option(option: Any) -> str:
    # The short names first, as in other programs.
    names = ", ".join(sorted(option.opts, key=lambda name: (name.startswith("--"), option.opts.index(name))))
    return names if option.is_flag or not option.metavar else f"{names} {option.metavar}"
