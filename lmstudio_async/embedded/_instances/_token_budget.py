"""Reservations of predictions for tokens of the KV cache that all sessions of an instance share."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import anyio

__all__ = ["Reservation", "TokenBudget"]


class TokenBudget:
    """Tokens that predictions reserve before their request is sent to the engine, in the order of their arrival.

    llama.cpp does not check whether simultaneous predictions fit into the shared cache together. When the cache is
    full, it ends all of them with an error. So only predictions whose tokens fit together may run together.

    :param capacity: the tokens of the cache; None if each session has a cache of its own, so that nothing is shared.
    :param sessions: the number of predictions that the engine runs at a time.
    """

    def __init__(self, capacity: int | None, sessions: int) -> None:
        self.capacity = capacity if sessions > 1 else None
        self.share = (capacity or 0) // sessions
        self._count = 0
        self._holding: set[Reservation] = set()
        self._waiting: list[Reservation] = []

    def reservation(self) -> Reservation:
        """Make a reservation without tokens. Its place in the queue is after all reservations made before."""
        self._count += 1
        return Reservation(self, self._count)

    async def _take(self, reservation: Reservation) -> None:
        self._waiting.append(reservation)
        self._waiting.sort(key=lambda each: each.number)
        self._grant()
        try:
            await reservation.granted.wait()
        finally:
            if reservation in self._waiting:
                self._waiting.remove(reservation)
                self._grant()

    def _give_back(self, reservation: Reservation) -> None:
        self._holding.discard(reservation)
        self._grant()

    def _grant(self) -> None:
        """Grant waiting reservations that fit, the oldest first, so that small ones do not overtake a large one."""
        assert self.capacity is not None
        while self._waiting:
            first, free = self._waiting[0], self.capacity - sum(each.tokens for each in self._holding)
            # If no other reservation holds tokens, the first gets all free tokens, even if it needs more.
            if first.least > free and self._holding:
                return
            first.tokens = min(first.most, free)
            self._holding.add(self._waiting.pop(0))
            first.granted.set()


class Reservation:
    """The part of the budget that one prediction holds. Leaving the block releases it.

    :ivar number: its place in the queue.
    :ivar tokens: the number of tokens that it holds.
    """

    def __init__(self, budget: TokenBudget, number: int) -> None:
        self.number = number
        self.tokens = 0
        self.least = 0
        self.most = 0
        self.granted = anyio.Event()
        self._budget = budget

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()

    async def take(self, least: int, most: int) -> None:
        """Release the tokens held so far, wait until enough tokens are free, and hold them.

        :param least: the number of tokens that must be free. A number above the capacity means the whole capacity.
        :param most: the maximum number of tokens to hold, as far as they are free.
        """
        if self._budget.capacity is None:
            return
        self.give_back()
        self.least, self.most = min(least, self._budget.capacity), max(least, most)
        self.granted = anyio.Event()
        await self._budget._take(self)

    def keep(self, tokens: int) -> None:
        """Release all but a number of tokens."""
        if self._budget.capacity is not None and tokens < self.tokens:
            self.tokens = tokens
            self._budget._grant()

    def give_back(self) -> None:
        """Release all tokens. Idempotent."""
        if self._budget.capacity is not None:
            self.tokens = 0
            self._budget._give_back(self)
