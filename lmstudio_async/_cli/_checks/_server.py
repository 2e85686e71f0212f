"""Check of the server that a client without an address finds, or that the user has named."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any, Final

import anyio
import attrs

from lmstudio_async import AsyncClient, ServerAddress
from lmstudio_async._cli._checks._check import Check, in_daemon_thread
from lmstudio_async._cli._checks._engine_survey import survey_of
from lmstudio_async._cli._checks._environment import has_proxies
from lmstudio_async._cli._download_advice import small_model_advice
from lmstudio_async._cli._run import message_of
from lmstudio_async._cli._server_errors import errors_for_shell
from lmstudio_async._cli._target import EMBEDDED, Target
from lmstudio_async._cli._token_file import tokens_in
from lmstudio_async.errors import LMStudioAuthenticationError, LMStudioError, LMStudioValueError

__all__ = ["server_checks"]

_VARIABLE: Final = "LMSTUDIO_HOST"

#: Seconds for the look-up of a name, for a connection, and for the requests to a server that answers.
_NAME_SECONDS: Final = 3.0
_CONNECT_SECONDS: Final = 1.0
_REQUEST_SECONDS: Final = 10.0
#: A server surveys the hardware once, and its engine may take that long.
_SURVEY_SECONDS: Final = 25.0

_START: Final = "Start LM Studio and its server, or one of your own: lmsa serve"


@attrs.frozen
class _Tried:
    """An address that was tried, and the result."""

    address: str
    result: str
    answers: bool = False


async def server_checks(target: Target) -> tuple[list[Check], bool]:
    """Look for a server as the commands do.

    :return: the checks, and whether the commands use the embedded server.
    """
    if target.models and target.host not in (None, EMBEDDED):
        text = f"--models is for the embedded server, and --host {target.host} is another one"
        return [Check("Server", "problem", text, "Give one of the two.")], False
    if target.models:
        return [_embedded("because of --models")], True
    source = "--host" if target.host is not None else _VARIABLE
    host = target.named_host
    if host == EMBEDDED:
        return [_embedded(f"because of {source}={EMBEDDED}")], True
    if host is None:
        return await _local_checks(target)
    try:
        with errors_for_shell(source, may_embed=True):
            tried = await _try(host)
    except LMStudioValueError as error:
        return [Check("Server", "problem", str(error), f"Correct {source}.")], False
    details = _details([tried], source)
    if not tried.answers:
        text = f"{source} names {tried.address}: {tried.result}"
        remedy = f"{_START}. Or correct {source}, or leave it out to use the server of this machine."
        return [Check("Server", "problem", text, remedy, details)], False
    return await _checks_of(tried, details, f"as {source} says", target), False


async def _local_checks(target: Target) -> tuple[list[Check], bool]:
    addresses = list(map(str, ServerAddress.on_this_machine()))
    tried: dict[str, _Tried] = {}

    async def try_address(address: str) -> None:
        tried[address] = await _try(address)

    async with anyio.create_task_group() as tasks:
        for address in addresses:
            tasks.start_soon(try_address, address)
    results = [tried[address] for address in addresses]
    details = _details(results, "the ports of this machine")
    found = next((each for each in results if each.answers), None)
    if found is not None:
        return await _checks_of(found, details, "on this machine", target), False
    kinds: dict[str, list[str]] = {}
    for each in results:
        kinds.setdefault(each.result, []).append(each.address.rpartition(":")[2])
    text = "; ".join(f"{result} (127.0.0.1, ports {', '.join(names)})" for result, names in kinds.items())
    check = Check(
        "Server",
        "note",
        f"no LM Studio answers on this machine, so commands use the embedded server: {text}",
        f"To load models that stay: {_START[0].lower()}{_START[1:]}",
        details,
    )
    return [check], True


def _embedded(why: str) -> Check:
    return Check("Server", "ok", f"the embedded server, {why}", details={"address": EMBEDDED, "tried": []})


def _details(tried: Sequence[_Tried], source: str) -> dict[str, Any]:
    address = next((each.address for each in tried if each.answers), None)
    return {"address": address, "source": source, "tried": [attrs.asdict(each) for each in tried]}


async def _try(host: str) -> _Tried:
    """Look whether LM Studio answers at an address, and if not, why.

    :raises LMStudioValueError: the address makes no sense.
    """
    address = ServerAddress.parse(host)
    uses_proxy = not address.is_loopback and has_proxies()
    try:
        # A dead name server can block the look-up for minutes, and the interpreter would wait for it.
        await in_daemon_thread(_NAME_SECONDS, socket.getaddrinfo, address.host, address.port)
    except (OSError, UnicodeError):
        # A proxy may know the name all the same. TimeoutError is an OSError.
        if not uses_proxy:
            return _Tried(str(address), "no machine has this name")
    if await AsyncClient.is_valid_api_host(host):
        return _Tried(str(address), "LM Studio answers", answers=True)
    if uses_proxy:
        return _Tried(str(address), "no LM Studio answers, through a proxy unless NO_PROXY has this host")
    return _Tried(str(address), await _why_not(address))


async def _why_not(address: ServerAddress) -> str:
    try:
        with anyio.fail_after(_CONNECT_SECONDS):
            await (await anyio.connect_tcp(address.host, address.port)).aclose()
    except TimeoutError:
        return "the machine does not answer"
    except OSError as error:
        return _reason(error)
    return "a program listens that is not LM Studio"


def _reason(error: OSError) -> str:
    """Return why a connection failed. anyio wraps the errors of a name's addresses in one without a number."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    number = error.errno or getattr(cause, "errno", None)
    if number == errno.ECONNREFUSED:
        return "nothing listens"
    return os.strerror(number) if number else str(error)


async def _checks_of(tried: _Tried, details: dict[str, Any], why: str, target: Target) -> list[Check]:
    """Check a server that answers: its version, its models and its engine."""
    text = f"LM Studio answers at {tried.address}, {why}"
    try:
        token = None if target.token_file is None else tokens_in(target.token_file)[0]
        with errors_for_shell(None, may_embed=True), anyio.fail_after(_REQUEST_SECONDS):
            async with AsyncClient(tried.address, token) as client:
                version = (await client.system.version()).version
                models = await client.system.list_downloaded_models()
                loaded = await client.list_loaded_models()
    except LMStudioValueError as error:
        remedy = "Correct the variable." if target.token_file is None else "Correct --token-file."
        return [Check("Server", "problem", f"{text}, but the token is wrong: {error}", remedy, details)]
    except LMStudioAuthenticationError as error:
        reason, _, advice = str(error).partition("\n")
        remedy = advice or "Give the right token with LM_API_TOKEN or --token-file."
        return [Check("Server", "problem", f"{text}, but a request fails: {reason}", remedy, details)]
    except (LMStudioError, OSError) as error:
        reason = "it sends no response" if isinstance(error, TimeoutError) else message_of(error)
        return [Check("Server", "problem", f"{text}, but a request fails: {reason}", _START, details)]
    counts = f"{len(models)} {'model' if len(models) == 1 else 'models'}, {len(loaded)} loaded"
    details |= {"version": version, "models": len(models), "loaded": len(loaded)}
    check = Check("Server", "ok", f"{text}: version {version}, {counts}", details=details)
    if not models:
        check = attrs.evolve(check, status="problem", remedy=small_model_advice(target, tried.address))
    return [check, *await _engines_of(tried.address, token)]


async def _engines_of(host: str, token: str | None) -> list[Check]:
    try:
        with anyio.fail_after(_SURVEY_SECONDS):
            async with AsyncClient(host, token) as client:
                survey = await survey_of(client)
    except (LMStudioError, OSError):
        return [Check("Engines there", "note", "the server does not report its engines")]
    if not survey.engines:
        text = "the server has no engine that works on its machine, so it cannot load models"
        return [Check("Engines there", "problem", text, "Install an engine where the server runs.")]
    return [Check("Engines there", "ok", survey.text, details=survey.details)]
