"""The embedded server as a command."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from lmstudio_async import AsyncClient, EmbeddedServer
from lmstudio_async._cli._console import Console
from lmstudio_async._cli._download_advice import small_model_advice
from lmstudio_async._cli._embedded import places_text, scan_models
from lmstudio_async._cli._line_breaks import fold
from lmstudio_async._cli._load_display import LoadDisplay
from lmstudio_async._cli._log_notes import told_by_the_command
from lmstudio_async._cli._missing_model import missing_model_error
from lmstudio_async._cli._model_kinds import keys_of_both_kinds, with_namespace_of
from lmstudio_async._cli._output import discard_output
from lmstudio_async._cli._target import EMBEDDED, Target
from lmstudio_async._printable import printable
from lmstudio_async.embedded import serve as listen
from lmstudio_async.errors import LMStudioModelNotFoundError

if TYPE_CHECKING:
    from lmstudio_async import AsyncModelHandle
    from lmstudio_async._cli._model_kinds import AnyNamespace

__all__ = ["serve"]

NAMES_SHOWN = 12


async def serve(
    server: EmbeddedServer,
    host: str,
    port: int,
    tokens: Sequence[str],
    preloads: Sequence[tuple[str, str | None]],
    console: Console,
) -> None:
    """Run a server until Ctrl-C or SIGTERM; on asyncio only.

    :param server: the server, which does not run yet.
    :param host: the address to listen at.
    :param port: the port; 0 for a free one.
    :param tokens: its API tokens.
    :param preloads: model key and identifier of each model to load before the server listens.
    :raises LMStudioError: if the server cannot run with these options, or a model cannot be loaded.
    """
    are_given = server.hub_cache is None
    scan = await scan_models(server)
    keys = [model.model_key for model in scan.models]
    target = Target(models=server.models if are_given else None)
    advice = ""
    if not keys and server.models_folder is not None:
        advice = await anyio.to_thread.run_sync(small_model_advice, target, EMBEDDED)
    loaded: list[str] = []

    async def load_all() -> None:
        loaded.extend(await _load(server, tokens, preloads, console, target))

    def announce(host: str, port: int) -> None:
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        if console.is_json:
            facts = {
                "address": address,
                "models": keys,
                "models_paths": [str(place) for place in server.models],
                "skipped": dict(scan.skipped),
                "loaded": loaded,
            }
            _say([json.dumps(facts, ensure_ascii=False)])
            return
        shown = printable(f"{_names(keys)} from {places_text(server)}")
        lines = [f"Serving at {address} with {shown}. Ctrl-C stops it."]
        if advice:
            there = "there" if are_given else "into the models folder"
            lines.append(f"Put GGUF files {there}, as publisher/repository/file.gguf; no restart is needed.")
            lines.append(advice)
        lines += [printable(f"Skipped {path}: {reason}.") for path, reason in scan.skipped.items()]
        _say(lines)

    async with server:
        await listen(server, host, port, prepare=load_all, ready=announce)


async def _load(
    server: EmbeddedServer,
    tokens: Sequence[str],
    preloads: Sequence[tuple[str, str | None]],
    console: Console,
    target: Target,
) -> list[str]:
    """Load models, which stay loaded, and return their identifiers."""
    loaded: list[str] = []
    if not preloads:
        return loaded
    async with AsyncClient(server, tokens[0] if tokens else "") as client:
        # Before the first load, which may take minutes.
        for key, identifier in preloads:
            await _check(client, key, identifier, target)
        for key, identifier in preloads:
            display = LoadDisplay(console, key)
            model = await _load_one(client, key, identifier, display)
            loaded.append(model.identifier)
            console.note(f"Loaded {key} as {model.identifier} in {display.summary()}.")
    return loaded


async def _check(client: AsyncClient, key: str, identifier: str | None, target: Target) -> None:
    """Raise the error that a load of a model would begin with, and load nothing.

    :param target: the server as another command names it, for the advice about a model that is missing.
    """

    async def check(namespace: AnyNamespace) -> None:
        # A stream that does not start: its arguments are checked.
        namespace.load_new_instance_stream(key, identifier, ttl=None)
        await namespace.estimate_resources(key)

    with told_by_the_command("ambiguous_key"):
        try:
            await with_namespace_of(client, key, check)
        except LMStudioModelNotFoundError as error:
            raise missing_model_error(client, key, await keys_of_both_kinds(client), target) from error


async def _load_one(
    client: AsyncClient, key: str, identifier: str | None, display: LoadDisplay
) -> AsyncModelHandle[Any]:
    async def load(namespace: AnyNamespace) -> AsyncModelHandle[Any]:
        return await display.follow(namespace.load_new_instance_stream(key, identifier, ttl=None))

    return await with_namespace_of(client, key, load)


def _say(lines: Sequence[str]) -> None:
    """Write to standard output, else to standard error, else nowhere: a full disk must not end the server."""
    text = "\n".join(lines)
    try:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(text if width is None else fold(text, width), flush=True)
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
