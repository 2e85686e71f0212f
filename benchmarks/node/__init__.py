"""The official package for Node, if Node is there."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.meter import take_a_core

__all__ = ["VERSION", "measure", "prepare"]

#: The newest version that can be installed: 2.0.0 depends on a package that was never published.
VERSION = "1.5.0"
_SCRIPT = Path(__file__).with_name("bench.mjs")


def prepare(directory: Path) -> Path | None:
    """Install the package, unless it is installed already.

    :return: the directory of the installation; None if the package cannot be installed on this machine.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    # Copy the script, because Node looks for packages beside it.
    shutil.copy(_SCRIPT, directory)
    if not (directory / "node_modules" / "@lmstudio" / "sdk").exists():
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", f"@lmstudio/sdk@{VERSION}"]
        if subprocess.run(command, cwd=directory, check=False).returncode:
            return None
    return directory


def measure(directory: Path, path: str, host: str, *, pin: bool) -> dict[str, float]:
    """Run one path once."""
    done = subprocess.run(
        ["node", _SCRIPT.name, path, host],
        cwd=directory,
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
        # Do not use real-time priority, because Node's helper threads would spin on a single core.
        preexec_fn=(lambda: take_a_core(0)) if pin else None,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures
