"""The intents of the clients and the schedule of the faults, both derived from one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

import attrs

__all__ = ["Fault", "Intent", "faults", "intents"]

#: Operations of clients, with their relative frequency.
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
    "list_models": 4,
    "ask_about": 4,
    "unload": 3,
    "unload_by_name": 1,
    "load_reranker": 2,
}
#: Faults, with their relative frequency.
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
#: Operations for each one that its caller cancels before its end, on average.
CANCELLED_ONE_IN = 5
#: Seconds from one fault to the next, on average.
BETWEEN_FAULTS = 0.75
#: No restarts after this share of the time, so that a leak of the server has time to show.
RESTARTS_UNTIL = 0.7


@attrs.frozen
class Intent:
    """An operation that a client is going to carry out.

    :param what: the name of a method of `Actor`, without the underscore.
    :param pick: from 0 to 1: the position of the choice among the candidates at that time.
    :param number: the amount, such as a number of tokens.
    :param cancel_after: seconds after which the operation is cancelled; None lets it finish.
    """

    what: str
    pick: float
    number: int
    cancel_after: float | None


@attrs.frozen
class Fault:
    """A fault that is going to be injected.

    :param at: seconds from the beginning.
    :param what: the name of a method of `Saboteur`, without the underscore.
    :param pick: from 0 to 1: the position of the target among the candidates at that time.
    :param seconds: its duration, if it has one.
    """

    at: float
    what: str
    pick: float
    seconds: float


def intents(seed: int, who: str) -> Iterator[Intent]:
    """Generate the intents of an actor, without an end."""
    dice = random.Random(f"{seed} {who}")
    while True:
        (what,) = dice.choices([*INTENTS], [*INTENTS.values()])
        pick, number = dice.random(), dice.randint(1, 40)
        is_cancelled, cancel_after = dice.randrange(CANCELLED_ONE_IN) == 0, dice.expovariate(5)
        yield Intent(what, pick, number, cancel_after if is_cancelled else None)


def faults(seed: int, seconds: float) -> list[Fault]:
    """Return the faults of a run of `seconds`, in the order of their times."""
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
