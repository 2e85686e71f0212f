"""Each fault of the table, with the async and the blocking client: its outcome, and the success of the next request."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import anyio
import pytest

import lmstudio_sync
from lmstudio_async import AsyncClient
from lmstudio_async._client_limits import ClientLimits
from tests.faults.faulty_server import FaultyServer
from tests.faults.table import FAULTS, REQUESTS, Fault

each_fault = pytest.mark.parametrize("fault", FAULTS, ids=str)


@pytest.fixture
def limits(fault: Fault) -> ClientLimits:
    limits = ClientLimits(back_off_seconds=0.001)
    if fault.endpoint == "authentication" and fault.timeout is not None:
        limits = limits._replace(connect_seconds=fault.timeout)
    return limits


@pytest.fixture
def server(fault: Fault) -> FaultyServer:
    return FaultyServer(fault.endpoint, fault.lines, silence=fault.timeout)


def outcome(fault: Fault) -> AbstractContextManager[Any]:
    return nullcontext() if fault.error is None else pytest.raises(fault.error, match=fault.match or None)


def check(fault: Fault, server: FaultyServer, raised: Any) -> None:
    """Check that the error has exactly the expected type, and that only a loss caused a second connection."""
    if fault.error is not None:
        assert raised.type is fault.error
        assert raised.value.content == fault.content
    namespaces = 2 if fault.endpoint == "listDownloadedModels" else 1
    assert server.connections == namespaces + fault.drops


@each_fault
async def test_fault_has_its_outcome_with_the_async_client(
    fault: Fault, server: FaultyServer, limits: ClientLimits
) -> None:
    request, llm = REQUESTS[fault.endpoint], None
    with anyio.fail_after(20 + (fault.timeout or 0)):
        async with AsyncClient(server, timeout=fault.timeout, _limits=limits) as client:  # type: ignore[arg-type]
            if fault.endpoint != "authentication":
                (llm,) = await client.llm.list_loaded()
            with outcome(fault) as raised:
                await request(client, llm)

            (llm,) = await client.llm.list_loaded()
            await request(client, llm)
    check(fault, server, raised)


@each_fault
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_fault_has_its_outcome_with_the_blocking_client(
    fault: Fault, server: FaultyServer, limits: ClientLimits, backend: Any
) -> None:
    request, llm = REQUESTS[fault.endpoint], None
    timeout = fault.timeout or 20
    with lmstudio_sync.Client(
        server,  # type: ignore[arg-type]
        timeout=timeout,
        backend=backend,
        _limits=limits,
    ) as client:
        if fault.endpoint != "authentication":
            (llm,) = client.llm.list_loaded()
        with outcome(fault) as raised:
            request(client, llm)

        (llm,) = client.llm.list_loaded()
        request(client, llm)
    check(fault, server, raised)


def test_the_table_has_no_line_twice() -> None:
    assert len({str(fault) for fault in FAULTS}) == len(FAULTS)
