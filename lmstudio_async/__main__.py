"""What ``python -m lmstudio_async`` runs."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # A Ctrl-C while modules are still being loaded is an end like any other.
    try:
        from lmstudio_async._cli import main

        status: int = main()
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
