"""The models, and what they are known to answer."""

from __future__ import annotations

from pathlib import Path

from lmstudio_async.testing import ModelsFolder

__all__ = ["EMBEDDING", "LLMS", "VECTOR_LENGTH", "make_models", "may_say"]

SCRIPT = "One, two and three good reasons."
ENDLESS = "on and on "
#: The keys of language models: one answers at once, one never ends, one takes a while to load.
LLMS = ("tiny", "talker", "slow")
EMBEDDING = "text-embedding-vectors"
VECTOR_LENGTH = 16


def make_models(folder: Path) -> Path:
    """Make a models folder."""
    models = ModelsFolder(folder)
    models.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script=SCRIPT)
    models.add_llm("acme/talker-GGUF/talker-Q8_0.gguf", script=ENDLESS, endless=True, context_length=4096)
    models.add_llm("acme/slow-GGUF/slow-F16.gguf", script=SCRIPT, padding_mb=96)
    models.add_embedding("acme/vectors-GGUF/vectors-Q8_0.gguf", dimensions=VECTOR_LENGTH)
    return folder


def may_say(model_key: str, text: str, *, whole: bool) -> bool:
    """Whether this is what the model says, or, if it was cut short, how that begins."""
    if model_key == "talker":
        return (ENDLESS * (len(text) // len(ENDLESS) + 1)).startswith(text)
    return text == SCRIPT if whole else SCRIPT.startswith(text)
