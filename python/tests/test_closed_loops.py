"""Loops that are closed by hand, and generators that are left: whoever is
inside of a lock gets out by being collected, in another task or in none."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from conftest import Storage, soon, tickets, until
from lock_store import Lock, LockGuard, LockStore

# Other loops, not closed by their makers, may be collected with these; and what
# is told of the lock is looked at here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:the lock of conversation:ResourceWarning"),
]


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What could not be raised, as texts: the errors keep their frames."""
    seen: list[str] = []
    monkeypatch.setattr("sys.unraisablehook", lambda it: seen.append(repr(it.exc_value)))
    return seen


async def _is_free(store: LockStore) -> bool:
    return await tickets(store, "a") == 0


async def _hold(lock: Lock) -> None:
    async with lock:
        await asyncio.Event().wait()


async def _hold_and_know(lock: Lock) -> None:
    async with lock as guard:
        await asyncio.Event().wait()
        assert guard


async def _hold_in_a_stack(lock: Lock) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(lock)
        await asyncio.Event().wait()


async def _hold_a_guard(lock: Lock) -> None:
    async with await lock:
        await asyncio.Event().wait()


async def _hold_and_clean_up(lock: Lock) -> None:
    """It waits at its end: where no loop is, that fails."""
    async with lock:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)


HOLDERS = [_hold, _hold_and_know, _hold_in_a_stack, _hold_a_guard]


def _left_behind(lock: Lock, holder: Any, store: LockStore) -> asyncio.Task[None]:
    """A task that is in the lock, on a loop that is closed."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(holder(lock))

    async def is_in() -> bool:
        return await tickets(store, "a") == 1

    loop.run_until_complete(until(is_in))
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    return task


def _collect(gone: list[asyncio.Task[None]]) -> None:
    seen = weakref.ref(gone.pop())
    gc.collect()
    gc.collect()
    assert seen() is None, "the task is kept alive"


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_loop_is_closed_with_a_holder(
    storage: Storage, holder: Any, unraisable: list[str]
) -> None:
    store = storage.store(keep_alive=True)
    lock = store.lock("a")
    for _ in range(3):
        _collect([_left_behind(lock, holder, store)])
        asyncio.run(until(lambda: _is_free(store)))
        # The lock is still good, whoever has the place of the task now.
        asyncio.run(soon(_enter(lock)))
    assert unraisable == []


def test_a_holder_that_cannot_be_closed(storage: Storage, unraisable: list[str]) -> None:
    store = storage.store(keep_alive=True)
    lock = store.lock("a")
    for times in range(1, 4):
        _collect([_left_behind(lock, _hold_and_clean_up, store)])
        asyncio.run(until(lambda: _is_free(store)))
        asyncio.run(soon(_enter(lock)))
        assert len(unraisable) == times and "ignored GeneratorExit" in unraisable[-1]


async def _enter(lock: Lock) -> None:
    async with lock as guard:
        assert not guard.is_lost and not guard.is_released


@pytest.mark.parametrize("holder", HOLDERS)
def test_it_is_collected_in_another_task(storage: Storage, holder: Any) -> None:
    store = storage.store(keep_alive=True)
    lock = store.lock("a")
    gone = [_left_behind(lock, holder, store)]

    async def collect() -> None:
        _collect(gone)
        await until(lambda: _is_free(store))
        async with lock:
            pass

    asyncio.run(soon(collect()))


@pytest.mark.parametrize("holder", HOLDERS[:3])
def test_it_is_collected_by_the_next_holder(storage: Storage, holder: Any) -> None:
    """Whoever has the lock by then keeps it."""
    store = storage.store(lock_lifetime=0.2)
    lock = store.lock("a")
    gone = [_left_behind(lock, holder, store)]

    async def collect() -> None:
        async with lock as guard:
            await guard.extend(60)
            _collect(gone)
            await asyncio.sleep(0.05)
            assert not guard.is_released
            assert await tickets(store, "a") == 1
        assert guard.is_released

    asyncio.run(soon(collect()))
    asyncio.run(until(lambda: _is_free(store)))


async def test_a_task_that_ended_inside_makes_nobody_reentrant(storage: Storage) -> None:
    """Its address is another task's soon."""
    store = storage.store()
    lock = store.lock("a")

    async def enter() -> None:
        guard = await lock.__aenter__()
        await guard.release()

    for _ in range(20):
        await soon(asyncio.ensure_future(enter()))


async def _numbers(lock: Lock) -> AsyncIterator[LockGuard]:
    async with lock as guard:
        while True:
            yield guard


async def test_a_generator_is_left(storage: Storage, unraisable: list[str]) -> None:
    """Its loop has it closed, by a task of its own."""
    store = storage.store(keep_alive=True)
    lock = store.lock("a")
    for _ in range(3):
        async for guard in _numbers(lock):
            assert not guard.is_released
            break
        await until(lambda: _is_free(store))
        assert guard.is_released
    assert unraisable == []


async def test_a_generator_goes_on_after_its_first_task(storage: Storage) -> None:
    """Whoever goes on with it still has the lock."""
    store = storage.store(keep_alive=True)
    lock = store.lock("a")
    numbers: Any = _numbers(lock)
    guard = await asyncio.ensure_future(numbers.__anext__())
    gc.collect()
    await asyncio.sleep(0.01)
    assert not guard.is_released
    assert await tickets(store, "a") == 1
    del guard
    await numbers.aclose()
    await until(lambda: _is_free(store))


async def test_a_generator_is_closed_by_its_task_and_by_another(storage: Storage) -> None:
    store = storage.store(keep_alive=True)
    lock = store.lock("a")
    for _ in range(3):
        numbers: Any = _numbers(lock)
        await numbers.__anext__()
        await numbers.aclose()
        assert await _is_free(store)
        numbers = _numbers(lock)
        await numbers.__anext__()
        await asyncio.ensure_future(numbers.aclose())
        assert await _is_free(store)


def test_a_loop_ends_with_a_generator(storage: Storage) -> None:
    """`asyncio.run` closes it."""
    store = storage.store(keep_alive=True)
    lock = store.lock("a")
    kept: list[Any] = []

    async def begin() -> None:
        numbers: Any = _numbers(lock)
        kept.append((numbers, await numbers.__anext__()))

    asyncio.run(begin())
    assert kept[0][1].is_released
    asyncio.run(until(lambda: _is_free(store)))


def test_a_generator_is_closed_in_another_thread(storage: Storage) -> None:
    store = storage.store(keep_alive=True)
    lock = store.lock("a")

    def numbers() -> Iterator[LockGuard]:
        with lock as guard:
            while True:
                yield guard

    for close_in in (threading.Thread, None):
        entered = numbers()
        assert not next(entered).is_released
        if close_in is None:
            entered.close()  # type: ignore[attr-defined]
        else:
            closing = close_in(target=entered.close)  # type: ignore[attr-defined]
            closing.start()
            closing.join()
        asyncio.run(until(lambda: _is_free(store)))
