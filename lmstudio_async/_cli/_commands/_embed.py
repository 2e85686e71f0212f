"""The command `lmsa embed`: the vectors of texts."""

from __future__ import annotations

import csv
import json as json_module
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from lmstudio_async._cli._console import Column, Console
from lmstudio_async._cli._jit_options import ContextLength, EmbeddingKey, Ttl, jit_ttl_seconds
from lmstudio_async._cli._options import Host, Json, Models, Quiet, TokenFile
from lmstudio_async._cli._prompt import piped_text
from lmstudio_async._cli._run import run
from lmstudio_async._cli._target import Target

__all__ = ["command"]


class Format(StrEnum):
    """The formats of the output."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


_COLUMNS = (Column("TEXT"), Column("DIMENSIONS", is_number=True), Column("VECTOR"))

#: Numbers of a vector, and characters of a text, that the table has.
_NUMBERS = 3
_CHARACTERS = 36


def command(
    key: EmbeddingKey,
    text: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT",
            help="The texts. Without any, each line of standard input is one.",
            show_default=False,
        ),
    ] = None,
    output_format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="json: an array of vectors, as with --json. jsonl: an object with text and embedding in each line. csv: text "
            "and numbers. Default: a table with the first numbers in a terminal, a line of all numbers for each text in a "
            "pipe.",
            show_default=False,
        ),
    ] = None,
    context: ContextLength = None,
    ttl: Ttl = None,
    host: Host = None,
    token_file: TokenFile = None,
    models: Models = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compute the embedding vectors of texts."""
    if json:
        if output_format not in (None, Format.JSON):
            raise typer.BadParameter(
                f"--json and --format {output_format} exclude each other.", param_hint="--format"
            )
        output_format = Format.JSON
    target = Target(host, token_file, models)
    seconds = jit_ttl_seconds(ttl, key, target)
    console = Console(json, quiet)
    texts = text or _lines(piped_text(console, is_needed=True) or "")
    if not texts:
        raise typer.BadParameter(
            "There is no text: give some as arguments, or one per line on standard input.", param_hint="TEXT"
        )
    config = None if context is None else {"context_length": context}
    run(_embed, target, console, key, texts, output_format, seconds, config)


def _lines(text: str) -> list[str]:
    # splitlines() would split at U+2028 too, which a line of text may have: a vector belongs to each line of the file.
    lines = text.replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


async def _embed(
    target: Target,
    console: Console,
    key: str,
    texts: Sequence[str],
    output_format: Format | None,
    ttl: float | None,
    config: dict[str, int] | None,
) -> None:
    from lmstudio_async._cli._model_access import get_model

    async with target.connect(console, may_embed=True) as client:
        model = await get_model(client, client.embedding, key, console, ttl=ttl, config=config, target=target)
        vectors = await model.embed(list(texts))
    _print(console, texts, vectors, output_format)


def _print(
    console: Console, texts: Sequence[str], vectors: Sequence[Sequence[float]], output_format: Format | None
) -> None:
    match output_format:
        case Format.JSON:
            # A vector in each line: shorter than a number in each line, and still to be read by people.
            rows = ",\n".join(json_module.dumps(list(vector)) for vector in vectors)
            print(f"[{rows}]", flush=True)
        case Format.JSONL:
            for text, vector in zip(texts, vectors, strict=True):
                print(json_module.dumps({"text": text, "embedding": list(vector)}, ensure_ascii=False))
            sys.stdout.flush()
        case Format.CSV:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerows([text, *vector] for text, vector in zip(texts, vectors, strict=True))
            sys.stdout.flush()
        case _ if sys.stdout.isatty():
            console.table(_COLUMNS, map(_row, texts, vectors))
        case _:
            for vector in vectors:
                print(*vector)
            sys.stdout.flush()


def _row(text: str, vector: Sequence[float]) -> Sequence[str]:
    shown = text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…"
    numbers = " ".join(f"{number:.4f}" for number in vector[:_NUMBERS])
    return shown, str(len(vector)), f"{numbers} …" if len(vector) > _NUMBERS else numbers
