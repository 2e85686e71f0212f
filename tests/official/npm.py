"""Versions of the npm package `@lmstudio/sdk`, installed and run with node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["OVERRIDES", "install", "needs_npm", "run_node"]

# Version 2.0.0 requires ^0.5.0 of this package, which npm does not have.
OVERRIDES = {"1.5.0": {}, "2.0.0": {"@lmstudio/lms-isomorphic": "0.4.6"}}

_NODE, _NPM = shutil.which("node"), shutil.which("npm")

needs_npm = pytest.mark.skipif(
    _NODE is None or _NPM is None,
    reason="node and npm are needed to run the official packages for JavaScript",
)


def install(folder: Path, version: str) -> None:
    """Install a version of the package into a folder."""
    manifest = {
        "private": True,
        "dependencies": {"@lmstudio/sdk": version},
        "overrides": OVERRIDES[version],
    }
    (folder / "package.json").write_text(json.dumps(manifest))
    assert _NPM is not None
    _run(folder, _NPM, "install", "--no-audit", "--no-fund", "--loglevel=error")


def run_node(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of this folder of tests with the package in another folder."""
    assert _NODE is not None
    shutil.copy(Path(__file__).with_name(program), folder)
    return _run(folder, _NODE, program, *arguments)


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    program = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert program.returncode == 0, program.stderr
    return program
