"""The scripts of typer by which shells complete the command, with one correction."""

from __future__ import annotations

from contextlib import suppress

__all__ = ["correct_zsh_script"]

_REGISTRATION = "compdef %(complete_func)s %(prog_name)s"

#: zsh loads the script when it completes for the first time, and the registration counts from the next time on.
_CORRECTED = f"""\
if [[ "$funcstack[1]" == "_%(prog_name)s" ]]; then
  %(complete_func)s "$@"
else
  {_REGISTRATION}
fi"""


def correct_zsh_script() -> None:
    """Let the script for zsh answer the first Tab of a shell too, where typer's only registers a function.

    Without effect if another version of typer has its scripts elsewhere.
    """
    with suppress(ImportError, AttributeError, KeyError):
        from typer import _completion_shared as shared

        script = shared._completion_scripts["zsh"]
        if _CORRECTED not in script:
            shared._completion_scripts["zsh"] = script.replace(_REGISTRATION, _CORRECTED)
