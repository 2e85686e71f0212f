"""Generates the blocking facade from the source text of the async core. ``--check`` reports files that are out of date.

::

    python lmstudio_sync/_generate.py
    python lmstudio_sync/_generate.py --check

Both packages are read, and neither is imported. For every public class ``AsyncX`` there is a class ``X`` in the module
of the same name, with the same methods, each of them one call over the bridge. Both packages share all other names.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Import from this folder and not from the package, which may be missing or broken.
    sys.path.insert(0, str(Path(__file__).parent))
    from _generator._main import main  # type: ignore[import-not-found]

    sys.exit(main(sys.argv[1:]))
