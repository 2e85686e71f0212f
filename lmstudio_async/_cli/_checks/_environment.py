"""Checks of the packages, the machine and the environment variables."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from lmstudio_async import AsyncClient
from lmstudio_async._cli._checks._check import Check
from lmstudio_async._cli._target import EMBEDDED, Target
from lmstudio_async._cli._units import size_text
from lmstudio_async._cli._version import version_line
from lmstudio_async._install_command import install_command, missing_modules
from lmstudio_async.errors import LMStudioValueError

__all__ = [
    "disk_check",
    "has_proxies",
    "memory_check",
    "packages_check",
    "proxy_check",
    "token_check",
    "version_check",
]

_TOKENS: Final = ("LM_API_TOKEN", "LMSTUDIO_API_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_EXTRAS: Final = ("cli", "embedded", "hub")
#: Free bytes below which a download of a small model may fail.
_LITTLE_SPACE: Final = 1_000_000_000


def version_check() -> Check:
    """Report the versions of the SDK and of Python, and the system."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release()} on {platform.machine()}"
    return Check(
        "SDK",
        "ok",
        f"{version_line()}, {python}, {system}",
        details={
            "version": version_line().removeprefix("lmstudio-async "),
            "python": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
        },
    )


def packages_check() -> Check:
    """Report which extras are installed."""
    missing = {extra: missing_modules(extra) for extra in _EXTRAS}
    installed = [extra for extra in _EXTRAS if not missing[extra]]
    lacking = [extra for extra in _EXTRAS if missing[extra]]
    details = {"installed": installed, "missing": lacking}
    if not lacking:
        return Check("Packages", "ok", f"the extras {', '.join(installed)} are installed", details=details)
    text = "not installed: " + "; ".join(
        f"the extra {extra} ({', '.join(missing[extra])})" for extra in lacking
    )
    return Check("Packages", "note", text, install_command(*lacking), details)


def memory_check(target: Target) -> Check:
    """Report the main memory."""
    from lmstudio_async.embedded import main_memory

    memory = main_memory()
    total, free = memory.total_bytes, memory.available_bytes
    details = {"total_bytes": total, "free_bytes": free}
    if total is None or free is None:
        return Check("Memory", "note", "the system does not report its memory", details=details)
    text = f"{size_text(free)} free of {size_text(total)}"
    if free < _LITTLE_SPACE:
        return Check(
            "Memory",
            "note",
            text,
            f"End other programs, or unload all models: {target.lasting_line('unload', '--all')}",
            details,
        )
    return Check("Memory", "ok", text, details=details)


def disk_check(folder: Path) -> Check:
    """Report the free space where downloads go. Blocks."""
    place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    usage = shutil.disk_usage(place)
    text = f"{size_text(usage.free)} free of {size_text(usage.total)} at {folder}"
    details = {"path": str(folder), "free_bytes": usage.free, "total_bytes": usage.total}
    if usage.free < _LITTLE_SPACE:
        return Check("Disk", "problem", text, "Free some space: a small model takes 0.1 to 1 GB.", details)
    return Check("Disk", "ok", text, details=details)


def token_check(target: Target) -> Check:
    """Report which variables have tokens, never their values."""
    given = [name for name in _TOKENS if os.environ.get(name)]
    details = {"set": given, "token_file": None if target.token_file is None else str(target.token_file)}
    if target.token_file is not None:
        text = f"the token for the server comes from {target.token_file}"
        return Check("Tokens", "ok", text, details=details)
    try:
        # A client reads its token when it is made, and needs no server for that.
        AsyncClient(EMBEDDED)
    except LMStudioValueError as error:
        return Check("Tokens", "problem", str(error), "Correct the variable, or unset it.", details)
    used = next((name for name in given if name.startswith("LM")), None)
    text = f"set: {', '.join(given)}" if given else f"not set: {', '.join(_TOKENS[:3])}"
    if {"LM_API_TOKEN", "LMSTUDIO_API_TOKEN"} <= set(given):
        text += "; the server gets the one in LM_API_TOKEN"
    elif used is not None:
        text += f"; the server gets the one in {used}"
    return Check("Tokens", "ok", text, details=details)


def has_proxies(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a variable names a proxy."""
    return any(_either_case(environment, name) for name in _PROXIES)


def proxy_check(environment: Mapping[str, str] = os.environ) -> Check:
    """Report the proxies, and whether other programs use them for this machine too."""
    proxies = {name: value for name in _PROXIES if (value := _either_case(environment, name))}
    exempt = [each.strip().lower() for each in (_either_case(environment, "NO_PROXY") or "").split(",")]
    missing = [] if "*" in exempt else [name for name in ("localhost", "127.0.0.1") if name not in exempt]
    details = {"set": list(proxies), "no_proxy": [each for each in exempt if each]}
    if not proxies:
        return Check("Proxies", "ok", "none", details=details)
    text = ", ".join(f"{name}: {_without_login(value)}" for name, value in proxies.items())
    if not missing:
        return Check("Proxies", "ok", f"{text}; not for localhost", details=details)
    return Check(
        "Proxies",
        "note",
        f"{text}. This SDK uses no proxy for localhost, but other clients do: NO_PROXY lacks {' and '.join(missing)}",
        f"NO_PROXY={','.join([*filter(None, exempt), *missing])}",
        details,
    )


def _either_case(environment: Mapping[str, str], name: str) -> str | None:
    return environment.get(name.lower()) or environment.get(name)


def _without_login(proxy: str) -> str:
    """Return a proxy's scheme, host and port: its user and password are secrets."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        name, port = parts.hostname, parts.port
    except ValueError:
        return "malformed"
    return f"{parts.scheme}://{name}{f':{port}' if port else ''}" if name else "malformed"
