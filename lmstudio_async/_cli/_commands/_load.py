"""The command `lmsa load`: a new instance, or the one of a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from lmstudio_async._cli._completion import identifiers
from lmstudio_async._cli._console import Console
from lmstudio_async._cli._jit_options import ttl_seconds
from lmstudio_async._cli._load_options import Config, Context, Device, Gpu, Key, load_config
from lmstudio_async._cli._options import Json, Quiet, ServerHost, TokenFile
from lmstudio_async._cli._run import run
from lmstudio_async._cli._target import Target
from lmstudio_async._cli._units import duration_text

if TYPE_CHECKING:
    from lmstudio_async import AsyncEnsureStream, AsyncLoadStream, LMStudioConfigMismatchError
    from lmstudio_async._cli._model_kinds import AnyNamespace

__all__ = ["command"]


@attrs.frozen
class _Request:
    key: str
    identifier: str | None
    ttl: float | None
    config: dict[str, Any] | None
    device: str | None
    is_ensured: bool

    @property
    def name_after_download(self) -> str | None:
        """The name of the instance, if the model is downloaded under another key than the user has given."""
        # --ensure finds the instance by the key that the user gives, also the next time.
        return self.identifier or (self.key if self.is_ensured else None)

    def stream(self, namespace: AnyNamespace) -> AsyncLoadStream[Any] | AsyncEnsureStream[Any]:
        if self.is_ensured:
            return namespace.ensure_instance_stream(
                self.key, self.identifier, config=self.config, ttl=self.ttl, device=self.device
            )
        return namespace.load_new_instance_stream(
            self.key, self.identifier, ttl=self.ttl, config=self.config, device=self.device
        )


def command(
    key: Key,
    identifier: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="ID",
            autocompletion=identifiers,
            help="Name of the instance. Default: the model key, with a number if it is taken.",
        ),
    ] = None,
    ttl: Annotated[
        float | None,
        typer.Option(
            parser=ttl_seconds,
            metavar="TIME",
            help="Unload the instance after this idle time: 90 (seconds), 45s, 60m, 1h30m, 2d or never. Default: never.",
        ),
    ] = None,
    ensure: Annotated[
        bool,
        typer.Option(
            "--ensure",
            help="Load nothing if the instance is there already with these settings; wait if others load it.",
        ),
    ] = False,
    context: Context = None,
    gpu: Gpu = None,
    config: Config = None,
    device: Device = None,
    host: ServerHost = None,
    token_file: TokenFile = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Load a model, and print the identifier of the new instance. Ctrl-C cancels the load."""
    request = _Request(key, identifier, ttl, load_config(context, gpu, config), device, ensure)
    run(
        _load,
        Target(host, token_file),
        Console(json, quiet),
        request,
        on_interrupt="Interrupted. The load is cancelled.",
    )


async def _load(target: Target, console: Console, request: _Request) -> None:
    from lmstudio_async._cli._missing_model import download_if_wanted
    from lmstudio_async._cli._model_kinds import keys_of_both_kinds, with_namespace_of
    from lmstudio_async.errors import LMStudioModelNotFoundError

    async def load(namespace: AnyNamespace) -> None:
        await _load_in(namespace, target, console, request)

    async with target.connect(console, may_embed=False) as client:
        try:
            await with_namespace_of(client, request.key, load)
        except LMStudioModelNotFoundError as error:
            candidates = await keys_of_both_kinds(client)
            key = await download_if_wanted(client, request.key, error, console, target, candidates=candidates)
            request = attrs.evolve(request, key=key, identifier=request.name_after_download)
            await with_namespace_of(client, key, load)


async def _load_in(namespace: AnyNamespace, target: Target, console: Console, request: _Request) -> None:
    from lmstudio_async._cli._load_display import LoadDisplay, tell_if_gpu_is_missing
    from lmstudio_async.errors import (
        LMStudioConfigMismatchError,
        LMStudioError,
        LMStudioIdentifierInUseError,
    )

    display = LoadDisplay(console, request.key)
    try:
        handle = await display.follow(request.stream(namespace))
    except LMStudioConfigMismatchError as error:
        raise LMStudioError(_mismatch_text(error, target, is_new=display.has_loaded)) from error
    except LMStudioIdentifierInUseError as error:
        if request.identifier is None:
            raise
        raise LMStudioError(
            f"{error}\nChoose another name with --as, add --ensure to use that instance if it fits, or unload it first: "
            f"{target.line('unload', request.identifier)}"
        ) from error
    info = handle.info
    if display.has_loaded:
        ttl = f" It is unloaded when idle for {duration_text(info.ttl)}." if info.ttl is not None else ""
        console.note(f"Loaded {info.model_key} in {display.summary()}.{ttl}")
    else:
        console.note(f"{info.identifier} was loaded already.")
    await tell_if_gpu_is_missing(handle, request.config, console)
    if console.is_json:
        console.json(_as_json(info))
    else:
        console.line(info.identifier)


def _mismatch_text(error: LMStudioConfigMismatchError, target: Target, *, is_new: bool) -> str:
    """Return the message about an instance that has other settings. Its advice names options, not parameters."""
    facts = str(error).partition("\n")[0]
    unload = target.line("unload", error.identifier)
    if is_new:
        return f"{facts}\nThe instance stays loaded. Leave these settings out, or unload it: {unload}"
    leave_out = "" if error.mismatches.keys() & {"model_key", "kind"} else "leave these settings out, "
    advice = f"{leave_out}choose another name with --as, or unload the instance first: {unload}"
    return f"{facts}\n{advice[0].upper()}{advice[1:]}"


def _as_json(info: Any) -> dict[str, Any]:
    return {
        "kind": info.type,
        "identifier": info.identifier,
        "model_key": info.model_key,
        "instance_reference": info.instance_reference,
        "ttl": info.ttl,
        "context_length": info.context_length,
        "size_bytes": info.size_bytes,
        "device": info.device_identifier,
    }
