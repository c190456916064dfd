"""What is given up while something else of it is under way: guards and places
that somebody else uses just then, tickets that Redis has not answered for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

import programs
from conftest import PATIENCE, Redis, Storage, frozen, soon, tickets, until
from lock_store import LockGuard, LockLost, LockStore


async def _are(store: LockStore, count: int) -> bool:
    return await tickets(store, "a") == count


async def _guard(store: LockStore) -> Any:
    return await store.lock("a", keep_alive=True)


async def _place(store: LockStore) -> Any:
    return await store.take_ticket("a")


async def _waited(place: Any) -> Any:
    return await place.wait()


def _begun(operation: Any) -> Any:
    """Begins it as the loop would: from here on it is in the runtime."""
    operation.send(None)
    return operation


def _extends(guard: LockGuard) -> Any:
    return guard.extend(120)


def _watches(guard: LockGuard) -> Any:
    return guard.lost()


def _cancelled(begin: Callable[[], Any]) -> None:
    """Begun, and cancelled where it stands."""
    operation = begin()
    with contextlib.suppress(StopIteration):
        operation.send(None)
    operation.close()


def _dropped(begin: Callable[[], Any]) -> None:
    with pytest.warns(RuntimeWarning, match="never awaited"):
        begin()


@pytest.mark.parametrize("give_up", [_cancelled, _dropped])
@pytest.mark.parametrize("use", [_extends, _watches])
async def test_a_release_is_given_up_while_the_guard_is_used(
    own_redis: Redis, use: Callable[[LockGuard], Any], give_up: Callable[[Callable[[], Any]], None]
) -> None:
    store = LockStore.redis(own_redis.url, fallback="none", lock_lifetime=60)
    for _ in range(20):
        guard = await _guard(store)
        with frozen(own_redis):
            using = [_begun(use(guard)) for _ in range(3)]
            give_up(guard.release)
        # The guard is still there: nobody else gives it back.
        await until(lambda: _are(store, 0))
        assert guard.is_released
        for operation in using:
            operation.close()
    await store.close()


async def test_a_release_is_cancelled_with_a_watcher(storage: Storage) -> None:
    """By tasks, and with the error of a body that ends `async with`."""
    store = storage.store()
    for turns in range(6):
        guard = await _guard(store)
        watching = asyncio.ensure_future(guard.lost())
        await asyncio.sleep(0)

        async def body() -> None:
            async with guard:
                raise KeyError("mine")

        ending = asyncio.ensure_future(body())
        for _ in range(turns):
            await asyncio.sleep(0)
        ending.cancel()
        await asyncio.wait({ending})
        if turns == 0:  # it had not begun
            guard.release().close()
        await until(lambda: _are(store, 0))
        assert await soon(watching) is None
        del ending


@pytest.mark.parametrize("give_up", [_cancelled, _dropped])
async def test_a_wait_is_given_up_while_the_position_is_asked_for(
    own_redis: Redis, give_up: Callable[[Callable[[], Any]], None]
) -> None:
    store = LockStore.redis(own_redis.url, fallback="none", lock_lifetime=60)
    holder = await store.lock("a")
    for _ in range(20):
        place = await _place(store)
        with frozen(own_redis):
            asking = [_begun(place.position()) for _ in range(3)]
            give_up(place.wait)
            place.leave()
        # The place is still there: nobody else gives it back.
        await until(lambda: _are(store, 1))
        for operation in asking:
            operation.close()
    assert not holder.is_lost
    await holder.release()
    await store.close()


async def test_a_place_and_a_guard_are_dropped_while_they_are_used(own_redis: Redis) -> None:
    store = LockStore.redis(own_redis.url, fallback="none", lock_lifetime=60)
    guard = await _guard(store)
    place = await _place(store)
    watching = _begun(guard.lost())
    with frozen(own_redis):
        asking = _begun(place.position())
        del place
        with pytest.warns(ResourceWarning, match="never released"):
            del guard
    await until(lambda: _are(store, 0))
    watching.close()
    asking.close()
    await store.close()


async def test_a_place_waits_while_its_position_is_asked_for(own_redis: Redis) -> None:
    store = LockStore.redis(own_redis.url, fallback="none", lock_lifetime=60)
    holder = await store.lock("a")
    place = await _place(store)
    with frozen(own_redis):
        asking = [_begun(place.position()) for _ in range(3)]
        waiting = asyncio.ensure_future(_waited(place))
        await asyncio.sleep(0.01)
    await holder.release()
    async with await soon(waiting) as guard:
        assert guard.ticket_number == place.ticket_number
    for operation in asking:
        operation.close()
    await store.close()


def test_an_exit_finds_what_was_not_begun(redis: Redis) -> None:
    """Asked for, kept, and not awaited: the ticket leaves with the process."""
    ended = programs.Program(
        redis.url,
        """
        store = open_store()
        place = store.take_ticket("a").result()
        waiting = place.wait()
        guard = store.lock("b").acquire()
        release = guard.release()
        """,
    ).end()
    assert ended.code == 0 and ended.err.count("never awaited") == 2, ended
    assert redis.keys() == set()


#: Redis stands still while what is given up is asked for.
GIVES_UP = """
def give_up(*operations):
    for operation in operations:
        try:
            operation.send(None)
        except StopIteration:
            pass
        operation.close()

async def main():
    global kept
    store = open_store()
    kept = await take(store)
    os.kill(SERVER, signal.SIGSTOP)
    try:
        use(store)
    finally:
        os.kill(SERVER, signal.SIGCONT)

asyncio.run(main())
"""


def _gives_up(server: Redis, text: str) -> None:
    head = f"SERVER = {server.process.pid}\n"
    programs.run(server.url, head + textwrap.dedent(text) + GIVES_UP)
    assert server.keys() == set()


def test_an_exit_waits_for_what_was_given_up(own_redis: Redis) -> None:
    _gives_up(
        own_redis,
        """
        async def take(store):
            guard = await store.lock("a", keep_alive=True)
            holder = await store.lock("b", keep_alive=True)
            return guard, holder, await store.take_ticket("b")

        def use(store):
            global others
            guard, _, place = kept
            others = [guard.lost(), place.position()]
            for other in others:
                other.send(None)
            give_up(guard.release(), place.wait())
        """,
    )


def test_an_exit_takes_a_ticket_back_that_was_given_up(own_redis: Redis) -> None:
    _gives_up(
        own_redis,
        """
        async def take(store):
            await store.connect()

        def use(store):
            give_up(store.issue_ticket("a"))
        """,
    )


async def test_a_ticket_in_rasas_manner_is_given_up(own_redis: Redis) -> None:
    """Nobody knows its number; it is given back all the same."""
    store = LockStore.redis(own_redis.url, fallback="none", lock_lifetime=600)
    assert await store.issue_ticket("a") == 0
    with frozen(own_redis):
        issue = store.issue_ticket("a")
        with pytest.raises(TimeoutError):
            issue.result(0.1)
        del issue
        cancelled = _begun(store.issue_ticket("a"))
        cancelled.close()
        in_time = asyncio.ensure_future(_number(store))
        await asyncio.sleep(0.1)
    number = await soon(in_time)
    await until(lambda: _are(store, 2))
    lock = await store.get_lock("a")
    assert lock is not None and [ticket.number for ticket in lock.tickets] == [0, number]
    await store.delete_lock("a")
    await store.close()


async def _number(store: LockStore) -> int:
    return await store.issue_ticket("a")


def test_a_ticket_in_rasas_manner_is_given_up_as_it_comes(own_redis: Redis) -> None:
    """It was issued, and nobody took its number."""
    store = LockStore.redis(own_redis.url, fallback="none", lock_lifetime=600)
    with frozen(own_redis):
        issue = store.issue_ticket("a")
        with pytest.raises(TimeoutError):
            issue.result(0.1)
    asyncio.run(until(lambda: _are(store, 1)))
    del issue
    asyncio.run(until(lambda: _are(store, 0)))
    store.close().result()


@pytest.mark.parametrize("how_often", [2, 5])
async def test_run_is_cancelled_more_than_once(storage: Storage, how_often: int) -> None:
    """No work goes on without its lock, however impatient its caller."""
    store = storage.store()
    seen: list[str] = []
    end = asyncio.Event()

    async def stubborn(guard: LockGuard) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            while not end.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await end.wait()
                seen.append("released" if guard.is_released else "held")

    running = asyncio.ensure_future(store.run("a", stubborn))
    await until(lambda: _are(store, 1))
    await asyncio.sleep(0.01)
    try:
        for _ in range(how_often):
            running.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        assert not running.done()
        assert await tickets(store, "a") == 1
    finally:
        end.set()
    with pytest.raises(asyncio.CancelledError):
        await soon(running)
    # Each further cancellation came to the work as well.
    assert seen == ["held"] * how_often
    await until(lambda: _are(store, 0))


async def test_run_is_cancelled_when_its_lock_was_lost(storage: Storage) -> None:
    """The cancellation is not forgotten for the loss."""
    store = storage.store(lock_lifetime=0.1)
    end, is_lost = asyncio.Event(), asyncio.Event()

    async def slow(_: LockGuard) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            is_lost.set()
            while not end.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await end.wait()

    running = asyncio.ensure_future(store.run("a", slow))
    await asyncio.wait_for(is_lost.wait(), PATIENCE)
    try:
        running.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not running.done()
    finally:
        end.set()
    with pytest.raises(asyncio.CancelledError):
        await soon(running)

    async def quick(_: LockGuard) -> None:
        await asyncio.Event().wait()

    with pytest.raises(LockLost):
        await store.run("a", quick)
