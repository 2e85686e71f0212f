"""`LoadFeed` without a server: the tests feed it the packets of a server, in any order."""

from __future__ import annotations

import anyio
import pytest

from lmstudio_async import (
    LMStudioChannelClosedError,
    LMStudioProtocolError,
    LMStudioServerError,
    ModelInfo,
    ModelInstanceInfo,
)
from lmstudio_async._instance_journal import InstanceJournal
from lmstudio_async._load_feed import LoadFeed, LoadProgress
from lmstudio_async._wire._models import (
    AlreadyLoaded,
    LoadProgressPacket,
    Progress,
    Resolved,
    StartLoading,
    Success,
    UnloadingOtherJITModel,
)
from lmstudio_async._wire._struct import Unknown

MODEL = ModelInfo(type="llm", model_key="qwen3-4b")
INSTANCE = ModelInstanceInfo(type="llm", model_key="qwen3-4b", identifier="qwen3-4b", instance_reference="r1")


@pytest.fixture
def feed() -> LoadFeed:
    return LoadFeed(
        "Model load", makes_instance=True, record=InstanceJournal(10).begin_load("llm", "qwen3-4b")
    )


def phases(feed: LoadFeed) -> list[tuple[str, float]]:
    return [(progress.phase, progress.fraction) for progress in feed.items]


def test_a_load_reports_its_phases_in_order(feed: LoadFeed) -> None:
    for packet in (Resolved(info=MODEL), Progress(progress=0.5), Success(info=INSTANCE)):
        feed.feed(packet)

    assert phases(feed) == [("resolved", 0.0), ("loading", 0.5), ("loaded", 1.0)]
    assert feed.succeeded


def test_unread_progress_is_conflated_to_the_latest_value(feed: LoadFeed) -> None:
    for fraction in (0.1, 0.2, 0.3):
        feed.feed(Progress(progress=fraction))

    assert list(feed.items) == [LoadProgress("loading", 0.3)]


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.4, 0.5), (0.5, -1.0), (0.5, 1.0), (0.5, 7.0), (0.5, float("nan"))]
)
def test_progress_never_goes_back_and_reaches_one_only_with_the_instance(
    feed: LoadFeed, fractions: tuple[float, ...]
) -> None:
    for fraction in fractions:
        feed.feed(Progress(progress=fraction))

    assert phases(feed) == [("loading", 0.5)]


def test_an_eviction_names_the_instance_that_is_unloaded(feed: LoadFeed) -> None:
    feed.feed(UnloadingOtherJITModel(info=INSTANCE))
    feed.feed(StartLoading(identifier="other", info=MODEL))
    feed.feed(LoadProgressPacket(progress=0.2))

    assert [progress.phase for progress in feed.items] == ["evicting", "resolved", "loading"]
    assert feed.items[0].info == INSTANCE


def test_a_model_that_is_loaded_already_is_loaded_at_once(feed: LoadFeed) -> None:
    feed.feed(AlreadyLoaded(info=INSTANCE))

    assert phases(feed) == [("loaded", 1.0)]


def test_progress_of_an_ambiguous_key_names_the_candidates(feed: LoadFeed) -> None:
    feed.feed(Resolved(info=MODEL, ambiguous=["qwen3-4b@q4_k_m", "qwen3-4b@q8_0"]))

    assert feed.items[0].ambiguous == ("qwen3-4b@q4_k_m", "qwen3-4b@q8_0")


def test_packets_of_unknown_types_are_ignored(feed: LoadFeed) -> None:
    feed.feed(Unknown(extra={"type": "warmingUp"}))

    assert not feed.items
    assert not feed.done


def test_a_channel_closed_without_a_result_is_a_channel_closed_error(feed: LoadFeed) -> None:
    feed.end(None)

    assert isinstance(feed.error, LMStudioChannelClosedError)


def test_a_result_is_kept_if_its_channel_ends_with_an_error(feed: LoadFeed) -> None:
    feed.feed(Success(info=INSTANCE))
    feed.end(LMStudioServerError("too late"))

    assert feed.error is None


def test_an_instance_without_an_identifier_is_a_protocol_error(feed: LoadFeed) -> None:
    feed.feed(Success(info=ModelInstanceInfo()))

    assert isinstance(feed.error, LMStudioProtocolError)


async def test_a_packet_sets_the_changed_event(feed: LoadFeed) -> None:
    news = feed.changed = anyio.Event()
    feed.feed(Progress(progress=0.5))

    with anyio.fail_after(20):
        await news.wait()
