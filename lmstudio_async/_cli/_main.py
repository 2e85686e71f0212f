"""Entry point of `lmsa`, `lmstudio-async` and `python -m lmstudio_async`."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from lmstudio_async._cli._exit_codes import FAILURE, INTERRUPTED
from lmstudio_async._cli._output import discard_output, flush_or_discard
from lmstudio_async._cli._quick_imports import hide_optional_modules
from lmstudio_async._cli._run import PROGRAM
from lmstudio_async._install_command import install_command, missing_modules

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    :param arguments: the arguments after the program's name; None takes those of the command line, of a process that does
        nothing else.
    :return: the exit code.
    """
    if arguments is None:
        hide_optional_modules()
    given = list(sys.argv[1:] if arguments is None else arguments)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Closed by the shell, as by `>&-`.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A model's answer may have characters that the terminal cannot show.
            stream.reconfigure(errors="replace")
    try:
        code = _run(given)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.filename is not None:
            raise
        # The help, the version or the result of a command that has ended: `run` explains all errors before that.
        discard_output(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            with contextlib.suppress(OSError):  # standard error may be on the same disk
                print(f"{PROGRAM}: Standard output cannot be written: {error.strerror}", file=sys.stderr)
        return FAILURE
    else:
        return code
    finally:
        # Without this, the interpreter would end with its own exit code if the disk is full.
        flush_or_discard(sys.stderr)


def _run(arguments: Sequence[str]) -> int:
    if arguments == ["--version"]:
        # Quick, and without the packages of the extra.
        from lmstudio_async._cli._version import version_line

        print(version_line())
        return 0
    if missing := missing_modules("cli"):
        from lmstudio_async._cli._progress_line import message_lines

        text = f"the commands need packages that are not installed ({', '.join(missing)}): {install_command('cli')}"
        print(message_lines(f"{PROGRAM}: {text}"), file=sys.stderr)
        return FAILURE
    from typer import Abort

    from lmstudio_async._cli._app import make_app

    app = make_app()
    try:
        # Not standalone: the app would print its messages as they are.
        code = app(list(arguments), prog_name=PROGRAM, standalone_mode=False)
    except SystemExit as end:
        code = end.code
    except Abort:
        return FAILURE
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
        return _print_usage_error(error)
    return code if isinstance(code, int) else 0 if code is None else FAILURE


def _print_usage_error(error: Any) -> int:
    """Print the message of an error of typer, whose class depends on its version; return the exit code."""
    from lmstudio_async._cli._progress_line import message_lines

    text = io.StringIO()
    error.show(file=text)
    print(message_lines(text.getvalue().rstrip("\n")), file=sys.stderr)
    return int(error.exit_code)
