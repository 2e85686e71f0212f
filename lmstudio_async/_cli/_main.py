"""Reads the command line, runs the command, and turns its end into an exit code and at most one message."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import anyio

from lmstudio_async._cli._interrupts import INTERRUPTED, patient_interrupts
from lmstudio_async._cli._output import discard_output, flush_or_discard
from lmstudio_async._log_setup import set_up_log
from lmstudio_async._printable import printable_lines
from lmstudio_async.errors import LMStudioError

__all__ = ["main"]

PROGRAM = "python -m lmstudio_async"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    :param arguments: the arguments after the program's name; None takes those of the command line.
    :return: the exit code: 0 for success, 1 for a failure that was explained, 130 after Ctrl-C in the demo.
    """
    given = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A model's answer may have characters that the terminal cannot show.
            stream.reconfigure(errors="replace")
    set_up_log()
    try:
        return _run(given)
    except LMStudioError as error:
        print(f"{PROGRAM}: {printable_lines(str(error), 20_000)}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of the output has closed it, as `head` does, so that no message can be printed.
        discard_output(sys.stdout)
        return 1
    except OSError as error:
        print(f"{PROGRAM}: {printable_lines(str(error), 20_000)}", file=sys.stderr)
        return 1
    finally:
        # Without this, the interpreter would end with its own exit code if the disk is full.
        flush_or_discard(sys.stderr)


def _run(given: argparse.Namespace) -> int:
    try:
        anyio.run(_serve if given.command == "serve" else _demo, given)
    except KeyboardInterrupt:
        if given.command == "serve":
            # An interrupt is a success here, because serving has no other end.
            return 0
        print("\nInterrupted. Nothing that the demo loaded is left.", file=sys.stderr)
        return INTERRUPTED
    return 0


async def _serve(given: argparse.Namespace) -> None:
    from lmstudio_async._cli._serve import serve, tokens_in

    with patient_interrupts():
        tokens = [*given.token, *(token for file in given.token_file for token in tokens_in(file))]
        await serve(
            given.models,
            given.host,
            given.port,
            tokens,
            not given.no_auto_evict,
            given.allow_origin,
            given.embedding_model,
        )


async def _demo(given: argparse.Namespace) -> None:
    from lmstudio_async._cli._stage import play

    with patient_interrupts():
        await play(given.host, given.models, given.model)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="The async SDK for LM Studio, and a server of the same protocol that loads GGUF models.",
    )
    parser.add_argument("--version", action="version", version=f"lmstudio-async {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="load a model twice, watch it, ask it something, unload it",
        description="Load a model twice, list both instances, stream an answer, and watch them being unloaded. "
        "It uses LM Studio if that answers, and the embedded server otherwise.",
        epilog="Exit codes: 0, success; 1, an error, which a message explains; 130, interrupted.",
    )
    demo.add_argument(
        "--host",
        metavar="HOST",
        help="address of LM Studio: host:port or a URL, or 'embedded' for the embedded server; "
        "default: LMSTUDIO_HOST, then the ports of this machine",
    )
    demo.add_argument("--model", metavar="KEY", help="the model to load; default: the smallest LLM")
    demo.add_argument(
        "--models", metavar="PATH", help="use the embedded server, with this models folder or GGUF file"
    )

    serve = commands.add_parser(
        "serve",
        help="run the embedded server for any LM Studio client",
        description="Run the embedded server for any LM Studio client, until Ctrl-C or SIGTERM, which unload all "
        "models and end with exit code 0.",
    )
    serve.add_argument(
        "--models",
        action="append",
        metavar="PATH",
        help="the models folder: publisher/repository/file.gguf; or a GGUF file; can be repeated; "
        "default: LM Studio's own folder",
    )
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default: %(default)s")
    serve.add_argument(
        "--port", type=_port, default=1234, metavar="PORT", help="default: %(default)s; 0 for a free one"
    )
    serve.add_argument(
        "--token",
        action="append",
        default=[],
        metavar="TOKEN",
        help="an API token (sk-lm-xxxxxxxx:yyyyyyyyyyyyyyyyyyyy); each client must have one of the given tokens; "
        "can be repeated; other users of this machine may see it in the list of processes",
    )
    serve.add_argument(
        "--token-file",
        action="append",
        default=[],
        metavar="FILE",
        help="a file of API tokens, one per line, so that only users who may read the file can see them; "
        "can be repeated",
    )
    serve.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="the origin of web pages that may use the server besides the pages of this machine, such as "
        "https://chat.example or app://obsidian; can be repeated",
    )
    serve.add_argument(
        "--embedding-model",
        action="append",
        default=[],
        metavar="PATTERN",
        help="an embedding model whose file looks like that of an LLM: a key or a path, which may contain * and ?, "
        "such as '*-encoder'; can be repeated",
    )
    serve.add_argument(
        "--no-auto-evict",
        action="store_true",
        help="keep models of just-in-time loads when another model is loaded just in time",
    )
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _version() -> str:
    try:
        return version("lmstudio-async")
    except PackageNotFoundError:
        return "(a source tree that is not installed)"
