"""Real GGUF models for tests, made in milliseconds with the standard library, loaded by real llama.cpp.

A *scripted* LLM says exactly its script after any prompt, at any temperature, and stops. It is a real
transformer whose blocks add nothing, so that the last token alone decides the next one: every token of a
prompt leads to the first piece of the script, every piece to the next one, and the last one to the end.

::

    models = ModelsFolder(tmp_path)
    models.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script="Hello there")
    models.add_llm("acme/talker-GGUF/talker-Q8_0.gguf", script="on and on ", endless=True)  # for cancelling
    models.add_llm("acme/slow-GGUF/slow-F16.gguf", padding_mb=256)  # loads noticeably
    models.add_llm(
        "acme/tools-GGUF/tools-Q8_0.gguf",
        script=tool_call("add", a=1, b=2),          # the first answer of a conversation
        then=["The sum is 3."],                     # its second one
        chat_template=HERMES,
    )
    models.add_llm("acme/thinker-GGUF/thinker-Q8_0.gguf", script="<think>Hm</think>Yes", chat_template=THINKING)
    models.add_llm("acme/dice-GGUF/dice-Q8_0.gguf", script=None)  # random words: seeds count
    models.add_embedding("acme/embed-GGUF/embed-F32.gguf", dimensions=16)
    models.add_llm("acme/eye-GGUF/eye-Q8_0.gguf", script="A cat")
    models.add_projector("acme/eye-GGUF/mmproj-eye-F16.gguf")  # makes its neighbours see
    models.add_broken("acme/broken-GGUF/broken-Q8_0.gguf", "truncated")
    server_on(models.folder)
"""

from __future__ import annotations

import json
import random
import re
import struct
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from tests.chat_templates import CHATML, HERMES, THINKING
from tests.gguf_writer import Metadata, Tensor, Value, write_gguf
from tests.tiny_projector import write_projector

__all__ = [
    "CHATML",
    "HERMES",
    "THINKING",
    "ModelsFolder",
    "tool_call",
    "write_broken",
    "write_embedding",
    "write_llm",
    "write_projector",
]

Script: TypeAlias = str | Sequence[str]
"""What a model says: a text, or the very pieces (one token each, all different, each longer than a byte)."""

BrokenKind: TypeAlias = Literal[
    "truncated", "bad magic", "absurd counts", "empty", "no tensors", "cut in header"
]
_Weights: TypeAlias = tuple[list[str], "array[float]", "array[float]"]

_WIDTH = 64
_CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_END_OF_TEXT, _END_OF_ANSWER = 256, 258
_WORDS = [
    f" {a}{b}" for a in ("ba", "ko", "mi", "tu", "re", "sa") for b in ("no", "la", "ki", "po", "du", "ve")
]


class ModelsFolder:
    """A models folder as LM Studio has it: ``publisher/repository/file.gguf``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add_llm(
        self,
        path: str,
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
        """Add an LLM; see :func:`write_llm`."""
        return write_llm(
            self._place(path),
            script=script,
            then=then,
            endless=endless,
            name=name,
            context_length=context_length,
            architecture=architecture,
            chat_template=chat_template,
            padding_mb=padding_mb,
            blocks=blocks,
            metadata=metadata,
        )

    def add_embedding(
        self,
        path: str,
        *,
        dimensions: int = 16,
        name: str = "Tiny Embed",
        context_length: int = 512,
        metadata: Metadata | None = None,
    ) -> Path:
        """Add an embedding model; see :func:`write_embedding`."""
        return write_embedding(
            self._place(path),
            dimensions=dimensions,
            name=name,
            context_length=context_length,
            metadata=metadata,
        )

    def add_projector(self, path: str, *, metadata: Metadata | None = None) -> Path:
        """Add an mmproj file; see :func:`~tests.tiny_projector.write_projector`."""
        return write_projector(self._place(path), metadata=metadata)

    def add_broken(self, path: str, kind: BrokenKind = "truncated") -> Path:
        """Add a file that no engine can load; see :func:`write_broken`."""
        return write_broken(self._place(path), kind)

    def _place(self, path: str) -> Path:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        return place


def tool_call(name: str, /, **arguments: object) -> list[str]:
    """Script pieces that call a tool, the way a model with the ``HERMES`` template does."""
    head = f'<tool_call>\n{{"name": "{name}", "arguments": '
    body = json.dumps(arguments)
    # A few pieces, so that the arguments arrive in more than one fragment.
    third = max(2, len(body) // 3)
    return _different(
        [head, *(body[i : i + third] for i in range(0, len(body), third)), "}\n</tool_call>"], set()
    )


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
    """Write an LLM that answers with its script. Ids 0..255 of its vocabulary are the bytes themselves.

    :param script: what it says. A text is cut at its words; give the pieces to choose the fragments yourself.
        ``None``: random words, chosen by temperature and seed.
    :param then: what it says in the second, third ... answer of a conversation, instead of the script again.
    :param endless: begin again at the end of the script (or of the random words), and never stop.
    :param context_length: the longest context that it claims to be trained for, in tokens.
    :param architecture: one that has the same tensors as ``llama``, such as ``qwen2`` or ``smollm3``.
    :param chat_template: ``CHATML``, ``HERMES``, ``THINKING`` or your own; ``None`` for a base model.
    :param padding_mb: make the file that much larger (sparse where the file system can), by experts that
        are never used.
    :param metadata: more metadata, or other values for some; see the GGUF specification.
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
    """Write an embedding model: other texts get other vectors, the same words in another order too.

    :param dimensions: the length of a vector; even.
    :param context_length: the longest text, in tokens; a token is an ASCII character.
    """
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
    """Write a file that is no model, whatever its name says.

    :param kind: ``"truncated"`` has a sound header and lacks the end of its tensors (an unfinished download).
    """
    if kind == "empty":
        path.write_bytes(b"")
        return path
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
    """Vocabulary, embedding and output matrix of a model in which each token leads to exactly one other."""
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
    # A token that is no piece has the vector of the start: whatever ends the prompt, the script follows.
    start_vector = _noise(dice, _WIDTH, 1.0)
    vectors = {token: _noise(dice, _WIDTH, 1.0) for token in leads_to if token != _END_OF_TEXT}
    embedding, output = array("f"), array("f", bytes(4 * _WIDTH * len(vocabulary)))
    for token in range(len(vocabulary)):
        embedding += vectors.get(token, start_vector)
    for token, following in leads_to.items():
        vector = vectors.get(token, start_vector)
        for i, number in enumerate(vector):
            # So large a factor that no temperature in use ever takes another token.
            output[following * _WIDTH + i] += 8 * number
    return vocabulary, embedding, output


def _random_words(endless: bool) -> _Weights:
    """Vocabulary, embedding and output matrix of a model that says random words, and sometimes ends."""
    vocabulary = [*_BYTES, *_CONTROL, *("".join(_BYTES[byte] for byte in word.encode()) for word in _WORDS)]
    sayable = {*range(259, len(vocabulary)), *(() if endless else (_END_OF_ANSWER,))}
    dice = random.Random(0)
    embedding, output = array("f"), array("f")
    for token in range(len(vocabulary)):
        # The first number is the same in all tokens, which makes it a constant that switches tokens off.
        embedding += array("f", [4.0]) + _noise(dice, _WIDTH - 1, 1.0)
        output += array("f", [0.0 if token in sayable else -50.0]) + _noise(dice, _WIDTH - 1, 0.1)
    return vocabulary, embedding, output


def _pieces(script: Script, used: set[str]) -> list[str]:
    """The script's tokens, none of them used before: only the token says how far the script is."""
    if isinstance(script, str):
        return _different(re.findall(r"\s*\S+(?:\s+$)?|^\s+$", script), used)
    for piece in script:
        if not piece or piece in used:
            raise ValueError(
                f"the pieces of a script must all be different, and {piece!r} is there twice or empty"
            )
        used.add(piece)
    return list(script)


def _different(pieces: Iterable[str], used: set[str]) -> list[str]:
    """Join pieces with their neighbours until all are different and longer than a byte."""
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
        raise ValueError(f"another answer has the piece {text!r} already, and it cannot be cut differently")
    if text:
        used.add(text)
        result.append(text)
    return result


def _byte_characters() -> list[str]:
    """GPT-2's characters for the bytes 0..255: those that can be seen stand for themselves."""
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in seen]
    return [chr(byte) if byte in seen else chr(256 + hidden.index(byte)) for byte in range(256)]


_BYTES = _byte_characters()


def _ones(count: int) -> array[float]:
    return array("f", [1.0]) * count


def _noise(dice: random.Random, count: int, spread: float) -> array[float]:
    return array("f", (dice.gauss(0.0, spread) for _ in range(count)))
