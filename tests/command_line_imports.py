"""A rule of the architecture: the command line is a user of the public SDK."""

from __future__ import annotations

from tests.source_tree import Tree, imports, is_ours, top_level

__all__ = ["command_line_uses_the_public_sdk", "unused_exceptions"]

COMMAND_LINE = "_cli"

#: Private modules that the command line may import besides its own -> the reason. They handle texts and are no API.
EXCEPTIONS = {
    "_printable": "a terminal shows the texts of servers and models escaped in the same way as messages and logs do",
    "_data_folder": "the command keeps its files in the same folder as the embedded server",
    "_install_command": "a command gives the same advice as an error of the package",
    "_log_setup": "LMSTUDIO_LOG turns the log on for commands that make no client, too",
}


def command_line_uses_the_public_sdk(tree: Tree) -> list[str]:
    """The command line can do only what a program of a user can do: it imports no private module but its own.

    The modules in `EXCEPTIONS` may be imported nevertheless.
    """
    return [
        f"{each}: it is private, and the command line uses the public SDK"
        for each in imports(tree)
        if top_level(each.importer) == COMMAND_LINE
        and is_ours(each.target)
        and top_level(each.target) not in (COMMAND_LINE, *EXCEPTIONS)
        and any(name.startswith("_") for name in each.target.split("."))
    ]


def unused_exceptions(tree: Tree) -> list[str]:
    """Find the exceptions that the command line does not need."""
    used = {top_level(each.target) for each in imports(tree) if top_level(each.importer) == COMMAND_LINE}
    return [f"{COMMAND_LINE} may import {name}, and does not" for name in EXCEPTIONS if name not in used]
