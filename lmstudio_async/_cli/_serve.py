"""The embedded server as a command."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread

from lmstudio_async import EmbeddedServer
from lmstudio_async._cli._embedded import models_in
from lmstudio_async._cli._output import discard_output
from lmstudio_async._install_command import pull_command
from lmstudio_async._printable import printable
from lmstudio_async.embedded._requirements import check_extra
from lmstudio_async.embedded._server import places_of
from lmstudio_async.errors import LMStudioValueError

__all__ = ["serve", "tokens_in"]

NAMES_SHOWN = 12


async def serve(
    models: str | Sequence[str] | None,
    host: str,
    port: int,
    tokens: Sequence[str],
    auto_evict: bool,
    allowed_origins: Sequence[str] = (),
    embedding_models: Sequence[str] = (),
) -> None:
    """Run the server until Ctrl-C or SIGTERM; on asyncio only.

    :param models: the models folder, a GGUF file, or several of these; None for the usual folder.
    :param host: the address to listen at.
    :param port: the port; 0 for a free one.
    :param tokens: API tokens, one of which each client must have; without any, every client is accepted.
    :param auto_evict: whether a just-in-time load evicts the models of earlier just-in-time loads.
    :param allowed_origins: origins of web pages that may use the server besides the pages of this machine.
    :param embedding_models: keys or patterns of embedding models whose files look like those of an LLM.
    :raises LMStudioError: if the server cannot run with these options.
    """
    check_extra()
    from lmstudio_async.embedded._connections._origins import check_host
    from lmstudio_async.embedded._http._serve import serve as listen

    check_host(
        host,
        has_tokens=bool(tokens),
        remedy="Give one with --token sk-lm-xxxxxxxx:yyyyyyyyyyyyyyyyyyyy (8 and 20 letters or digits of your choice), "
        "or a file with one token per line with --token-file.",
    )
    server = EmbeddedServer(
        models,
        api_tokens=tokens,
        auto_evict=auto_evict,
        allowed_origins=allowed_origins,
        embedding_models=embedding_models,
    )
    places = places_of(server)
    found, skipped = await models_in(places, embedding_models)
    names = _names([model.model_key for model in found])
    command = "" if found else await anyio.to_thread.run_sync(pull_command)

    def announce(host: str, port: int) -> None:
        address = f"[{host}]" if ":" in host else host
        shown = printable(f"{names} from {places}")
        lines = [f"Serving at http://{address}:{port} with {shown}. Ctrl-C stops it."]
        if not found:
            there = "there" if models is not None else "into the models folder"
            lines.append(f"Put GGUF files {there}, as publisher/repository/file.gguf; no restart is needed.")
            if models is None:
                lines.append(f"Or download one: {command}")
        lines += [printable(f"Skipped {path}: {reason}.") for path, reason in skipped.items()]
        _say(lines)

    async with server:
        await listen(server, host, port, ready=announce)


def tokens_in(file: str) -> list[str]:
    """Return the API tokens in a file, one per line.

    :param file: its path; empty lines and lines that begin with ``#`` are ignored.
    :raises LMStudioValueError: if the file has no token, because a server without tokens would accept every client.
    :raises OSError: if the file cannot be read.
    """
    try:
        lines = [line.strip() for line in Path(file).read_text("utf-8").splitlines()]
    except UnicodeDecodeError:
        raise LMStudioValueError(f"{file} is not a text file, so it has no API tokens") from None
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise LMStudioValueError(f"There is no API token in {file}: write one on a line of its own")
    return tokens


def _say(lines: Sequence[str]) -> None:
    """Write to standard output, else to standard error, else nowhere: a full disk must not end the server."""
    text = "\n".join(lines)
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output(sys.stdout)
        with contextlib.suppress(OSError):
            print(f"Standard output cannot be written: {error.strerror}.\n{text}", file=sys.stderr)


def _names(keys: Sequence[str]) -> str:
    if not keys:
        return "no models"
    count = "1 model" if len(keys) == 1 else f"{len(keys)} models"
    more = f" and {len(keys) - NAMES_SHOWN} more" if len(keys) > NAMES_SHOWN else ""
    return f"{count} ({', '.join(keys[:NAMES_SHOWN])}{more})"
