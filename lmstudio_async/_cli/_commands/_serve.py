"""The command `lmsa serve`: the embedded server, for any LM Studio client."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmstudio_async._cli._completion import keys_on_disk
from lmstudio_async._cli._options import Json, Quiet
from lmstudio_async._cli._run import run
from lmstudio_async._cli._units import parse_ttl

if TYPE_CHECKING:
    from lmstudio_async._cli._console import Console
    from lmstudio_async.embedded import ServerLimits

__all__ = ["command"]


def command(
    models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="The models folder: publisher/repository/file.gguf; or a GGUF file; can be repeated. Default: LM Studio's "
            "own folder if there is one, else a folder for this server; and the cache of Hugging Face.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen at. Default: 127.0.0.1.")
    ] = "127.0.0.1",
    port: Annotated[
        str, typer.Option(metavar="PORT", help="The port; 0 for a free one. Default: 1234.")
    ] = "1234",
    token: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOKEN",
            help="An API token of the form that LM Studio's tokens have. Each client must have one of the given tokens; can "
            "be repeated. Other users of this machine may see it in the list of processes.",
        ),
    ] = None,
    token_file: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A file of API tokens, one per line, so that only users who may read the file can see them; can be "
            "repeated.",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="The origin of web pages that may use the server besides the pages of this machine, such as "
            "https://chat.example or app://obsidian; can be repeated.",
        ),
    ] = None,
    embedding_model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="An embedding model whose file looks like that of an LLM: a key or a path, which may contain * and ?, such "
            "as '*-encoder'; can be repeated.",
        ),
    ] = None,
    preload: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY[=ID]",
            autocompletion=keys_on_disk,
            help="Load a model before the server listens, under this identifier, and keep it loaded; can be repeated.",
        ),
    ] = None,
    jit_ttl: Annotated[
        str,
        typer.Option(
            metavar="TTL",
            help="Idle time after which a just-in-time load is unloaded: seconds, 45s, 60m, 1h30m, 2d or never. "
            "Default: 60m.",
        ),
    ] = "60m",
    no_auto_evict: Annotated[
        bool,
        typer.Option(
            "--no-auto-evict",
            help="Keep models of just-in-time loads when another model is loaded just in time.",
        ),
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="COUNT",
            help="CPU threads for each model. Default: one less than the physical cores.",
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A limit on requests and data of clients, such as connections=64: a field of ServerLimits; can be "
            "repeated.",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the embedded server for any LM Studio client.

    Ctrl-C or SIGTERM unloads all models and ends it with exit code 0. It prints its address, its models, and the skipped
    files with the reasons; with --json as one line.
    """
    port_number, seconds = _port(port), _jit_ttl(jit_ttl)
    loads = _preloads(preload or ())
    limits = _limits(limit or ())

    async def serve(console: Console) -> None:
        from lmstudio_async import EmbeddedServer
        from lmstudio_async._cli._serve import serve
        from lmstudio_async._cli._token_file import tokens_in

        tokens = [*(token or ()), *(each for file in token_file or () for each in tokens_in(file))]

        server = EmbeddedServer(
            models or None,
            api_tokens=tokens,
            allowed_origins=allow_origin or (),
            embedding_models=embedding_model or (),
            auto_evict=not no_auto_evict,
            jit_ttl=seconds,
            threads=threads,
            limits=limits,
        )
        await serve(server, host, port_number, tokens, loads, console)

    from lmstudio_async._cli._console import Console

    # An interrupt is a success here, because serving has no other end.
    run(serve, Console(json, quiet), on_interrupt=None)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise typer.BadParameter(f"{text!r} is not a port from 0 to 65535", param_hint="'--port'")
    return int(text)


def _jit_ttl(text: str) -> float | None:
    try:
        seconds = parse_ttl(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--jit-ttl'") from None
    if seconds == 0:
        raise typer.BadParameter("a TTL of 0 would unload each model at once", param_hint="'--jit-ttl'")
    return seconds


def _preloads(texts: Sequence[str]) -> Sequence[tuple[str, str | None]]:
    """Return the model key and the identifier of each preload."""
    loads = [_preload(text) for text in texts]
    named = [identifier for _, identifier in loads if identifier is not None]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise typer.BadParameter(f"two models have the identifier {twice!r}", param_hint="'--preload'")
    return loads


def _preload(text: str) -> tuple[str, str | None]:
    """Return the model key and the identifier of a preload."""
    key, mark, identifier = text.rpartition("=")
    if not mark:
        return text, None
    if not key or not identifier:
        raise typer.BadParameter(f"{text!r} is not KEY or KEY=ID", param_hint="'--preload'")
    return key, identifier


def _limits(texts: list[str] | tuple[()]) -> ServerLimits | None:
    if not texts:
        return None
    import attrs

    from lmstudio_async.embedded import ServerLimits
    from lmstudio_async.errors import LMStudioValueError

    fields = {
        field.name: int if field.type in (int, "int") else float for field in attrs.fields(ServerLimits)
    }
    given: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in fields:
            raise typer.BadParameter(
                f"there is no limit {name!r}, but: {', '.join(fields)}", param_hint="'--limit'"
            )
        try:
            given[name] = fields[name](value)
        except ValueError:
            kind = "a whole number" if fields[name] is int else "a number"
            raise typer.BadParameter(
                f"{name} is {kind} above 0, not {value!r}", param_hint="'--limit'"
            ) from None
    try:
        return ServerLimits(**given)
    except LMStudioValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--limit'") from None
