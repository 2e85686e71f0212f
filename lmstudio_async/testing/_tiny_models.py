"""Tiny GGUF models, written in milliseconds by the standard library, which real llama.cpp loads.

A *scripted* LLM answers any prompt with exactly its script, at any temperature, and stops. It is a real transformer
whose blocks add nothing, so that the last token alone decides the next one: every token of a prompt leads to the first
piece of the script, every piece to the next one, and the last one to the end.
"""

from __future__ import annotations

import random
import re
import struct
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from lmstudio_async.errors import LMStudioValueError
from lmstudio_async.testing._chat_templates import CHATML
from lmstudio_async.testing._gguf_writer import Metadata, Tensor, Value, write_gguf

__all__ = ["BrokenKind", "Script", "different", "write_broken", "write_embedding", "write_llm"]

#: The answer of a model: a text, or its pieces (one token each, all different, each longer than a byte).
Script: TypeAlias = str | Sequence[str]

BrokenKind: TypeAlias = Literal[
    "truncated", "bad magic", "absurd counts", "empty", "no tensors", "cut in header", "missing tensor"
]
_Weights: TypeAlias = tuple[list[str], "array[float]", "array[float]"]

_WIDTH = 64
_CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_END_OF_TEXT, _END_OF_ANSWER = 256, 258
_WORDS = [
    f" {a}{b}" for a in ("ba", "ko", "mi", "tu", "re", "sa") for b in ("no", "la", "ki", "po", "du", "ve")
]


def write_llm(
    path: Path,
    *,
    script: Script | None = "Hello there",
    then: Sequence[Script] = (),
    endless: bool = False,
    name: str = "Tiny",
    context_length: int = 2048,
    architecture: str = "llama",
    chat_template: str | None = CHATML,
    padding_mb: int = 0,
    blocks: int = 1,
    metadata: Metadata | None = None,
) -> Path:
    """Write an LLM that answers with its script; see ``ModelsFolder.add_llm``.

    Ids 0..255 of its vocabulary are the bytes themselves. The padding consists of experts that are never used.
    """
    vocabulary, embedding, output = (
        _random_words(endless) if script is None else _scripted(script, then, endless)
    )
    experts, feed_forward = (0, 32) if not padding_mb else (128, 32 * -(-padding_mb // (blocks * 3)))
    a = architecture
    keys: dict[str, Value] = {
        "general.architecture": a,
        "general.name": name,
        "general.file_type": 0,
        f"{a}.context_length": context_length,
        f"{a}.embedding_length": _WIDTH,
        f"{a}.block_count": blocks,
        f"{a}.feed_forward_length": feed_forward,
        f"{a}.attention.head_count": 2,
        f"{a}.attention.head_count_kv": 1,
        f"{a}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{a}.rope.dimension_count": _WIDTH // 2,
        f"{a}.vocab_size": len(vocabulary),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": vocabulary,
        "tokenizer.ggml.token_type": [3 if text[:2] == "<|" else 1 for text in vocabulary],
        "tokenizer.ggml.merges": ["Ġ t"],
        "tokenizer.ggml.bos_token_id": _END_OF_TEXT,
        "tokenizer.ggml.eos_token_id": _END_OF_ANSWER,
        "tokenizer.ggml.padding_token_id": _END_OF_TEXT,
        "tokenizer.ggml.add_bos_token": False,
    }
    if experts:
        keys[f"{a}.expert_count"] = experts
        keys[f"{a}.expert_used_count"] = 1
    if chat_template is not None:
        keys["tokenizer.chat_template"] = chat_template.replace("REPLIES", str(len(then)))
    tensors: dict[str, Tensor] = {
        "token_embd.weight": ((_WIDTH, len(vocabulary)), embedding),
        "output_norm.weight": ((_WIDTH,), _ones(_WIDTH)),
        "output.weight": ((_WIDTH, len(vocabulary)), output),
    }
    for n in range(blocks):
        block: dict[str, Tensor] = {
            "attn_norm": ((_WIDTH,), _ones(_WIDTH)),
            "attn_q": ((_WIDTH, _WIDTH), None),
            "attn_k": ((_WIDTH, _WIDTH // 2), None),
            "attn_v": ((_WIDTH, _WIDTH // 2), None),
            "attn_output": ((_WIDTH, _WIDTH), None),
            "ffn_norm": ((_WIDTH,), _ones(_WIDTH)),
        }
        if experts:
            block["ffn_gate_inp"] = ((_WIDTH, experts), None)
            block["ffn_gate_exps"] = block["ffn_up_exps"] = ((_WIDTH, feed_forward, experts), None)
            block["ffn_down_exps"] = ((feed_forward, _WIDTH, experts), None)
        else:
            block["ffn_gate"] = block["ffn_up"] = ((_WIDTH, feed_forward), None)
            block["ffn_down"] = ((feed_forward, _WIDTH), None)
        tensors.update((f"blk.{n}.{part}.weight", tensor) for part, tensor in block.items())
    return write_gguf(path, {**keys, **(metadata or {})}, tensors)


def write_embedding(
    path: Path,
    *,
    dimensions: int = 16,
    name: str = "Tiny Embed",
    context_length: int = 512,
    metadata: Metadata | None = None,
) -> Path:
    """Write an embedding model; see ``ModelsFolder.add_embedding``."""
    characters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *("▁" + c for c in characters)]
    dice = random.Random(dimensions)
    keys: dict[str, Value] = {
        "general.architecture": "bert",
        "general.name": name,
        "general.file_type": 0,
        "bert.context_length": context_length,
        "bert.embedding_length": dimensions,
        "bert.block_count": 1,
        "bert.feed_forward_length": dimensions,
        "bert.attention.head_count": 2,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": 1,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "bert-bge",
        "tokenizer.ggml.tokens": vocabulary,
        "tokenizer.ggml.token_type": [3] * 5 + [1] * (len(vocabulary) - 5),
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.mask_token_id": 4,
    }
    square = ((dimensions, dimensions), None)
    zeros = ((dimensions,), None)
    ones = ((dimensions,), _ones(dimensions))
    tensors: dict[str, Tensor] = {
        "token_embd.weight": ((dimensions, len(vocabulary)), _noise(dice, dimensions * len(vocabulary), 1.0)),
        "position_embd.weight": (
            (dimensions, context_length),
            _noise(dice, dimensions * context_length, 0.2),
        ),
        "token_types.weight": ((dimensions, 2), None),
        "token_embd_norm.weight": ones,
        "token_embd_norm.bias": zeros,
    }
    for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"):
        tensors[f"blk.0.{part}.weight"] = square
        tensors[f"blk.0.{part}.bias"] = zeros
    for part in ("attn_output_norm", "layer_output_norm"):
        tensors[f"blk.0.{part}.weight"] = ones
        tensors[f"blk.0.{part}.bias"] = zeros
    return write_gguf(path, {**keys, **(metadata or {})}, tensors)


def write_broken(path: Path, kind: BrokenKind = "truncated") -> Path:
    """Write a file that no engine can load; see ``ModelsFolder.add_broken``."""
    if kind == "empty":
        path.write_bytes(b"")
        return path
    if kind == "missing tensor":
        # This architecture has the same tensors and some more.
        return write_llm(path, architecture="qwen3")
    if kind == "no tensors":
        return write_gguf(path, {"general.architecture": "llama", "general.name": "Nothing"}, {})
    if kind == "absurd counts":
        path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**61) + b"\0" * 64)
        return path
    whole = write_llm(path).read_bytes()
    if kind == "bad magic":
        path.write_bytes(b"NOPE" + whole[4:])
    elif kind == "cut in header":
        path.write_bytes(whole[:3000])
    else:
        path.write_bytes(whole[: len(whole) // 2])
    return path


def _scripted(
    script: Script, then: Sequence[Script], endless: bool
) -> tuple[list[str], array[float], array[float]]:
    """Return vocabulary, embedding and output matrix of a model in which each token leads to exactly one other."""
    used = {"\n"}
    replies = [_pieces(reply, used) for reply in (script, *then)]
    vocabulary = [*_BYTES, *_CONTROL, *(f"<|reply_{n + 1}|>" for n in range(len(then)))]
    start_ids = [_END_OF_TEXT, *range(259, len(vocabulary))]
    leads_to: dict[int, int] = {}
    for start, reply in zip(start_ids, replies, strict=True):
        here = start
        for piece in reply:
            text = "".join(_BYTES[byte] for byte in piece.encode())
            following = vocabulary.index(text) if len(text) == 1 else len(vocabulary)
            if len(text) > 1:
                vocabulary.append(text)
            leads_to[here] = here = following
        leads_to[here] = leads_to[start] if endless and here != start else _END_OF_ANSWER
    dice = random.Random(len(vocabulary))
    # A token that is no piece has the vector of the start, so that the script follows any last token of a prompt.
    start_vector = _noise(dice, _WIDTH, 1.0)
    vectors = {token: _noise(dice, _WIDTH, 1.0) for token in leads_to if token != _END_OF_TEXT}
    embedding, output = array("f"), array("f", bytes(4 * _WIDTH * len(vocabulary)))
    for token in range(len(vocabulary)):
        embedding += vectors.get(token, start_vector)
    for token, following in leads_to.items():
        vector = vectors.get(token, start_vector)
        for i, number in enumerate(vector):
            # The factor is so large that no usual temperature selects another token.
            output[following * _WIDTH + i] += 8 * number
    return vocabulary, embedding, output


def _random_words(endless: bool) -> _Weights:
    """Return vocabulary, embedding and output matrix of a model that answers with random words, and sometimes ends.

    All other tokens need a grammar that forces them. Of these, the brackets that close an object or a list are by far
    the likeliest, then the comma, then all others, and white space is the least likely, so that the answer soon ends.
    """
    vocabulary = [*_BYTES, *_CONTROL, *("".join(_BYTES[byte] for byte in word.encode()) for word in _WORDS)]
    sayable = {*range(259, len(vocabulary)), *(() if endless else (_END_OF_ANSWER,))}
    # The values are so far apart that no penalty for repeated tokens changes the order.
    likeliness = {**dict.fromkeys(sayable, 0.0), **dict.fromkeys(b"]}", -30.0), ord(","): -40.0}
    likeliness |= dict.fromkeys(b" \t\r\n", -60.0)
    dice = random.Random(0)
    embedding, output = array("f"), array("f")
    for token in range(len(vocabulary)):
        # The first number of the embedding is the same for all tokens, so that the output's first number is a bias.
        embedding += array("f", [4.0]) + _noise(dice, _WIDTH - 1, 1.0)
        output += array("f", [likeliness.get(token, -50.0)]) + _noise(dice, _WIDTH - 1, 0.1)
    return vocabulary, embedding, output


def _pieces(script: Script, used: set[str]) -> list[str]:
    """Return the script's tokens, none of them used before, because the last token alone decides the next one."""
    if isinstance(script, str):
        return different(re.findall(r"\s*\S+(?:\s+$)?|^\s+$", script), used)
    for piece in script:
        if not piece or piece in used:
            raise LMStudioValueError(
                f"the pieces of a script must all be different, and {piece!r} is there twice or empty"
            )
        used.add(piece)
    return list(script)


def different(pieces: Iterable[str], used: set[str]) -> list[str]:
    """Join pieces with their neighbours until each is longer than a byte and occurs once, also among the used ones."""
    result: list[str] = []
    text = ""
    for piece in pieces:
        text += piece
        if text not in used and len(text.encode()) > 1:
            used.add(text)
            result.append(text)
            text = ""
    while text and (text in used or len(text.encode()) == 1) and result:
        text = result.pop() + text
    if text in used:
        raise LMStudioValueError(
            f"another answer has the piece {text!r} already, and it cannot be cut differently"
        )
    if text:
        used.add(text)
        result.append(text)
    return result


def _byte_characters() -> list[str]:
    """Return GPT-2's characters for the bytes 0..255: visible characters stand for themselves."""
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in seen]
    return [chr(byte) if byte in seen else chr(256 + hidden.index(byte)) for byte in range(256)]


_BYTES = _byte_characters()


def _ones(count: int) -> array[float]:
    return array("f", [1.0]) * count


def _noise(dice: random.Random, count: int, spread: float) -> array[float]:
    return array("f", (dice.gauss(0.0, spread) for _ in range(count)))
