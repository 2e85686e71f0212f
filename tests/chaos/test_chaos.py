"""Tests of a short chaos run, a few cycles, and their checks. ``tox run -e chaos`` and ``-e soak`` run for longer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from contextlib import suppress

import anyio
import pytest

import lmstudio_async as lms
from tests.chaos.left_over import Held
from tests.chaos.plan import faults, intents
from tests.chaos.proxy import Proxy
from tests.chaos.record import Record, Wrong
from tests.processes import SEARCH_PATH, needs_proc


@pytest.fixture
def anyio_backend() -> str:
    """A run has event loops of its own."""
    return "asyncio"


def run(module: str, *arguments: str) -> tuple[int, str]:
    """Run a module as a program of its own, so that no resource of other tests is counted."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"PYTHONPATH": SEARCH_PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=170,
        check=False,
    )
    return done.returncode, done.stdout


@needs_proc
def test_chaos_leaves_nothing_behind_and_every_operation_ends_well() -> None:
    code, output = run("tests.chaos", "--seconds", "5", "--clients", "7", "--seed", "4")
    assert code == 0, output


@needs_proc
def test_loading_and_unloading_again_and_again_leaves_nothing_behind() -> None:
    code, output = run("tests.chaos.cycles", "--cycles", "50")
    assert code == 0, output


def test_equal_seeds_give_equal_faults_and_intents() -> None:
    one, same, other = faults(1, 60), faults(1, 60), faults(2, 60)
    assert one == same != other
    wanted, again = intents(1, "somebody"), intents(1, "somebody")
    assert [next(wanted) for _ in range(50)] == [next(again) for _ in range(50)]


@pytest.mark.parametrize(
    "error",
    [
        OSError("foreign"),
        Wrong("not what it says"),
        lms.LMStudioProtocolError("odd"),
        lms.LMStudioServerError("Internal server error"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_record_notes_an_error_that_no_operation_may_end_with(error: Exception) -> None:
    record = Record()
    with record.operation("somebody", "respond"):
        raise error
    assert len(record.amiss) == 1
    assert record.outcomes == {("respond", type(error).__name__): 1}


def test_record_only_counts_an_error_that_a_fault_explains() -> None:
    record = Record()
    with record.operation("somebody", "respond"):
        raise lms.LMStudioConnectionBrokenError("cut")
    with record.operation("somebody", "respond"):
        pass
    assert record.amiss == []
    assert record.outcomes.total() == 2


def test_operation_is_overdue_until_it_ends() -> None:
    record = Record()
    with record.operation("somebody", "respond"):
        assert record.overdue(0)
        assert not record.overdue(60)
    assert not record.overdue(0)


@pytest.mark.parametrize(
    ("after", "more"),
    [
        (Held({"threads": Counter({"reader": 1})}, 20), []),
        (
            Held({"threads": Counter({"reader": 2})}, 20),
            ["threads that were not there before: {'reader': 1}"],
        ),
        (Held({"threads": Counter({"other": 1})}, 20), ["threads that were not there before: {'other': 1}"]),
        (Held({"threads": Counter()}, 90), ["memory that has grown from 20 to 90 MB"]),
    ],
    ids=["the same", "one more", "another one", "memory"],
)
def test_held_more_than_reports_new_threads_and_grown_memory(after: Held, more: list[str]) -> None:
    assert after.more_than(Held({"threads": Counter({"reader": 1})}, 20)) == more


async def test_proxy_forwards_bytes_whole_and_in_pieces_until_it_cuts() -> None:
    sent = bytes(range(256)) * 100

    async def echo(stream: anyio.abc.SocketStream) -> None:
        with suppress(anyio.BrokenResourceError):
            async with stream:
                async for piece in stream:
                    await stream.send(piece)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    with anyio.fail_after(20):
        async with listener, anyio.create_task_group() as tasks, Proxy(port, seed=1) as proxy:
            tasks.start_soon(listener.serve, echo)
            host, _, at = proxy.address.partition(":")
            for proxy.splits in (False, True):
                async with await anyio.connect_tcp(host, int(at)) as stream:
                    await stream.send(sent)
                    heard = b""
                    while len(heard) < len(sent):
                        heard += await stream.receive()
                    assert heard == sent
                    proxy.cut_all()
                    with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                        await stream.receive()
            tasks.cancel_scope.cancel()
