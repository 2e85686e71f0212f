"""The command `lmsa run`: an answer of a model, or a chat with it."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import attrs
import typer

from lmstudio_async._cli._console import Console
from lmstudio_async._cli._jit_options import ContextLength, LlmKey, Ttl, jit_ttl_seconds
from lmstudio_async._cli._options import Host, Json, Models, Quiet, TokenFile
from lmstudio_async._cli._prompt import prompt_text
from lmstudio_async._cli._run import run
from lmstudio_async._cli._settings import split_settings
from lmstudio_async._cli._system_errors import system_error_text
from lmstudio_async._cli._target import Target
from lmstudio_async.errors import LMStudioRuntimeError

if TYPE_CHECKING:
    from lmstudio_async import AsyncClient, AsyncLLM, FileHandle, LlmPredictionConfigDict, PredictionResult

__all__ = ["command"]


class Reasoning(StrEnum):
    """The choices for the model's thoughts."""

    SHOW = "show"
    HIDE = "hide"


_FILE = {"exists": True, "dir_okay": False, "readable": True}


@attrs.frozen(kw_only=True)
class _Request:
    key: str
    system: str | None
    schema: dict[str, Any] | None
    images: list[Path]
    ttl: float | None
    load: dict[str, Any]
    prediction: LlmPredictionConfigDict
    shows_reasoning: bool
    shows_stats: bool


def command(
    key: LlmKey,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT",
            help="The question. A text on standard input is appended below it. Without both, a chat begins.",
            show_default=False,
        ),
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", "-s", metavar="TEXT", help="System prompt.")
    ] = None,
    json_schema: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON schema of the answer, which is printed as JSON.", **_FILE),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Image for the model, JPEG or PNG; can be repeated.", **_FILE),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Maximum number of tokens of the answer.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", "-t", metavar="T", min=0.0, help="Randomness; 0 for none."),
    ] = None,
    context: ContextLength = None,
    ttl: Ttl = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Any setting of the prediction or of the load, such as top_k_sampling=20; can be repeated.",
        ),
    ] = None,
    reasoning: Annotated[
        Reasoning | None,
        typer.Option(
            metavar="show|hide",
            help="The model's thoughts on standard error. Default: shown if that is a terminal.",
            show_default=False,
        ),
    ] = None,
    stats: Annotated[
        bool,
        typer.Option("--stats", help="Print tokens, speed, and the reason of the end on standard error."),
    ] = False,
    no_history: Annotated[
        bool,
        typer.Option(
            "--no-history", help="Keep no history of the lines that are typed in a chat (LMSA_HISTORY=0)."
        ),
    ] = False,
    host: Host = None,
    token_file: TokenFile = None,
    models: Models = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Answer a prompt, or chat with a model.

    The model is loaded if it is not. With --json, one object has the content, the reasoning, the statistics and the
    model. Ctrl-C stops the answer on the server.

    A chat needs a terminal. /help lists its commands. The lines that you type are kept in the file chat_history, which
    only you can read, in the user's data folder (on Linux ~/.local/share/lmstudio-async).
    """
    console, target = Console(json, quiet), Target(host, token_file, models)
    load, prediction = split_settings(config or [])
    if context is not None:
        load["context_length"] = context
    if max_tokens is not None:
        prediction["max_tokens"] = max_tokens
    if temperature is not None:
        prediction["temperature"] = temperature
    request = _Request(
        key=key,
        system=system,
        schema=None if json_schema is None else _schema(json_schema),
        images=image or [],
        ttl=jit_ttl_seconds(ttl, key, target),
        load=load,
        prediction=cast("LlmPredictionConfigDict", prediction),
        shows_reasoning=(sys.stderr.isatty() and not quiet)
        if reasoning is None
        else reasoning is Reasoning.SHOW,
        shows_stats=stats,
    )
    text = prompt_text(prompt or [], console)
    if text is not None:
        run(_answer, target, console, request, text)
        return
    if json or json_schema is not None or sys.stdin is None or not sys.stdout.isatty():
        raise typer.BadParameter(
            "There is no prompt, and a chat prints neither JSON nor to a pipe: give a PROMPT, or a text on standard input."
        )
    run(_chat, target, console, request, not no_history)


def _schema(file: Path) -> dict[str, Any]:
    import json

    try:
        schema = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise typer.BadParameter(system_error_text(error), param_hint="--json-schema") from None
    except ValueError as error:
        raise typer.BadParameter(
            f"{file} cannot be read as JSON: {error}", param_hint="--json-schema"
        ) from None
    if not isinstance(schema, dict):
        raise typer.BadParameter(f"{file} has no JSON object.", param_hint="--json-schema")
    return schema


async def _answer(target: Target, console: Console, request: _Request, prompt: str) -> None:
    from lmstudio_async import Chat
    from lmstudio_async._cli._answer import AnswerScreen, stats_text, stop_note

    async with target.connect(console, may_embed=True) as client:
        llm = await _load(client, target, console, request)
        chat = Chat(request.system)
        chat.add_user_message(prompt, images=await _images(client, llm, request.images))
        screen = AnswerScreen(
            streams=not console.is_json and request.schema is None,
            shows_reasoning=request.shows_reasoning,
            shows_progress=console.draws_progress,
        )
        async with llm.respond_stream(
            chat,
            response_format=request.schema,
            config=request.prediction,
            on_prompt_processing_progress=screen.on_prompt_processing_progress,
        ) as stream:
            await screen.follow(stream)
            result = await stream.wait_for_result()
        if console.is_json:
            console.json(_as_json(llm, result, has_schema=request.schema is not None))
        elif request.schema is not None:
            console.json(result.parsed)
        if note := stop_note(result.stats, llm.info.context_length):
            console.note(note)
        if request.shows_stats:
            print(stats_text(result.stats), file=sys.stderr, flush=True)


async def _chat(target: Target, console: Console, request: _Request, keeps_history: bool) -> None:
    from lmstudio_async import Chat
    from lmstudio_async._cli._chat import chat
    from lmstudio_async._cli._chat_session import ChatSession

    async with target.connect(console, may_embed=True) as client:
        llm = await _load(client, target, console, request)
        images = await _images(client, llm, request.images)
        session = ChatSession(
            client=client,
            target=target,
            console=console,
            key=request.key,
            llm=llm,
            chat=Chat(request.system),
            images=images,
            ttl=request.ttl,
            load=request.load,
            prediction=request.prediction,
            shows_reasoning=request.shows_reasoning,
            shows_stats=request.shows_stats,
        )
        await chat(session, keeps_history=keeps_history)


async def _load(client: AsyncClient, target: Target, console: Console, request: _Request) -> AsyncLLM:
    from lmstudio_async._cli._model_access import get_model

    return await get_model(
        client, client.llm, request.key, console, ttl=request.ttl, config=request.load, target=target
    )


async def _images(client: AsyncClient, llm: AsyncLLM, files: list[Path]) -> list[FileHandle]:
    if files and not llm.info.vision:
        raise LMStudioRuntimeError(
            f"{llm.info.model_key} cannot see images: run a model with vision, or leave out --image."
        )
    return [await client.prepare_image(file) for file in files]


def _as_json(llm: AsyncLLM, result: PredictionResult[Any], *, has_schema: bool) -> dict[str, Any]:
    from lmstudio_async._cli._answer import stats_as_json

    return {
        "model": llm.info.model_key,
        "identifier": llm.identifier,
        "content": result.non_reasoning_content,
        "reasoning": result.reasoning_content,
        **({"parsed": result.parsed} if has_schema else {}),
        "stats": stats_as_json(result.stats),
    }
