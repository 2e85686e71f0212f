"""State of the engine on this machine: its version, why it cannot be used, and what to do about that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import anyio
import anyio.to_thread
import attrs

from lmstudio_async._install_command import missing_modules
from lmstudio_async.embedded._machine._worker_environment import worker_environment
from lmstudio_async.embedded._requirements import ILLEGAL_INSTRUCTION, engine_remedy, missing_remedy
from lmstudio_async.embedded._versions import engine_version

__all__ = ["EngineState", "engine_state"]

_IMPORT_SECONDS: Final = 20.0
_SIGILL: Final = (-getattr(signal, "SIGILL", 4), 0xC000001D)


@attrs.frozen
class EngineState:
    """Whether the embedded server can use its engine on this machine: the result of `engine_state`.

    :param version: the version of the package ``xllamacpp``, which has the engine; None if it is not installed.
    :param missing: the modules of the extra ``embedded`` that are not installed.
    :param problem: why the server cannot be used, as a part of a sentence; None if there is no problem.
    :param remedy: the advice about the problem, as sentences or a command; None if there is no problem.
    """

    version: str | None
    missing: Sequence[str]
    problem: str | None
    remedy: str | None


async def engine_state() -> EngineState:
    """Check whether the embedded server can use its engine on this machine.

    A process of its own imports the engine, which takes a fraction of a second, and at most 20 seconds. No model is
    loaded. The devices of the engine are in ``client.call("runtime", "surveyHardware")``.

    :return: the state, with a problem if packages are not installed, or the engine cannot be imported.

    ::

        state = await engine_state()
        print(state.version if state.problem is None else f"{state.problem}. {state.remedy}")
    """
    missing = await anyio.to_thread.run_sync(missing_modules, "embedded")
    version = None if "xllamacpp" in missing else await anyio.to_thread.run_sync(engine_version)
    if missing:
        problem = f"packages are not installed ({', '.join(missing)})"
        remedy = await anyio.to_thread.run_sync(missing_remedy, missing)
        return EngineState(version, tuple(missing), problem, remedy)
    reason = await _why_it_cannot_be_imported()
    if not reason:
        return EngineState(version, (), None, None)
    problem = f"xllamacpp {version} cannot be used: {reason}"
    return EngineState(version, (), problem, await anyio.to_thread.run_sync(engine_remedy, reason))


async def _why_it_cannot_be_imported() -> str:
    """Return the reason; empty if the import succeeds."""
    try:
        with anyio.fail_after(_IMPORT_SECONDS):
            done = await anyio.run_process(
                [sys.executable, "-P", "-c", "import xllamacpp"],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=worker_environment(os.environ),
                creationflags=0x08000000 if sys.platform == "win32" else 0,  # no console window
            )
    except TimeoutError:
        return f"its import takes longer than {_IMPORT_SECONDS:g} seconds"
    except OSError as error:
        return f"no process can be started: {error.strerror or error}"
    if done.returncode in _SIGILL:
        return ILLEGAL_INSTRUCTION
    if not done.returncode:
        return ""
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"its import ends with exit code {done.returncode}"
