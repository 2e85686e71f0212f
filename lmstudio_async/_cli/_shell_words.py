"""Messages of the SDK and of the embedded server in the words of the command line: options, not calls in Python."""

from __future__ import annotations

import re

from lmstudio_async._cli._setting_names import with_setting_names

__all__ = ["in_shell_words"]

_NEW_HANDLE = r"Get a new handle: ensure_instance\(.*?handle that lasts\."

#: Advice for programs, and the advice for users of a shell in its place. Each match counts, in this order.
_WORDS = (
    (
        r"Give it one by api_tokens=\[token\]: (\S+), with",
        r"Give it one with --token-file FILE or --token \1, with",
    ),
    (r'EmbeddedServer\(\["model\.gguf", "folder"\]\)', "--models model.gguf --models folder"),
    (
        rf"(?:{_NEW_HANDLE} )?To keep an instance longer, load it with a longer ttl, [^.]*\.",
        "Try again, which loads the model again. To keep it longer: lmsa load KEY --ttl never",
    ),
    (
        r"The server keeps only one of the models that model\(\) loads\. .*loads the model again\.",
        (
            "The server keeps only one of the models that are loaded just in time. Try again, which loads the "
            "model again. One that is never evicted: lmsa load KEY"
        ),
    ),
    (
        rf"The instance of this handle was unloaded by (.*), as model\(\) does; (.*)\. {_NEW_HANDLE} Instances of .*\.",
        (
            r"The instance was unloaded by \1; \2. Try again, which loads the model again. One that is never evicted: "
            "lmsa load KEY"
        ),
    ),
    (_NEW_HANDLE, "Try again, which loads the model again."),
    (r" model\(\) returns a handle of it\.", " To see: lmsa ps"),
    (
        r"search with fewer words, client\.repository\.search_models\(\.\.\.\)",
        "search with fewer words: lmsa pull WORDS",
    ),
    (r"raise (\w+) in ServerLimits", r"raise \1: lmsa serve --limit \1=SECONDS"),
    (r"\Amodels has (?=an empty|a path|the path)", "--models has "),
    (r"\Aembedding_models are", "--embedding-model takes"),
)


def in_shell_words(message: str) -> str:
    """Return a message with options, settings and commands in place of those of a program and of the protocol."""
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message, flags=re.DOTALL)
    return with_setting_names(message)
