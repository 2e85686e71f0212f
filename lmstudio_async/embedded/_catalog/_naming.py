"""Names of downloaded models: model keys, display names and quantizations, derived from file names."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from lmstudio_async.embedded._catalog._gguf import quantization_bits

__all__ = [
    "EMBEDDING_PREFIX",
    "base_key",
    "display_name",
    "folded",
    "is_sound_key",
    "parameters_text",
    "quantization_of",
    "split_part",
    "split_variant",
    "without_quantization",
]

EMBEDDING_PREFIX: Final = "text-embedding-"
"""The prefix of the key of every embedding model. Programs use it to recognize embedding models in a list of keys."""

_NAME: Final = r"(?:UD-)?(?P<name>(?:I?Q|TQ)\d(?:_[A-Z0-9]+)*|(?:BF|FP|F)(?:16|32)|(?:MX|NV)FP4(?:_MOE)?)"
_QUANTIZATION: Final = re.compile(rf"(?:^|[-._]){_NAME}$", re.IGNORECASE)
# LM Studio writes "@q8_0" and "@4bit"; the tools of llama.cpp and Ollama write ":Q8_0".
_VARIANT: Final = re.compile(rf"(?P<model>.+)[@:](?:{_NAME}|(?P<bits>\d{{1,2}})-?bits?)", re.IGNORECASE)
# The suffix for an importance matrix, which is part of the model's name.
_IMATRIX: Final = re.compile(r"\.(?=i\d$)", re.IGNORECASE)
_PART: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})", re.IGNORECASE)
# Control characters that reverse the displayed order: they could show "fdp.exe" as "exe.pdf".
_DIRECTION: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
# File names without information. The name of the repository is used instead.
_NAMELESS: Final = re.compile(r"(?:ggml-)?(?:model)?", re.IGNORECASE)


def split_part(stem: str) -> tuple[str, int, int] | None:
    """Return the stem, number and count of a file that is one part of a model, such as ``big-00001-of-00003``."""
    part = _PART.fullmatch(stem)
    return (part["stem"], int(part["number"]), int(part["count"])) if part else None


def quantization_of(stem: str) -> tuple[str, int] | None:
    """Return the quantization at the end of a file name, and the approximate number of bits of a weight."""
    found = _QUANTIZATION.search(stem)
    if found is None:
        return None
    name = _quantization_name(found["name"])
    bits = quantization_bits(name)
    return (name, bits) if bits else None


def split_variant(key: str) -> tuple[str, str | int | None]:
    """Return a key without the quantization at its end, and the name or the bits of the quantization, if any."""
    found = _VARIANT.fullmatch(key)
    if found is None:
        return key, None
    return found["model"], int(found["bits"]) if found["bits"] else _quantization_name(found["name"])


def _quantization_name(text: str) -> str:
    return re.sub("^FP", "F", text.upper())


def without_quantization(stem: str, repository: str) -> str:
    """Return the name of a model, derived from the name of its file, or else of its repository."""
    name = _QUANTIZATION.sub("", stem)
    if _NAMELESS.fullmatch(name):
        name = repository
    return _IMATRIX.sub("-", re.sub(r"[-._]gguf$", "", name, flags=re.IGNORECASE)) or stem


def base_key(name: str) -> str:
    """Return a name as a model key: in lower case, its words joined by ``-``."""
    # Replace "@" and ":", because they separate a key from a quantization and from the number of an instance.
    return folded(re.sub(r"[\s@:]+", "-", name.strip()))


def folded(text: str) -> str:
    """Return a text for comparison: in lower case and in NFC, because file systems encode accents differently."""
    return unicodedata.normalize("NFC", text).lower()


def display_name(name: str) -> str:
    """Return a name for display: "Smollm2 135M Instruct" for ``smollm2-135m-instruct``."""
    return " ".join(_display_word(word) for word in re.split(r"[\s_-]+", name) if word) or name


def _display_word(word: str) -> str:
    if re.fullmatch(r"[ax]?\d+(?:\.\d+)?[bmk]", word):
        return word.upper()
    if re.match(r"v\d", word) or not word.islower():
        return word
    return word[0].upper() + word[1:]


def parameters_text(count: int) -> str:
    """Return a number of parameters in the usual short form: 135M, 1.2B."""
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3)):
        # Numbers from 0.9995 units on are rounded up to a whole unit.
        if count >= 0.9995 * size:
            number = count / size
            return f"{number:.1f}".removesuffix(".0") + unit if number < 10 else f"{number:.0f}{unit}"
    return str(count)


def is_sound_key(key: str) -> bool:
    """Whether a text is acceptable as a model key, a path or an identifier."""
    return (
        1 <= len(key) <= 1024
        and key != "__proto__"
        and not any(unicodedata.category(character) in {"Cc", "Cs"} for character in key)
        and not _DIRECTION.search(key)
    )
