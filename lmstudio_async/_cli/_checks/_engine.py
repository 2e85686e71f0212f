"""Check of the engine of the embedded server."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import anyio

from lmstudio_async import AsyncClient, EmbeddedServer
from lmstudio_async._cli._checks._check import Check, Status
from lmstudio_async._cli._checks._engine_survey import EngineSurvey, survey_of
from lmstudio_async.embedded import engine_state
from lmstudio_async.errors import LMStudioError

__all__ = ["engine_check"]

_NAME: Final = "Engine"
#: The survey starts a process that imports the engine, and gives up after 20 seconds.
_SURVEY_SECONDS: Final = 25.0


async def engine_check(*, is_needed: bool) -> Check:
    """Check whether the embedded server can load models here, and on what.

    :param is_needed: whether the commands use the embedded server.
    """
    status: Status = "problem" if is_needed else "note"
    state = await engine_state()
    details: dict[str, Any]
    if state.missing:
        details = {"version": state.version, "missing": list(state.missing)}
        return Check(_NAME, status, f"the embedded server cannot run: {state.problem}", state.remedy, details)
    if state.problem is not None:
        details = {"version": state.version, "reason": state.problem}
        return Check(_NAME, status, state.problem, state.remedy, details)
    survey: EngineSurvey | None = None
    try:
        with anyio.fail_after(_SURVEY_SECONDS), tempfile.TemporaryDirectory() as folder:
            # An empty folder: the server would make the default one, and a check changes nothing.
            # Without a token: a malformed one in the environment is another check's problem.
            async with AsyncClient(EmbeddedServer(folder), "") as client:
                survey = await survey_of(client)
    except (LMStudioError, OSError):
        survey = None
    if survey is None or not survey.engines:
        text = f"xllamacpp {state.version} does not report its devices, so it may not work"
        remedy = "Load a model: if that works, there is nothing to do. The first thing to try: lmsa demo --host embedded"
        return Check(_NAME, status, text, remedy, {"version": state.version})
    details = {"version": state.version, **survey.details}
    if not survey.gpus and (gpu := _idle_gpu()):
        text = f"{survey.text}. This machine has {gpu}, which this build of the engine does not use"
        remedy = "Install a build for it: README, section GPUs."
        return Check(_NAME, "note", text, remedy, details)
    return Check(_NAME, "ok", survey.text, details=details)


def _idle_gpu() -> str | None:
    """Return the kind of GPU for which the machine has a driver."""
    if Path("/proc/driver/nvidia/version").exists() or (os.name == "nt" and shutil.which("nvidia-smi")):
        return "an NVIDIA GPU"
    return "an AMD GPU" if Path("/dev/kfd").exists() else None
