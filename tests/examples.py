"""The machine that the examples of the documentation are for, and a way to run examples with ``await`` in them."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

from lmstudio_async.testing import ModelsFolder

__all__ = ["MEANING", "make_home", "run_example", "use_home"]

#: The answer of the model that most examples ask.
MEANING = "The meaning of life is what you make of it, day after day."


def make_home(home: Path) -> Path:
    """Fill a home directory with models of the names in the examples, and return LM Studio's models folder in it.

    The folder is ``~/models``, too.
    """
    folder = ModelsFolder(home / ".lmstudio" / "models")
    for path in (
        "lmstudio-community/Llama-3.2-1B-Instruct-GGUF/Llama-3.2-1B-Instruct-Q4_K_M.gguf",
        "lmstudio-community/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf",
        "lmstudio-community/Qwen3-4B-GGUF/Qwen3-4B-Q8_0.gguf",
        "lmstudio-community/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q4_K_M.gguf",
        "lmstudio-community/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct-Q4_K_M.gguf",
        "lmstudio-community/Qwen2-VL-2B-Instruct-GGUF/Qwen2-VL-2B-Instruct-Q4_K_M.gguf",
    ):
        folder.add_llm(path, script=MEANING, context_length=131072)
    folder.add_projector("lmstudio-community/Qwen2-VL-2B-Instruct-GGUF/mmproj-Qwen2-VL-2B-Instruct-F16.gguf")
    folder.add_embedding("nomic-ai/nomic-embed-text-v1.5-GGUF/nomic-embed-text-v1.5.Q8_0.gguf")
    (home / "models").symlink_to(folder.folder, target_is_directory=True)
    return folder.folder


def use_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a directory the user's home."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))


async def run_example(source: str, place: str, names: dict[str, Any]) -> None:
    """Run an example as a module, in which ``await`` is allowed.

    :param source: the code.
    :param place: its origin, for tracebacks.
    :param names: the names that it may use; its own are added to them.
    """
    code = compile(source, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    outcome = eval(code, names)
    if inspect.isawaitable(outcome):
        await outcome
