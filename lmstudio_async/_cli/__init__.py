"""The command line: ``python -m lmstudio_async demo`` and ``python -m lmstudio_async serve``."""

from __future__ import annotations

from lmstudio_async._cli._main import main

__all__ = ["main"]
