"""The tokens of a KV cache that the sessions of one instance share, reserved by its predictions."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import anyio

__all__ = ["Reservation", "TokenBudget"]


class TokenBudget:
    """Tokens that predictions reserve before the engine sees them, in the order in which they came.

    llama.cpp checks no prediction against the others. When the shared cache is full, it ends all of them with an
    error, so only predictions whose tokens fit together may run together.

    :param capacity: the tokens of the cache; None if each session has a cache of its own, so that nothing is shared.
    :param sessions: the predictions that the engine runs at a time.
    """

    def __init__(self, capacity: int | None, sessions: int) -> None:
        self.capacity = capacity if sessions > 1 else None
        self.share = (capacity or 0) // sessions
        self._count = 0
        self._holding: set[Reservation] = set()
        self._waiting: list[Reservation] = []

    def reservation(self) -> Reservation:
        """Make a reservation of no tokens yet. Its place in the queue is behind all that were made before."""
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
        """Grant what fits, the oldest first: a large reservation is not overtaken by small ones."""
        assert self.capacity is not None
        while self._waiting:
            first, free = self._waiting[0], self.capacity - sum(each.tokens for each in self._holding)
            # One that is alone gets what there is, whatever it asks for.
            if first.least > free and self._holding:
                return
            first.tokens = min(first.most, free)
            self._holding.add(self._waiting.pop(0))
            first.granted.set()


class Reservation:
    """The part of the budget that one prediction holds. Leaving the block gives it back.

    :ivar number: its place in the queue.
    :ivar tokens: what it holds.
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
        """Wait until so many tokens are free, and hold them. The tokens that were held before are given back.

        :param least: how many have to be free. More than the capacity counts as all of it.
        :param most: how many to hold if they are free, too.
        """
        if self._budget.capacity is None:
            return
        self.give_back()
        self.least, self.most = min(least, self._budget.capacity), max(least, most)
        self.granted = anyio.Event()
        await self._budget._take(self)

    def keep(self, tokens: int) -> None:
        """Give back what is held beyond so many tokens."""
        if self._budget.capacity is not None and tokens < self.tokens:
            self.tokens = tokens
            self._budget._grant()

    def give_back(self) -> None:
        """Give back all that is held. Idempotent."""
        if self._budget.capacity is not None:
            self.tokens = 0
            self._budget._give_back(self)
