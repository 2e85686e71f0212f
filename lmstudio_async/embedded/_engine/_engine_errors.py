"""Conversion of failures of the engine and the machine to the errors that clients get."""

from __future__ import annotations

import errno
import re

from lmstudio_async._protocol._errors import instance_unloaded, missing_runtime, server_error
from lmstudio_async._wire._struct import MalformedError
from lmstudio_async.embedded._engine._engine import EngineFailure, EngineRequestError
from lmstudio_async.embedded._requirements import engine_remedy
from lmstudio_async.errors import LMStudioError

__all__ = ["explain", "explain_load"]

# The engine's message for a text to embed that does not fit into one batch, which is as long as the context.
_TOO_LARGE = re.compile(r"input \((\d+) tokens\) is too large to process.*batch size: (\d+)")

# The engine's message for a chat that the template itself refuses, because the model was not trained for such a chat.
_TEMPLATE_REFUSAL = re.compile(r"Jinja Exception: (.+)")

# Headline in the engine's log if it cannot parse the chat template. The load then fails.
_TEMPLATE_ERROR = "chat template parsing error"


def explain_load(key: str, failure: EngineFailure) -> Exception:
    """Make the error for a model that the engine cannot load.

    :param key: the key of the model.
    """
    if failure.missing_engine:
        return explain(failure)
    reason = failure.reason
    if not any(_TEMPLATE_ERROR in line for line in failure.log):
        return server_error(f'The model "{key}" cannot be loaded: {reason.rstrip(".")}.')
    # The engine logs the reason some lines below the headline.
    for line in failure.log:
        if line.startswith("Error: "):
            reason = line.removeprefix("Error: ")
    return server_error(
        f'The model "{key}" cannot be loaded, because the engine cannot use its chat template: {reason.rstrip(".")}.',
        "Give another template in the load config: prompt_template, such as the one of a newer conversion of the model.",
    )


def explain(error: Exception) -> Exception:
    """Return the error to send to the client. An unexpected error is returned as it is, and sent without details."""
    match error:
        case LMStudioError():
            return error
        case MalformedError():
            return server_error(f"The request cannot be understood: {error}")
        case EngineFailure(unloaded=True):
            return instance_unloaded()
        case EngineFailure(reason=reason, missing_engine=True):
            return missing_runtime(
                f"The engine that loads models cannot be used: {reason}", engine_remedy(reason)
            )
        case EngineFailure(reason=reason):
            return server_error(reason)
        case EngineRequestError(type="exceed_context_size_error", details=details):
            return server_error(
                f"The prompt has {details.get('n_prompt_tokens', 'more')} tokens, and the model was loaded with a "
                f"context of {details.get('n_ctx', 'fewer')}.",
                "Shorten the prompt, or load the model with a larger context length.",
            )
        case EngineRequestError(message=message) if found := _TOO_LARGE.search(message):
            return server_error(
                f"The text has {found[1]} tokens, and at most {found[2]} fit into the context that the model was loaded "
                "with.",
                "Shorten the text, or load the model with a larger context length if it can have one.",
            )
        case EngineRequestError(context_is_full=True):
            return server_error(
                "The context is full: requests that run at once share it.",
                "Try again when the others are done, or load the model with a larger context length or without the "
                "unified KV cache.",
            )
        case EngineRequestError(message=message) if "failed to parse grammar" in message:
            return server_error(
                "The grammar for the answer is not valid GBNF.",
                'Give its start rule the name root, such as root ::= "yes" | "no".',
            )
        case EngineRequestError(message=message) if "invalid string: surrogate" in message:
            return server_error(
                "A text has half a character in it (a lone surrogate), which no model can read.",
                'Put another one in its place: text.encode(errors="replace").decode().',
            )
        case EngineRequestError(message=message) if found := _TEMPLATE_REFUSAL.search(message):
            return server_error(f"The model's chat template refuses this chat: {found[1].strip()}")
        case EngineRequestError(message=message):
            return server_error(f"The engine refused the request: {message}")
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return server_error(
                f"The server can open no more files and connections: {error.strerror}.",
                "Unload models or close connections, or raise the limit of open files where the server runs (ulimit -n).",
            )
        case OSError(errno=errno.ENOMEM) | MemoryError():
            return server_error(
                "The server has no memory left for this.", "Unload models, or give the server more memory."
            )
        case RuntimeError() if "can't start new thread" in str(error):
            return server_error(
                "The server can start no more threads.",
                "Raise the limit of processes and threads where the server runs (ulimit -u, or pids.max of its container).",
            )
    return error
