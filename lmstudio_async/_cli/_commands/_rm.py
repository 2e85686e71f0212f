"""The command `lmsa rm`: delete downloaded models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmstudio_async._cli._completion import keys_on_disk
from lmstudio_async._cli._console import Console
from lmstudio_async._cli._options import Host, Json, Models, Quiet, TokenFile
from lmstudio_async._cli._run import run
from lmstudio_async._cli._target import EMBEDDED, Target
from lmstudio_async._cli._units import size_text

if TYPE_CHECKING:
    from lmstudio_async import AsyncDownloadedModel, EmbeddedServer

__all__ = ["command"]

#: Seconds that a server of this machine may take to say what it has loaded.
_PATIENCE = 5


def command(
    keys: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY",
            autocompletion=keys_on_disk,
            help="Keys of models, as 'lmsa ls' lists them, or paths.",
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without a question.")] = False,
    host: Host = None,
    token_file: TokenFile = None,
    models: Models = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Delete downloaded models from the models folders of this machine.

    LM Studio's protocol has no request that deletes a model, so that --host may only be 'embedded'. A model is not
    deleted while the server that 'lmsa ps' finds on this machine, or any 'lmsa serve' on it, has it loaded.
    """
    run(_rm, Target(host, token_file, models), Console(json, quiet), keys, yes)


async def _rm(target: Target, console: Console, keys: Sequence[str], is_confirmed: bool) -> None:
    from lmstudio_async import AsyncClient, EmbeddedServer
    from lmstudio_async._cli._question import can_ask, confirm
    from lmstudio_async.errors import LMStudioRuntimeError

    _check_target(target)
    server = EmbeddedServer(target.models or None)
    async with AsyncClient(server) as client:
        downloaded = await client.system.list_downloaded_models()
        chosen = list({(model := _find(key, downloaded)).path: model for key in keys}.values())
        await _refuse_loaded(target, chosen, console)
        if not is_confirmed:
            if not can_ask():
                raise LMStudioRuntimeError("Nothing was deleted: add --yes to delete without a question.")
            lines = [
                f"  {model.model_key}  {model.path}  {size_text(model.info.size_bytes)}" for model in chosen
            ]
            if not await confirm("\n".join(["Delete:", *lines, "for good?"])):
                raise LMStudioRuntimeError("Nothing was deleted.")
        deleted: list[dict[str, Any]] = []
        try:
            for model in chosen:
                freed = await _delete(server, model.path)
                deleted.append({"model_key": model.model_key, "path": model.path, "freed_bytes": freed})
                if not console.is_json:
                    console.line(f"Deleted {model.model_key}, {size_text(freed)}.")
        finally:
            # Also those that were deleted before a failure.
            if console.is_json and deleted:
                console.json(deleted)


async def _delete(server: EmbeddedServer, path: str) -> int:
    from lmstudio_async.errors import LMStudioModelNotFoundError, LMStudioRuntimeError, LMStudioServerError

    try:
        return await server.delete_model(path)
    except LMStudioModelNotFoundError:
        raise
    except LMStudioServerError as error:
        # Only clients add the suggestion to the message.
        suggestion = error.server_error.get("suggestion")
        raise LMStudioRuntimeError(f"{error}\n{suggestion}" if suggestion else str(error)) from error


def _check_target(target: Target) -> None:
    """Refuse every server but the embedded one.

    :raises LMStudioValueError: the user means another server.
    """
    from lmstudio_async.errors import LMStudioValueError

    host = target.host if target.models else target.named_host
    if host not in (None, EMBEDDED):
        raise LMStudioValueError(
            f"LM Studio's protocol has no request that deletes a model, so nothing can be deleted at {host}. Delete the "
            "model in LM Studio's window, or from the folders of this machine: --host embedded, or --models PATH."
        )


def _find(key: str, downloaded: Sequence[AsyncDownloadedModel[Any, Any, Any]]) -> Any:
    """Return the one model that a key means.

    :raises NotFoundError: no model has this key.
    :raises LMStudioRuntimeError: it means several models.
    """
    from lmstudio_async._cli._exit_codes import NotFoundError
    from lmstudio_async._cli._missing_model import other_models
    from lmstudio_async.errors import LMStudioRuntimeError

    exact = [model for model in downloaded if key in (model.model_key, model.path)]
    found = exact or [model for model in downloaded if model.has_key(key)]
    if not found:
        others = other_models(key, [model.model_key for model in downloaded])
        raise NotFoundError(f"There is no model {key!r} in the models folders of this machine.{others}")
    if len(found) > 1:
        keys = ", ".join(model.model_key for model in found)
        raise LMStudioRuntimeError(
            f"{key!r} means several models: {keys}. Give the key of the one to delete."
        )
    return found[0]


async def _refuse_loaded(
    target: Target, chosen: Sequence[AsyncDownloadedModel[Any, Any, Any]], console: Console
) -> None:
    """Refuse to delete a model that the server has loaded which answers at the usual ports of this machine.

    The server sends paths within its folder, but not the folder: a model of the same path counts as the same.

    :raises LMStudioRuntimeError: one is loaded.
    """
    from lmstudio_async import AsyncClient
    from lmstudio_async._cli._token_file import tokens_in
    from lmstudio_async.errors import LMStudioError, LMStudioRuntimeError

    token = None if target.token_file is None else tokens_in(target.token_file)[0]
    host = await AsyncClient.find_default_local_api_host()
    if host is None:
        return
    try:
        async with AsyncClient(host, api_token=token, timeout=_PATIENCE) as client:
            loaded = {handle.info.path: handle.identifier for handle in await client.list_loaded_models()}
    except LMStudioError as error:
        console.note(f"The server at {host} does not say what it has loaded: {error}")
        return
    for model in chosen:
        if (identifier := loaded.get(model.path)) is not None:
            line = Target(host, target.token_file).line("unload", identifier)
            raise LMStudioRuntimeError(
                f"{model.model_key} is loaded as {identifier} at {host}. Unload it first: {line}"
            )
