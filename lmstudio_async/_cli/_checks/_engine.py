"""Check of the engine of the embedded server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import anyio

from lmstudio_async import AsyncClient, EmbeddedServer
from lmstudio_async._cli._checks._check import Check, Status
from lmstudio_async._cli._checks._engine_survey import EngineSurvey, survey_of
from lmstudio_async._install_command import missing_modules
from lmstudio_async.embedded._requirements import ILLEGAL_INSTRUCTION, engine_remedy
from lmstudio_async.embedded._versions import engine_version
from lmstudio_async.errors import LMStudioError

__all__ = ["engine_check"]

_NAME: Final = "Engine"
#: The survey starts a process that imports the engine, and gives up after 20 seconds.
_SURVEY_SECONDS: Final = 25.0
_IMPORT_SECONDS: Final = 20.0

_ILLEGAL_INSTRUCTION: Final = (-getattr(signal, "SIGILL", 4), 0xC000001D)


async def engine_check(*, is_needed: bool) -> Check:
    """Check whether the embedded server can load models here, and on what.

    :param is_needed: whether the commands use the embedded server.
    """
    status: Status = "problem" if is_needed else "note"
    version = engine_version()
    if missing := missing_modules("embedded"):
        remedy = engine_remedy("", "cli", "embedded", "hub")
        text = f"the embedded server cannot run: packages are not installed ({', '.join(missing)})"
        return Check(_NAME, status, text, remedy, {"version": None, "missing": missing})
    survey: EngineSurvey | None = None
    try:
        with anyio.fail_after(_SURVEY_SECONDS), tempfile.TemporaryDirectory() as folder:
            # An empty folder: the server would make the default one, and a check changes nothing.
            # Without a token: a malformed one in the environment is another check's problem.
            async with AsyncClient(EmbeddedServer(folder), "") as client:
                survey = await survey_of(client)
    except (LMStudioError, OSError):
        survey = None  # the import below says why
    if survey is None or not survey.engines:
        reason = await _why_it_cannot_be_imported()
        details = {"version": version, "reason": reason}
        text = f"xllamacpp {version} cannot be used: {reason or 'it does not report its devices'}"
        return Check(_NAME, status, text, engine_remedy(reason), details)
    details = {"version": version, **survey.details}
    if not survey.gpus and (gpu := _idle_gpu()):
        text = f"{survey.text}. This machine has {gpu}, which this build of the engine does not use"
        remedy = "Install a build for it: README, section GPUs."
        return Check(_NAME, "note", text, remedy, details)
    return Check(_NAME, "ok", survey.text, details=details)


async def _why_it_cannot_be_imported() -> str:
    """Return the reason; empty if the import succeeds."""
    try:
        with anyio.fail_after(_IMPORT_SECONDS):
            done = await anyio.run_process(
                [sys.executable, "-P", "-c", "import xllamacpp"],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                creationflags=0x08000000 if sys.platform == "win32" else 0,  # no console window
            )
    except TimeoutError:
        return f"its import takes longer than {_IMPORT_SECONDS:g} seconds"
    except OSError as error:
        return str(error)
    if done.returncode in _ILLEGAL_INSTRUCTION:
        return ILLEGAL_INSTRUCTION
    if not done.returncode:
        return ""
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"its import ends with exit code {done.returncode}"


def _idle_gpu() -> str | None:
    """Return the kind of GPU for which the machine has a driver."""
    if Path("/proc/driver/nvidia/version").exists() or (os.name == "nt" and shutil.which("nvidia-smi")):
        return "an NVIDIA GPU"
    return "an AMD GPU" if Path("/dev/kfd").exists() else None
