"""What will be wanted and what will go wrong: all of it out of one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

import attrs

__all__ = ["Fault", "Intent", "faults", "intents"]

#: What clients do, and how often one thing for another.
INTENTS: Mapping[str, int] = {
    "load": 4,
    "watch_load": 2,
    "get_or_load": 3,
    "respond": 12,
    "stream": 6,
    "leave_stream": 4,
    "cancel_stream": 4,
    "complete": 4,
    "embed": 10,
    "tokenize": 8,
    "count_tokens": 4,
    "look_around": 4,
    "ask_about": 4,
    "unload": 3,
    "unload_by_name": 1,
    "load_reranker": 2,
}
#: What goes wrong.
FAULTS: Mapping[str, int] = {
    "cut": 8,
    "cut_half_way": 6,
    "cut_all": 1,
    "stall": 3,
    "split": 2,
    "refuse": 1,
    "kill_worker": 6,
    "crash_worker": 3,
    "stop_worker": 2,
    "stop_worker_for_good": 2,
    "break_link": 2,
    "restart": 1,
    "kill_server": 1,
}
#: One operation of so many is given up half-way by whoever wants it.
IMPATIENT = 5
#: Seconds from one fault to the next, on average.
BETWEEN_FAULTS = 0.75
#: The last part of the time has no restarts, so that a server that leaks has the time for it.
RESTARTS_UNTIL = 0.7


@attrs.frozen
class Intent:
    """Something that a client is going to do.

    :param what: the name of a method of `Actor`.
    :param pick: from 0 to 1: which one of what there will be to choose from.
    :param number: how much of it.
    :param patience: seconds after which it is cancelled; None lets it come to its end.
    """

    what: str
    pick: float
    number: int
    patience: float | None


@attrs.frozen
class Fault:
    """Something that is going to go wrong.

    :param at: seconds from the beginning.
    :param what: the name of a method of `Saboteur`.
    :param pick: from 0 to 1: which one it hits of those that are there by then.
    :param seconds: how long it lasts, if it lasts.
    """

    at: float
    what: str
    pick: float
    seconds: float


def intents(seed: int, who: str) -> Iterator[Intent]:
    """What somebody is going to do, without an end."""
    dice = random.Random(f"{seed} {who}")
    while True:
        (what,) = dice.choices([*INTENTS], [*INTENTS.values()])
        pick, number = dice.random(), dice.randint(1, 40)
        impatient, patience = dice.randrange(IMPATIENT) == 0, dice.expovariate(5)
        yield Intent(what, pick, number, patience if impatient else None)


def faults(seed: int, seconds: float) -> list[Fault]:
    """What is going to go wrong in so much time."""
    dice = random.Random(f"{seed} faults")
    at = dice.expovariate(1 / BETWEEN_FAULTS)
    planned = []
    while at < seconds:
        (what,) = dice.choices([*FAULTS], [*FAULTS.values()])
        pick, lasting = dice.random(), dice.uniform(0.1, 4)
        if what not in ("restart", "kill_server") or at < RESTARTS_UNTIL * seconds:
            planned.append(Fault(at, what, pick, lasting))
        at += dice.expovariate(1 / BETWEEN_FAULTS)
    return planned
