"""A tiny projector for test models: an mmproj file that real llama.cpp loads and encodes images with."""

from __future__ import annotations

import random
from array import array
from pathlib import Path

from lmstudio_async.testing._gguf_writer import Metadata, Tensor, Value, write_gguf

__all__ = ["write_projector"]

_WIDTH = 32
_BLOCKS = 2


def write_projector(path: Path, *, model_width: int = 64, metadata: Metadata | None = None) -> Path:
    """Write a projector, by which an LLM accepts images. The answer of a scripted model does not depend on the image.

    The projector scales images to 32 x 32 pixels, and makes four tokens of each.

    :param model_width: the embedding length of the LLM; 64 is that of every scripted one.
    """
    dice = random.Random(0)
    keys: dict[str, Value] = {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "general.name": "Tiny Eye",
        "general.file_type": 0,
        "clip.has_vision_encoder": True,
        "clip.projector_type": "mlp",
        "clip.use_gelu": True,
        "clip.vision.image_size": 32,
        "clip.vision.patch_size": 16,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
        "clip.vision.embedding_length": _WIDTH,
        "clip.vision.feed_forward_length": _WIDTH,
        "clip.vision.projection_dim": model_width,
        "clip.vision.block_count": _BLOCKS,
        "clip.vision.attention.head_count": 2,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
    }
    zeros: Tensor = ((_WIDTH,), None)
    ones: Tensor = ((_WIDTH,), array("f", [1.0]) * _WIDTH)
    tensors: dict[str, Tensor] = {
        "v.patch_embd.weight": _noise(dice, 16, 16, 3, _WIDTH),
        "v.position_embd.weight": ((_WIDTH, 4), None),
        "mm.0.weight": _noise(dice, _WIDTH, model_width),
        "mm.0.bias": ((model_width,), None),
        "mm.2.weight": _noise(dice, model_width, model_width),
        "mm.2.bias": ((model_width,), None),
    }
    norms = ["v.pre_ln", "v.post_ln"]
    for n in range(_BLOCKS):
        norms += [f"v.blk.{n}.ln1", f"v.blk.{n}.ln2"]
        for part in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_up", "ffn_down"):
            tensors[f"v.blk.{n}.{part}.weight"] = ((_WIDTH, _WIDTH), None)
            tensors[f"v.blk.{n}.{part}.bias"] = zeros
    for norm in norms:
        tensors[f"{norm}.weight"] = ones
        tensors[f"{norm}.bias"] = zeros
    return write_gguf(path, {**keys, **(metadata or {})}, tensors)


def _noise(dice: random.Random, *shape: int) -> Tensor:
    count = 1
    for length in shape:
        count *= length
    return shape, array("f", (dice.gauss(0.0, 0.1) for _ in range(count)))
