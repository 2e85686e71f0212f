"""Actions of a client, written once for async and for blocking clients."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from lmstudio_async import LMStudioError, LMStudioInstanceUnloadedError, LMStudioModelNotFoundError
from tests.chaos.models import EMBEDDING, LINKED, LLMS, RANKER, VECTOR_LENGTH, may_say
from tests.chaos.plan import Intent
from tests.chaos.record import Wrong

__all__ = ["Actor", "run_blocking"]

T = TypeVar("T")

#: TTL in seconds of most instances that are loaded here.
TTL = 4
#: The share of embedding models among the loaded models.
VECTORS = 0.3
#: The most handles of a kind that an actor keeps at a time.
MOST_HANDLES = 2


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits; with a blocking client, an actor's coroutines never do."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the coroutine waited, which it must not with a blocking client")


class Actor:
    """Carries out intents with a client.

    :param client: an `AsyncClient`, or a blocking `Client` whose methods have the same names.
    :param name: prefix of the identifiers of its instances.
    """

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name
        self._llms: deque[Any] = deque()
        self._embeddings: deque[Any] = deque()

    async def act(self, intent: Intent) -> None:
        """Carry out an intent.

        :raises Wrong: if the result is wrong.
        """
        await getattr(self, f"_{intent.what}")(intent)

    # -- loading and unloading

    async def _load(self, intent: Intent) -> None:
        namespace, key, handles = self._wanted(intent)
        await self._unload_some(handles)
        loaded = await _settle(namespace.load_new_instance(key, self._identifier(intent), ttl=_ttl(intent)))
        handles.append(loaded)

    async def _watch_load(self, intent: Intent) -> None:
        namespace, key, handles = self._wanted(intent)
        await self._unload_some(handles)
        stream = namespace.load_new_instance_stream(key, self._identifier(intent), ttl=_ttl(intent))
        async with _entered(stream):
            seen = await _take(stream, intent.number // 4 + 1)
            fractions = [progress.fraction for progress in seen]
            _check(fractions == sorted(fractions), f"progress went back: {fractions}")
            if intent.number % 2:
                handles.append(await _settle(stream.wait_for_result()))

    async def _get_or_load(self, intent: Intent) -> None:
        namespace, key, handles = self._wanted(intent)
        if intent.number > 35:
            # Any loaded model.
            model = await _settle(namespace.model())
        else:
            model = await _settle(namespace.model(key, ttl=TTL))
        while len(handles) >= MOST_HANDLES:
            handles.popleft()
        handles.append(model)

    async def _unload(self, intent: Intent) -> None:
        handles = self._embeddings if intent.pick < VECTORS else self._llms
        if handles:
            await _settle(handles.popleft().unload())

    async def _unload_by_name(self, intent: Intent) -> None:
        namespace, key, _ = self._wanted(intent)
        await _settle(namespace.unload(self._identifier(intent) or key))

    async def _load_reranker(self, _: Intent) -> None:
        try:
            await _settle(self._client.embedding.load_new_instance(RANKER))
        except LMStudioModelNotFoundError as error:
            _check("it is a reranker" in str(error), f"a reranker was refused with {error}")
        else:
            raise Wrong("a reranker was loaded")

    async def _unload_some(self, handles: deque[Any]) -> None:
        while len(handles) >= MOST_HANDLES:
            try:
                await _settle(handles.popleft().unload())
            except LMStudioInstanceUnloadedError:
                pass  # its TTL, another client, or a fault unloaded it first

    # -- using

    async def _respond(self, intent: Intent) -> None:
        async with self._some_llm(intent) as llm:
            _check_answer(await _settle(llm.respond("Why?", config={"max_tokens": intent.number})))

    async def _complete(self, intent: Intent) -> None:
        async with self._some_llm(intent) as llm:
            _check_answer(await _settle(llm.complete("Why\n", config={"max_tokens": intent.number})))

    async def _stream(self, intent: Intent) -> None:
        async with self._some_llm(intent) as llm:
            stream = llm.respond_stream("Why?", config={"max_tokens": intent.number})
            try:
                async with _entered(stream):
                    fragments = await _take(stream, None)
                    result = await _settle(stream.wait_for_result())
            except LMStudioError as error:
                _check(may_say(llm.info.model_key, error.content, whole=False), f"{error.content!r} is left")
                raise
            _check_answer(result)
            joined = "".join(fragment.content for fragment in fragments)
            _check(joined == result.content, f"fragments {joined!r} make {result.content!r}")

    async def _leave_stream(self, intent: Intent) -> None:
        async with self._some_llm(intent) as llm:
            stream = llm.respond_stream("Why?")
            async with _entered(stream):
                await _take(stream, intent.number)

    async def _cancel_stream(self, intent: Intent) -> None:
        async with self._some_llm(intent) as llm:
            stream = llm.respond_stream("Why?")
            async with _entered(stream):
                await _take(stream, intent.number)
                await _settle(stream.cancel())
                _check_answer(await _settle(stream.wait_for_result()))

    async def _tokenize(self, intent: Intent) -> None:
        async with self._some_llm(intent) as llm:
            # In these models a letter is a token.
            tokens = await _settle(llm.tokenize(["ab"] * intent.number))
            one, two = tokens[0]
            _check(tokens == [[one, one + 1]] * intent.number and two == one + 1, f"tokens {tokens}")

    async def _count_tokens(self, intent: Intent) -> None:
        async with self._some_llm(intent) as llm:
            count = await _settle(llm.count_tokens("a" * intent.number))
            _check(count == intent.number, f"{count} tokens, not {intent.number}")

    async def _embed(self, intent: Intent) -> None:
        async with self._some_embedding(intent) as model:
            vectors = await _settle(model.embed([f"{n} reasons" for n in range(intent.number)]))
            _check([len(each) for each in vectors] == [VECTOR_LENGTH] * intent.number, f"vectors {vectors}")
            _check(intent.number == 1 or vectors[0] != vectors[1], "all vectors are alike")

    # -- listing and inspecting

    async def _list_models(self, intent: Intent) -> None:
        if intent.pick < 0.5:
            loaded = await _settle(self._client.list_loaded_models())
            identifiers = [each.identifier for each in loaded]
            _check(len(set(identifiers)) == len(identifiers), f"names come twice: {identifiers}")
        else:
            downloaded = await _settle(self._client.list_downloaded_models())
            keys = {model.model_key for model in downloaded}
            _check(keys | {LINKED} == {*LLMS, EMBEDDING}, f"these models: {keys}")

    async def _ask_about(self, intent: Intent) -> None:
        async with self._some_llm(intent) as llm:
            info = await _settle(llm.get_info())
            same = info.instance_reference == llm.info.instance_reference
            _check(same, f"{llm} means {info.identifier!r} all at once")
            await _settle(llm.get_processing_state())
            await _settle(llm.get_load_config())

    # -- choosing

    def _wanted(self, intent: Intent) -> tuple[Any, str, deque[Any]]:
        if intent.pick < VECTORS:
            return self._client.embedding, EMBEDDING, self._embeddings
        return self._client.llm, LLMS[intent.number % len(LLMS)], self._llms

    def _identifier(self, intent: Intent) -> str | None:
        """Return no identifier, one of its own, or one that other clients use too."""
        kind = "vectors" if intent.pick < VECTORS else "llm"
        return (None, f"{self._name}-{kind}-{intent.number}", f"everybody's {kind}", None)[intent.number % 4]

    @asynccontextmanager
    async def _some_llm(self, intent: Intent) -> AsyncIterator[Any]:
        if not self._llms:
            self._llms.append(await _settle(self._client.llm.load_new_instance(_key(intent), ttl=TTL)))
        async with _using(self._llms, intent) as llm:
            yield llm

    @asynccontextmanager
    async def _some_embedding(self, intent: Intent) -> AsyncIterator[Any]:
        if not self._embeddings:
            self._embeddings.append(await _settle(self._client.embedding.model(EMBEDDING, ttl=TTL)))
        async with _using(self._embeddings, intent) as model:
            yield model


@asynccontextmanager
async def _using(handles: deque[Any], intent: Intent) -> AsyncIterator[Any]:
    """Provide one of the handles; drop it from them if its instance was unloaded."""
    handle = handles[int(intent.pick * len(handles))]
    try:
        yield handle
    except LMStudioInstanceUnloadedError:
        if handle in handles:
            handles.remove(handle)
        raise


def _key(intent: Intent) -> str:
    return LLMS[intent.number % 2]


def _ttl(intent: Intent) -> int | None:
    return None if intent.number % 5 == 0 else TTL


def _check_answer(result: Any) -> None:
    reason, text, key = result.stats.stop_reason, result.content, result.model_info.model_key
    _check(may_say(key, text, whole=reason == "eosFound"), f"{key} said {text!r} ({reason})")


def _check(right: bool, otherwise: str) -> None:
    if not right:
        raise Wrong(otherwise)


# -- the difference between async and blocking clients


async def _settle(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


@asynccontextmanager
async def _entered(stream: Any) -> AsyncIterator[None]:
    if hasattr(stream, "__aenter__"):
        async with stream:
            yield
    else:
        with stream:
            yield


async def _take(stream: Any, count: int | None) -> Sequence[Any]:
    """Take at most `count` items of a stream; None for all."""
    taken: list[Any] = []
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            taken.append(item)
            if len(taken) == count:
                break
    else:
        for item in stream:
            taken.append(item)
            if len(taken) == count:
                break
    return taken
