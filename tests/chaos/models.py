"""The models of a chaos run, and the answers that they are known to give."""

from __future__ import annotations

from pathlib import Path

from lmstudio_async.embedded import ServerLimits
from lmstudio_async.testing import ModelsFolder

__all__ = [
    "EMBEDDING",
    "LIMITS",
    "LINKED",
    "LLMS",
    "RANKER",
    "VECTOR_LENGTH",
    "linked_file",
    "make_models",
    "may_say",
]

SCRIPT = "One, two and three good reasons."
ENDLESS = "on and on "
#: The keys of language models: one answers at once, one never ends its answer, one takes a while to load.
LLMS = ("tiny", "talker", "slow")
#: The language model whose file is a link, which a fault breaks for a while.
LINKED = "slow"
EMBEDDING = "text-embedding-vectors"
#: The key that a reranker would have, which no server may load.
RANKER = "text-embedding-ranker"
VECTOR_LENGTH = 16
#: The limits of every server in a run, which is too short for many stalls of the default length.
LIMITS = ServerLimits(load_stall_seconds=20, answer_stall_seconds=10)


def make_models(folder: Path) -> Path:
    """Make a models folder, also with links: to another program's file, to a folder, in a circle, and to no file."""
    models = ModelsFolder(folder)
    models.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script=SCRIPT)
    models.add_llm("acme/talker-GGUF/talker-Q8_0.gguf", script=ENDLESS, endless=True, context_length=4096)
    models.add_llm("acme/slow-GGUF/slow-F16.gguf", script=SCRIPT, padding_mb=96)
    models.add_embedding("acme/vectors-GGUF/vectors-Q8_0.gguf", dimensions=VECTOR_LENGTH)
    models.add_embedding("acme/ranker-GGUF/ranker-Q8_0.gguf", metadata={"bert.pooling_type": 4})
    store = folder.parent / "another store"
    store.mkdir()
    linked_file(folder).rename(store / "blob")
    linked_file(folder).symlink_to(store / "blob")
    (folder / "acme" / "vectors-GGUF").rename(store / "vectors-GGUF")
    (folder / "acme" / "vectors-GGUF").symlink_to(store / "vectors-GGUF")
    (folder / "acme" / "circle").symlink_to(folder)
    (folder / "acme" / "dangling.gguf").symlink_to(store / "nothing")
    return folder


def linked_file(folder: Path) -> Path:
    """Return the path of the link to the file of the model `LINKED`."""
    return folder / "acme" / "slow-GGUF" / "slow-F16.gguf"


def may_say(model_key: str, text: str, *, whole: bool) -> bool:
    """Return whether the text is the model's answer, or its beginning if it was cut short."""
    if model_key == "talker":
        return (ENDLESS * (len(text) // len(ENDLESS) + 1)).startswith(text)
    return text == SCRIPT if whole else SCRIPT.startswith(text)
