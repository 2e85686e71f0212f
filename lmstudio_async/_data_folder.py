"""The folder of this package below the user's data folder, for files that stay."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["data_folder"]


def data_folder() -> Path:
    """Return the folder for files of this package that stay, which may not exist yet.

    :raises RuntimeError: if the user has no home folder.
    """
    home = Path.home()
    if sys.platform == "win32":
        data = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        data = home / "Library" / "Application Support"
    else:
        # The XDG specification requires programs to ignore a relative path.
        named = os.environ.get("XDG_DATA_HOME", "")
        data = named if Path(named).is_absolute() else home / ".local" / "share"
    return Path(data) / "lmstudio-async"
