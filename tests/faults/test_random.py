"""Random messages from a server: each request ends with a result or an `LMStudioError`, and no task is left.

This module sends messages in any order; ``test_random_bytes`` sends bytes. To run both for hours:
``pytest --hypothesis-profile=soak tests/faults``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async import AsyncClient
from lmstudio_async._client_limits import ClientLimits
from tests.faults.attempting import attempt_all
from tests.faults.faulty_server import DROP, FaultyServer
from tests.scripted_server import INSTANCE, MODEL
from tests.soak import bounded

SECONDS = 20.0

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
numbers = st.integers(0, 6) | anything
packets = (
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                ["resolved", "progress", "success", "alreadyLoaded", "fragment", "toolCallGenerationEnd"]
            )
        },
        optional={
            "info": st.sampled_from([MODEL, INSTANCE]) | anything,
            "progress": st.floats(0, 1) | anything,
            "fragment": st.fixed_dictionaries({"content": st.text(max_size=5) | anything}) | anything,
            "stats": st.fixed_dictionaries({"stopReason": st.text(max_size=5) | anything}) | anything,
            "toolCallRequest": anything,
        },
    )
    | anything
)
kinds = [
    "rpcResult",
    "rpcError",
    "channelSend",
    "channelClose",
    "channelError",
    "communicationWarning",
    "keepAliveAck",
]
messages = st.fixed_dictionaries(
    {"type": st.sampled_from(kinds) | anything},
    optional={
        "callId": numbers,
        "channelId": numbers,
        "result": st.sampled_from([INSTANCE, [INSTANCE], [], None]) | anything,
        "error": st.fixed_dictionaries({"title": anything, "displayData": anything}) | anything,
        "message": packets,
        "warning": anything,
        "kind": anything,
    },
)
frames = (messages | anything).map(json.dumps) | st.text(max_size=20)


async def use_all_methods(lines: list[str]) -> None:
    """Make all kinds of requests to a server that sends these lines and then drops the connection."""
    server = FaultyServer("getModelInfo", [*lines, DROP])
    with anyio.fail_after(SECONDS):
        async with AsyncClient(
            server,  # type: ignore[arg-type]
            timeout=SECONDS / 2,
            _limits=ClientLimits(back_off_seconds=0.0),
        ) as client:
            (llm,) = await client.llm.list_loaded()
            server.silence("loadModel", "getOrLoad", "predict", "countTokens")
            requests: list[Callable[[], Awaitable[object]]] = [
                lambda: client.llm.load_new_instance("qwen3-4b", "qwen3-4b"),
                lambda: client.llm.model("qwen3-4b"),
                lambda: llm.respond("Hello"),
                lambda: llm.count_tokens("Hello"),
                lambda: client.llm.get_model_info("qwen3-4b"),
            ]
            await attempt_all(requests)
            assert len(await client.llm.list_loaded()) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(lines=st.lists(frames, max_size=12))
@bounded(60)
def test_requests_end_whatever_frames_the_server_sends(backend: str, lines: list[str]) -> None:
    # No task can be left, because the client's task group waits for all of them.
    anyio.run(use_all_methods, lines, backend=backend)
