"""Names and phrases of the core, and of the facade."""

from __future__ import annotations

import re

__all__ = ["BY_HAND", "CONSTRUCTOR", "CONVENIENCE", "CORE", "FACADE", "PROSE", "GenerateError", "blocking"]


CORE, FACADE = "lmstudio_async", "lmstudio_sync"

#: Files of the package that are written by hand. All other files are generated.
BY_HAND = {
    "_bridge.py",
    "_default_client.py",
    "_facade.py",
    "_generate.py",
    "_loop.py",
    "_signal_safe.py",
    "_timeouts.py",
    "_tracebacks.py",
}

#: Phrases of the core's docstrings, and of the facade's. Each must be found somewhere; it may be cut by a line end.
PROSE = {
    "await it, iterate": "wait for it, iterate",
    "await its handle": "wait for its handle",
    "await its result": "wait for its result",
    "await the model's key": "wait for the model's key",
    "entered, iterated over or awaited": "entered, iterated over or waited for",
    "cancellation of the task": "an interrupt",
    "Enter it, or make it with `open`. A client that is used without either opens itself.": "It opens itself at first use.",
    "from any task": "from any thread",
    "respond_stream(...)`` works": "respond_stream(...).start()`` works",
    "or a cancellation while waiting": "or an interrupt while waiting",
    "None, the default, waits for ever; connecting always has a limit.": (
        'None waits for ever; ``"default"`` takes the value of `get_sync_api_timeout`. Connecting always has a limit.\n'
        ":param backend: the event loop of the background thread."
    ),
    "LMStudioRuntimeError: before the client is opened.": (
        "LMStudioUnreachableError: if no server was named and none was found."
    ),
}

#: Parameters of the client's constructor that the core does not have, or has with another type or default.
CONSTRUCTOR = {
    "timeout": ('float | Literal["default"] | None', '"default"'),
    "backend": ('Literal["asyncio", "trio"]', '"asyncio"'),
}

#: Methods of the default client as functions: name -> namespace, class, method, example.
CONVENIENCE = {
    "llm": ("llm", "LlmNamespace", "model", 'llm = lms.llm("llama-3.2-1b-instruct", ttl=3600)'),
    "embedding_model": (
        "embedding",
        "EmbeddingNamespace",
        "model",
        'model = lms.embedding_model("nomic-embed-text-v1.5")',
    ),
    "list_loaded_models": ("", "Client", "list_loaded_models", ""),
    "list_downloaded_models": ("", "Client", "list_downloaded_models", ""),
    "prepare_image": (
        "",
        "Client",
        "prepare_image",
        (
            'llm = lms.llm("qwen2-vl-2b-instruct")\n'
            'image = lms.prepare_image("cat.png")\n'
            "chat = lms.Chat()\n"
            'chat.add_user_message("What is this?", images=[image])\n'
            "print(llm.respond(chat))"
        ),
    ),
}


class GenerateError(Exception):
    """The core has something that no rule here covers, or a rule covers nothing in the core."""


def blocking(text: str) -> str:
    """Return code or a name without ``async``, ``await`` and ``Async``."""
    text = re.sub(r"\basync (with|for|def)\b", r"\1", text)
    text = re.sub(r"\bawait ", "", text)
    text = re.sub(r"\((client(?:\.\w+)*\(\))\)\.", r"\1.", text)
    return re.sub(r"\bAsync(?=[A-Z])", "", text).replace("aclose", "close")
