"""The command line: `lmsa`."""

from __future__ import annotations

from lmstudio_async._cli._main import main

__all__ = ["main"]
