"""The order in which predictions get tokens of a context that they share."""

from __future__ import annotations

import anyio
import pytest

from lmstudio_async.embedded._instances._token_budget import Reservation, TokenBudget


@pytest.fixture
def budget() -> TokenBudget:
    return TokenBudget(100, 4)


async def taken(budget: TokenBudget, tokens: int) -> Reservation:
    reservation = budget.reservation()
    with anyio.fail_after(20):
        await reservation.take(tokens, tokens)
    return reservation


async def test_reservations_that_fit_together_are_held_together(budget: TokenBudget) -> None:
    for _ in range(4):
        await taken(budget, 25)


async def test_a_lone_reservation_gets_at_most_the_whole_context(budget: TokenBudget) -> None:
    assert (await taken(budget, 1000)).tokens == 100


async def test_a_large_reservation_is_not_overtaken_by_small_ones(budget: TokenBudget) -> None:
    first, order = await taken(budget, 60), []

    async def take(tokens: int) -> None:
        with budget.reservation() as reservation:
            await reservation.take(tokens, tokens)
            order.append(tokens)

    async with anyio.create_task_group() as tasks:
        for tokens in (80, 30):
            tasks.start_soon(take, tokens)
            await anyio.wait_all_tasks_blocked()
        assert order == []
        first.give_back()
    assert order == [80, 30]


async def test_a_reservation_that_takes_again_comes_before_younger_ones(budget: TokenBudget) -> None:
    old, young, order = budget.reservation(), await taken(budget, 100), []

    async def take(reservation: Reservation) -> None:
        await reservation.take(100, 100)
        order.append(reservation.number)
        reservation.give_back()

    async with anyio.create_task_group() as tasks:
        for reservation in (budget.reservation(), old):
            tasks.start_soon(take, reservation)
            await anyio.wait_all_tasks_blocked()
        young.give_back()
    assert order == [1, 3]


async def test_a_waiter_that_is_cancelled_lets_the_next_one_pass(budget: TokenBudget) -> None:
    await taken(budget, 60)
    scope, order = anyio.CancelScope(), list[int]()

    async def wait_in_vain() -> None:
        with scope:
            await budget.reservation().take(50, 50)

    async def take() -> None:
        order.append((await taken(budget, 20)).tokens)

    async with anyio.create_task_group() as tasks:
        for waiter in (wait_in_vain, take):
            tasks.start_soon(waiter)
            await anyio.wait_all_tasks_blocked()
        assert order == []
        scope.cancel()
    assert scope.cancelled_caught
    assert order == [20]


async def test_keep_releases_the_other_tokens_to_the_next_reservation(budget: TokenBudget) -> None:
    first = await taken(budget, 90)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(taken, budget, 50)
        await anyio.wait_all_tasks_blocked()
        first.keep(40)


async def test_sessions_with_caches_of_their_own_never_wait() -> None:
    budget = TokenBudget(None, 4)
    for _ in range(3):
        await taken(budget, 1000)
