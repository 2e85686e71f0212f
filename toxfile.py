"""Lets tox find the Python versions that pyenv has installed, also those that are not switched on.

pyenv puts a command for each of them on the PATH, which fails unless its version is switched on: tox would take
the version for missing, and skip its tests.
"""

from __future__ import annotations

import os
from pathlib import Path

_versions = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
_folders = sorted(str(folder) for folder in _versions.glob("3.*/bin"))
os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), *_folders])
