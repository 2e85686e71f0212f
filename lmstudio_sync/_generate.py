"""Writes the blocking facade out of the text of the async core; ``--check`` says what is not as it would write it.

::

    python lmstudio_sync/_generate.py
    python lmstudio_sync/_generate.py --check

Both packages are read, neither is imported. For every public class ``AsyncX`` there is a class ``X`` in the module of
the same name, with the same methods, each of them one call over the bridge. Everything else is shared.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # By this folder and not by the package, which need not be there, nor work.
    sys.path.insert(0, str(Path(__file__).parent))
    from _generator._main import main  # type: ignore[import-not-found]

    sys.exit(main(sys.argv[1:]))
