"""Table of the instances that a client knows: looks, and reports of its own loads and unloads, in any order."""

from __future__ import annotations

from typing import Any

import pytest

from lmstudio_async import (
    InstanceEvent,
    InstanceUnloaded,
    LMStudioCancelledError,
    LMStudioModelNotFoundError,
    ModelInstanceInfo,
    ProcessingState,
)
from lmstudio_async._handles import UnreadInfo
from lmstudio_async._instance_journal import InstanceJournal
from lmstudio_async._instance_survey import Sighting
from lmstudio_async._instance_table import InstanceTable
from lmstudio_async._protocol._departure import Departure
from tests.instance_server import instance, kinds

IDLE = ProcessingState()


def sighting(name: str, reference: str | None = None, **members: Any) -> Sighting:
    return Sighting(UnreadInfo(instance(name, reference, **members)), IDLE)


def info(name: str, reference: str | None = None, **members: Any) -> ModelInstanceInfo:
    return UnreadInfo(instance(name, reference, **members)).read()


class Table:
    """A table that has seen some instances, with its journal."""

    def __init__(self, *names: str) -> None:
        self.events: list[InstanceEvent] = []
        self.wanted_looks = 0
        self.journal = InstanceJournal(100)
        self.table = InstanceTable(self.journal, self.events.append, self._look_soon)
        self.journal.listener = self.table
        self.look(*map(sighting, names))

    def look(self, *sightings: Sighting, **departures: Departure) -> None:
        self.table.end_look(self.table.begin_look(), sightings, departures)

    def told(self) -> list[str]:
        told, self.events[:] = kinds(self.events), []
        return told

    def _look_soon(self) -> None:
        self.wanted_looks += 1


def test_the_first_look_causes_no_events() -> None:
    table = Table("a", "b")
    assert table.told() == []
    assert kinds(table.table.present()) == ["InstancePresent a", "InstancePresent b"]


def test_an_instance_is_gone_only_with_a_departure() -> None:
    table = Table("a", "b")
    table.look(sighting("b"))
    assert table.told() == []
    table.look(sighting("b"), **{"r-a": Departure("ttl")})
    assert table.told() == ["InstanceUnloaded a"]
    table.look(sighting("b"), **{"r-a": Departure("ttl")})
    assert table.told() == []


def test_unloads_come_before_loads() -> None:
    table = Table("a")
    table.look(sighting("a", "r2"), **{"r-a": Departure("unknown")})
    assert table.told() == ["InstanceUnloaded a", "InstanceLoaded a"]


@pytest.mark.parametrize("reports_reference", [True, False])
def test_an_unload_during_a_look_is_not_undone_by_it(*, reports_reference: bool) -> None:
    table = Table("a")
    began = table.table.begin_look()
    with table.journal.unloading("llm", "a", "r-a" if reports_reference else None):
        pass
    table.table.end_look(began, [sighting("a")], {})
    table.look()

    assert table.told() == ["InstanceUnloaded a"]


def test_an_unload_of_an_instance_that_no_look_has_found_is_no_load_later() -> None:
    table = Table()
    began = table.table.begin_look()
    with table.journal.unloading("llm", "a"):
        pass
    assert table.wanted_looks == 1
    table.table.end_look(began, [sighting("a")], {})
    assert table.told() == []
    # The next one has that name again.
    table.look(sighting("a", "r2"))
    assert table.told() == ["InstanceLoaded a"]


def test_a_load_during_a_look_is_told_once_and_not_undone_by_it() -> None:
    table = Table()
    began = table.table.begin_look()
    table.journal.begin_load("llm", "a").on_loaded(info("a"))
    table.table.end_look(began, [], {"r-a": Departure("unknown")})
    table.look(sighting("a"))

    assert table.told() == ["InstanceLoaded a"]


def test_a_load_that_a_look_has_found_first_is_told_once() -> None:
    table = Table()
    table.look(sighting("a"))
    table.journal.begin_load("llm", "a").on_loaded(info("a"))

    assert table.told() == ["InstanceLoaded a"]


def test_a_load_on_one_device_leaves_the_identifier_of_another_device() -> None:
    table = Table()
    there = sighting("a", "r1", deviceIdentifier="gpu-box")
    table.look(there)
    table.journal.begin_load("llm", "a").on_loaded(info("a", "r2"))
    table.journal.begin_load("llm", "a").on_loaded(info("a", "r3", deviceIdentifier="other-box"))
    table.look(there, sighting("a", "r2"), sighting("a", "r3", deviceIdentifier="other-box"))

    assert table.told() == ["InstanceLoaded a"] * 3


def test_a_look_does_not_bring_the_former_holder_of_an_identifier_back() -> None:
    table = Table("a")
    began = table.table.begin_look()
    table.journal.begin_load("llm", "a").on_loaded(info("a", "r2"))
    # This look has found the former holder, when it was there.
    table.table.end_look(began, [sighting("a")], {})
    table.look(sighting("a", "r2"))

    assert table.told() == ["InstanceUnloaded a", "InstanceLoaded a"]


def test_an_instance_whose_load_was_given_up_is_unloaded_by_this_client() -> None:
    table = Table()
    record = table.journal.begin_load("llm", "a")
    record.on_undoing(info("a"))
    # A look that the server has answered before the unload.
    table.look(sighting("a"))
    record.on_undone(info("a"))

    assert table.told() == ["InstanceLoaded a"]
    assert table.wanted_looks == 1
    assert table.journal.explain(info("a")) == Departure("unloaded_by_this_client")


def test_the_victims_of_a_load_are_gone_when_it_has_succeeded() -> None:
    table = Table("a", "b")
    record = table.journal.begin_load("llm", "new")
    for _ in range(2):
        record.on_evicting(info("a"))
    assert table.told() == []
    began = table.table.begin_look()
    record.on_loaded(info("new"))
    gone = table.events[0]
    table.table.end_look(began, [sighting("a"), sighting("b")], {})

    assert table.told() == ["InstanceUnloaded a", "InstanceLoaded new"]
    assert isinstance(gone, InstanceUnloaded)
    assert (gone.reason, gone.evicted_for) == ("evicted", gone.info and gone.info.model_key)


def test_all_victims_of_a_load_are_gone_also_on_a_server_without_references() -> None:
    table = Table()
    table.look(sighting("a", ""), sighting("b", ""))
    table.told()
    record = table.journal.begin_load("llm", "new")
    for name in ("a", "b", "a"):
        record.on_evicting(info(name, ""))
    record.on_loaded(info("new", ""))

    assert table.told() == ["InstanceUnloaded a", "InstanceUnloaded b", "InstanceLoaded new"]


def test_an_eviction_is_doubted_by_a_look_only_after_its_load_has_failed() -> None:
    table = Table("a")
    record = table.journal.begin_load("llm", "new")
    record.on_evicting(info("a"))
    table.look(sighting("a"))
    assert table.journal.explain(info("a")) == Departure("evicted", "new")

    began = table.table.begin_look()
    record.end(LMStudioCancelledError("The load was cancelled."), was_cancelled=True)
    # This look may have found it before it was evicted.
    table.table.end_look(began, [sighting("a")], {})
    assert table.journal.explain(info("a")) == Departure("evicted", "new")
    table.look(sighting("a"))
    assert table.journal.explain(info("a")) is None


def test_an_unload_that_the_server_refuses_is_no_reason() -> None:
    table = Table("a")
    with pytest.raises(LMStudioModelNotFoundError), table.journal.unloading("llm", "a"):
        raise LMStudioModelNotFoundError("There is no such instance.")
    assert table.journal.explain(info("a")) is None


def test_an_unload_of_an_instance_that_a_look_has_found_meanwhile_is_its_reason() -> None:
    table = Table()
    with table.journal.unloading("llm", "a"):
        table.look(sighting("a"))
        assert table.journal.explain(info("a")) == Departure("unloaded_by_this_client")
        assert table.journal.explain(info("b")) is None

    gone = table.events[-1]
    assert table.told() == ["InstanceLoaded a", "InstanceUnloaded a"]
    assert isinstance(gone, InstanceUnloaded)
    assert gone.reason == "unloaded_by_this_client"


def test_an_unload_that_fails_is_doubted_by_the_next_look() -> None:
    table = Table("a")
    with pytest.raises(LookupError), table.journal.unloading("llm", "a"):
        assert table.journal.explain(info("a")) == Departure("unloaded_by_this_client")
        raise LookupError
    assert table.journal.explain(info("a")) == Departure("unloaded_by_this_client")
    table.look(sighting("a"))

    assert table.told() == []
    assert table.journal.explain(info("a")) is None


def test_an_info_is_read_only_if_the_server_sent_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table("a")
    monkeypatch.setattr(UnreadInfo, "read", lambda _: pytest.fail("read again"))
    table.look(sighting("a"))
    monkeypatch.undo()
    table.look(sighting("a", lastUsedTime=1_790_000_000_000))
    table.look(sighting("a", lastUsedTime=1_790_000_000_000, contextLength=8192))

    assert table.told() == ["InstanceChanged a", "InstanceChanged a"]


def test_a_new_instance_is_idle_until_a_look_finds_it_busy() -> None:
    table = Table()
    table.journal.begin_load("llm", "a").on_loaded(info("a"))
    table.look(Sighting(sighting("a").info, None))
    table.look(Sighting(sighting("a").info, IDLE))
    table.look(Sighting(sighting("a").info, ProcessingState(status="generating", queued=1)))

    # The second look has found that the server tells states.
    assert table.told() == ["InstanceLoaded a", "InstanceChanged a", "InstanceChanged a"]


def test_the_journal_remembers_a_limited_number_of_departures() -> None:
    journal = InstanceJournal(2)
    for name in ("a", "b", "c"):
        journal.see(f"r-{name}", name)
        with journal.unloading("llm", name):
            pass

    assert journal.explain(info("a")) is None
    assert journal.explain(info("b")) == journal.explain(info("c")) == Departure("unloaded_by_this_client")


def test_an_unload_by_identifier_is_of_the_latest_instance_that_was_not_gone() -> None:
    journal = InstanceJournal(10)
    journal.see("r1", "a")
    journal.see("r2", "a")
    journal.add_departure("r2", Departure("ttl"))
    with journal.unloading("llm", "a"):
        pass

    assert journal.explain(info("a", "r2")) == Departure("ttl")
    assert journal.explain(info("a", "r1")) == Departure("unloaded_by_this_client")
