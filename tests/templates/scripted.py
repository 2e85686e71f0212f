"""A model that generates any script; each token is a byte or a mark, and a token may occur more than once.

The model is a GPT-2 whose next token depends only on the position. Its scripts repeat over the whole context, so that
a padded prompt ends where the requested script begins.
"""

from __future__ import annotations

import random
import re
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from lmstudio_async.testing._gguf_writer import Metadata, Value, write_gguf
from lmstudio_async.testing._tiny_models import _BYTES

__all__ = ["BOS", "EOS", "Scripts", "byte_vocabulary", "write_scripted"]

BOS, EOS = "<s>", "<|endoftext|>"
_WIDTH = 32
_CONTROL, _ORDINARY, _USER_DEFINED = 3, 1, 4
# Marks that become control tokens: the engine leaves them out of generated text unless it is told to show them.
_MARK = re.compile(r"<\|[^<>|\s]+\|?>|<[^<>|\s]+\|>|<｜[^<>｜\s]+｜>|\[/?[A-Z][A-Z_]+\]")
# llama.cpp's converter makes these marks of Gemma visible in the text, so that the engine can parse calls.
_VISIBLE = {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", '<|"|>'}


@attrs.frozen
class Scripts:
    """Positions of the scripts: each begins at ``starts[name]``, and again after each ``period``."""

    starts: Mapping[str, int]
    period: int

    def padding(self, name: str, length: int) -> int:
        """Return how many tokens a prompt lacks to end where a script begins.

        :param name: name of the script.
        :param length: length of the prompt, in tokens.
        """
        return (self.starts[name] - length) % self.period


def byte_vocabulary(text: str) -> tuple[list[str], Metadata]:
    """Make a vocabulary of the 256 bytes and of the marks in a text.

    :param text: text with marks, for example a chat template.
    :return: the tokens of the vocabulary, and its metadata.
    """
    marks = [BOS, EOS, *sorted({*_MARK.findall(text)} - {BOS, EOS})]
    tokens = [*_BYTES, *marks]
    metadata: dict[str, Value] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [_ORDINARY] * len(_BYTES)
        + [_USER_DEFINED if mark in _VISIBLE else _CONTROL for mark in marks],
        "tokenizer.ggml.merges": ["Ġ t"],
        "tokenizer.ggml.bos_token_id": len(_BYTES),
        "tokenizer.ggml.eos_token_id": len(_BYTES) + 1,
        "tokenizer.ggml.add_bos_token": False,
    }
    return tokens, metadata


def tokens_of(text: str, vocabulary: Sequence[str]) -> list[int]:
    """Split a text into bytes and marks, and return their token ids."""
    marks = {token: number for number, token in enumerate(vocabulary) if number >= len(_BYTES)}
    found: list[int] = []
    for piece in re.split("(" + "|".join(map(re.escape, marks)) + ")", text):
        found += [marks[piece]] if piece in marks else piece.encode()
    return found


def write_scripted(
    path: Path,
    scripts: Mapping[str, Sequence[int]],
    vocabulary: Metadata,
    *,
    size: int,
    context_length: int,
    metadata: Metadata | None = None,
) -> Scripts:
    """Write a model that generates any of its scripts.

    :param path: path of the file.
    :param scripts: name -> tokens of the script; the last token ends the answer.
    :param vocabulary: metadata of the vocabulary.
    :param size: number of tokens of the vocabulary.
    :param context_length: context length, in tokens.
    :param metadata: more metadata, for example a chat template.
    """
    script_tokens = [token for script in scripts.values() for token in script]
    starts: dict[str, int] = {}
    place = 1  # The token after a prompt of one token is decided at position 0.
    for name, script in scripts.items():
        starts[name] = place
        place += len(script)
    dice = random.Random(0)
    directions = {
        token: array("f", (dice.gauss(0, 1) for _ in range(_WIDTH))) for token in sorted({*script_tokens})
    }
    output = array("f", bytes(4 * _WIDTH * size))
    for token, direction in directions.items():
        output[token * _WIDTH : (token + 1) * _WIDTH] = array("f", (8 * number for number in direction))
    one_period = b"".join(directions[token].tobytes() for token in script_tokens)
    positions = array(
        "f", (one_period * -(-context_length // len(script_tokens)))[: 4 * _WIDTH * context_length]
    )
    ones = array("f", [1.0]) * _WIDTH
    keys: dict[str, Value] = {
        "general.architecture": "gpt2",
        "general.name": "Scripted",
        "general.file_type": 0,
        "gpt2.context_length": context_length,
        "gpt2.embedding_length": _WIDTH,
        "gpt2.block_count": 1,
        "gpt2.feed_forward_length": _WIDTH,
        "gpt2.attention.head_count": 1,
        "gpt2.attention.layer_norm_epsilon": 1e-5,
    }
    shapes = {"attn_qkv": (_WIDTH, 3 * _WIDTH), "attn_output": (_WIDTH, _WIDTH)}
    shapes |= {"ffn_up": (_WIDTH, _WIDTH), "ffn_down": (_WIDTH, _WIDTH)}
    tensors = {
        "token_embd.weight": ((_WIDTH, size), None),
        "position_embd.weight": ((_WIDTH, context_length), positions),
        "output_norm.weight": ((_WIDTH,), ones),
        "output_norm.bias": ((_WIDTH,), None),
        "output.weight": ((_WIDTH, size), output),
    }
    for part, shape in shapes.items():
        tensors[f"blk.0.{part}.weight"] = (shape, None)
        tensors[f"blk.0.{part}.bias"] = ((shape[1],), None)
    for part in ("attn_norm", "ffn_norm"):
        tensors[f"blk.0.{part}.weight"] = ((_WIDTH,), ones)
        tensors[f"blk.0.{part}.bias"] = ((_WIDTH,), None)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_gguf(path, {**keys, **vocabulary, **(metadata or {})}, tensors)
    return Scripts(starts, len(script_tokens))
