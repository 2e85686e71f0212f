"""The official package for Node, if Node is there."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.measuring import take_a_core

__all__ = ["VERSION", "measure", "prepare"]

#: The newest that can be installed: 2.0.0 needs a package that was never published.
VERSION = "1.5.0"
_SCRIPT = Path(__file__).with_name("bench.mjs")


def prepare(directory: Path) -> Path | None:
    """Install it, if that was not done yet.

    :return: where; None if it is not possible here.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    # Packages are looked for beside the script.
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
        # Its helper threads would spin if it had a single core in real time.
        preexec_fn=(lambda: take_a_core(0)) if pin else None,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures
