"""Tiny models whose attention has weights: their output depends on all previous tokens and their positions."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Mapping
from pathlib import Path

import pytest

from lmstudio_async.testing import ModelsFolder, _tiny_models
from lmstudio_async.testing._gguf_writer import Tensor, Value, write_gguf

__all__ = ["add_attentive_llm"]


def add_attentive_llm(folder: ModelsFolder, model: str, *, context_length: int = 2048) -> Path:
    """Add an LLM that generates random words; see ``ModelsFolder.add_llm``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tiny_models, "write_gguf", _write_attentive)
        return folder.add_llm(model, script=None, context_length=context_length)


def _write_attentive(path: Path, keys: Mapping[str, Value], tensors: Mapping[str, Tensor]) -> Path:
    filled = {
        name: (shape, _noise(name, math.prod(shape)) if numbers is None else numbers)
        for name, (shape, numbers) in tensors.items()
    }
    return write_gguf(path, keys, filled)


def _noise(name: str, count: int) -> array[float]:
    dice = random.Random(name)
    return array("f", (dice.gauss(0, 0.4) for _ in range(count)))
