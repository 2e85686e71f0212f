"""Speculative decoding: the choice of a draft model, and its settings.

A draft model proposes tokens that the main model only has to check. The answer is the same, but takes less time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
import attrs

from lmstudio_async._protocol._errors import server_error, unsupported_feature
from lmstudio_async._wire._kv import default
from lmstudio_async.embedded._catalog._catalog import Catalog, CatalogEntry
from lmstudio_async.embedded._catalog._gguf import GgufArray, GgufError, GgufHeader, read_header
from lmstudio_async.embedded._engine._engine_spec import EngineSpec
from lmstudio_async.embedded._versions import engine_version
from lmstudio_async.errors import LMStudioModelNotFoundError

__all__ = ["find_draft", "with_draft"]

_PREFIX: Final = "llm.prediction.speculativeDecoding."
_EXACT: Final = "numDraftTokensExact"
_MOST: Final = "maxTokensToDraft"
_LEAST: Final = "minDraftLengthToConsider"
_PROBABILITY: Final = "minContinueDraftingProbability"

_TOKENS: Final = "tokenizer.ggml.tokens"
# The engine allows these differences: the first tokens are special ones, and vocabularies are padded to round numbers.
_FIRST_COMPARED: Final = 5
_MOST_MORE: Final = 128


async def find_draft(catalog: Catalog, model: CatalogEntry, key: str) -> CatalogEntry:
    """Find the downloaded model that is to draft for another one.

    :raises LMStudioModelNotFoundError: no model has this key.
    :raises LMStudioDomainMismatchError: the model of this key is no LLM.
    :raises LMStudioUnsupportedFeatureError: its tokens differ from those of the main model, so it cannot draft for it.
    """
    try:
        draft, _ = await anyio.to_thread.run_sync(catalog.resolve, key, "llm")
    except LMStudioModelNotFoundError as error:
        title = f'Cannot find the draft model "{key}"'
        raise LMStudioModelNotFoundError(
            title, {**error.server_error, "title": title, "rootTitle": title}
        ) from None
    reason = await anyio.to_thread.run_sync(_misfit_of_files, model.file, draft.file)
    if reason is not None:
        raise unsupported_feature(
            "speculativeDecoding",
            engine_version(),
            f'the model "{draft.model_key}" cannot draft for "{model.model_key}": {reason}. Take a smaller model of '
            "the same family, with the same tokens.",
        )
    return draft


def with_draft(spec: EngineSpec, given: Mapping[str, Any], draft: CatalogEntry | None) -> EngineSpec:
    """Return the spec of an engine that drafts as a prediction config requires.

    :param spec: the spec of the engine as it was loaded, maybe with a draft model that the load config names.
    :param given: the prediction config by wire key.
    :param draft: the draft model that the prediction config names; None if it names none.
    :raises LMStudioServerError: the config contradicts itself, or has settings for a draft model and names none.
    """
    asked = {
        name: given[_PREFIX + name]
        for name in (_EXACT, _MOST, _LEAST, _PROBABILITY)
        if _PREFIX + name in given
    }
    usual = {
        _MOST: spec.draft_max_tokens,
        _LEAST: spec.draft_min_tokens,
        _PROBABILITY: spec.draft_min_probability,
    }
    path = spec.draft_model_path
    if draft is not None and draft.file != path:
        path = draft.file
        usual = {name: default(_PREFIX + name) for name in usual}
    if path is None:
        for name, value in asked.items():
            if value != default(_PREFIX + name):
                raise server_error(
                    f"{_PREFIX}{name} has no meaning without a draft model: set {_PREFIX}draftModel."
                )
        return spec
    if _EXACT in asked:
        for name in (_MOST, _PROBABILITY):
            if asked.get(name, default(_PREFIX + name)) != default(_PREFIX + name):
                raise server_error(
                    f"{_PREFIX}{_EXACT} leaves no choice: {_PREFIX}{name} cannot be set beside it."
                )
        asked |= {_MOST: asked[_EXACT], _PROBABILITY: 0.0}
    settings = usual | asked
    if settings[_LEAST] > settings[_MOST]:
        raise server_error(
            f"{_PREFIX}{_LEAST} must be at most the number of tokens to draft, {settings[_MOST]}, "
            f"not {settings[_LEAST]}."
        )
    return attrs.evolve(
        spec,
        draft_model_path=path,
        draft_max_tokens=settings[_MOST],
        draft_min_tokens=settings[_LEAST],
        draft_min_probability=settings[_PROBABILITY],
    )


def _misfit_of_files(model: Path, draft: Path) -> str | None:
    if model == draft:
        return None
    try:
        return _misfit(model, model.stat().st_mtime_ns, draft, draft.stat().st_mtime_ns)
    except (OSError, GgufError):
        # Leave a faulty file to the engine, whose error message is better.
        return None


@lru_cache(maxsize=64)
def _misfit(model: Path, _model_changed: int, draft: Path, _draft_changed: int) -> str | None:
    """Return how the tokens of two models differ, or None. Cached until a file changes: vocabularies are long."""
    ours, theirs = (read_header(path, arrays=[_TOKENS]) for path in (model, draft))
    kinds = [header.text("tokenizer.ggml.model") for header in (ours, theirs)]
    if kinds[0] != kinds[1]:
        return f"its tokenizer is of another kind ({kinds[1]}, not {kinds[0]})"
    for mark in ("bos", "eos"):
        marks = [_mark(header, mark) for header in (ours, theirs)]
        if None not in marks and marks[0] != marks[1]:
            return f"its {mark.upper()} token is another one"
    tokens, others = ours.metadata.get(_TOKENS, ()), theirs.metadata.get(_TOKENS, ())
    if isinstance(tokens, GgufArray) or isinstance(others, GgufArray):
        return None
    if abs(len(tokens) - len(others)) > _MOST_MORE:
        return f"its vocabulary has {len(others)} tokens, not about {len(tokens)}"
    for number, (token, other) in enumerate(zip(tokens, others, strict=False)):
        if number >= _FIRST_COMPARED and token != other:
            return f"its vocabulary is another one (token {number} is {other[:40]!r}, not {token[:40]!r})"
    return None


def _mark(header: GgufHeader, mark: str) -> tuple[bool, int | None] | None:
    """Return whether every prompt gets a BOS or EOS token, and its id; None if the file leaves that to the engine."""
    added = header.metadata.get(f"tokenizer.ggml.add_{mark}_token")
    if not isinstance(added, bool):
        return None
    return added, header.number(f"tokenizer.ggml.{mark}_token_id") if added else None
