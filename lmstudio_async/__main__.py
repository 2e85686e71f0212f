"""Entry point of ``python -m lmstudio_async``."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Ctrl-C during the imports must end the program without a traceback too.
    try:
        from lmstudio_async._cli import main

        status: int = main()
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
