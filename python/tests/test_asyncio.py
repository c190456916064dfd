"""What tasks and event loops do to a lock: cancelled at every point, closed,
collected, blocked, several at once."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from typing import Any

import pytest

from attempts import TooLate, in_time
from conftest import Storage, soon, tickets, until
from lock_store import LockError, LockGone, LockGuard, LockLost, LockStore, Operation


async def nothing_is_left(store: LockStore, id: str = "a") -> None:
    async def is_empty() -> bool:
        return await tickets(store, id) == 0

    await until(is_empty)


@pytest.mark.parametrize("turns", range(12))
async def test_a_task_is_cancelled_at_every_point(storage: Storage, turns: int) -> None:
    """Cancelled after so many turns of the loop, with somebody ahead or not."""
    store = storage.store(lock_lifetime=60)
    await store.connect()
    for is_held in (False, True):
        holder = await store.lock("a") if is_held else None

        async def steps() -> None:
            async with store.lock("a"):
                await asyncio.sleep(0)
            place = await store.take_ticket("a")
            async with await place.wait() as guard:
                await guard.extend(30)

        task = asyncio.ensure_future(steps())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        if holder is not None:
            assert not holder.is_lost
            await holder.release()
        del task
        await nothing_is_left(store)


async def test_cancelled_when_the_turn_just_came(storage: Storage) -> None:
    """The result is there, and the task is cancelled before it sees it."""
    store = storage.store(lock_lifetime=60)
    for _ in range(20):
        holder = await store.lock("a")
        waiter = asyncio.ensure_future(_wait_forever(store))

        async def waits() -> bool:
            return await tickets(store, "a") == 2

        await until(waits)
        await holder.release()
        # No turn of this loop: the guard waits for it meanwhile.
        time.sleep(0.005)
        waiter.cancel()
        await asyncio.wait({waiter})
        assert waiter.cancelled()
        await nothing_is_left(store)


async def _wait_forever(store: LockStore) -> None:
    async with store.lock("a"):
        await asyncio.Event().wait()


async def test_a_wait_is_given_up(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    holder = await store.lock("a")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(store.lock("a"), 0.05)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for((await store.take_ticket("a")).wait(), 0.05)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(holder.lost(), 0.05)

    async def is_alone() -> bool:
        return await tickets(store, "a") == 1

    await until(is_alone)
    await holder.release()


async def test_an_error_of_the_body_is_not_hidden(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    with pytest.raises(KeyError):
        async with store.lock("a") as guard:
            await store.delete_lock("a")
            assert await soon(guard.lost())
            raise KeyError("mine")
    with pytest.raises(LockLost):
        async with store.lock("a") as guard:
            await store.delete_lock("a")
            assert await soon(guard.lost())
    # Released in between.
    async with store.lock("a") as guard:
        await guard.release()
        await guard.release()
        assert guard.is_released and not guard.is_lost


async def test_a_watcher_ends_with_the_release(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    guard = await store.lock("a")
    watchers = [asyncio.ensure_future(guard.lost()) for _ in range(3)]
    await asyncio.sleep(0.01)
    await guard.release()
    assert await soon(asyncio.gather(*watchers)) == [None, None, None]
    assert await guard.lost() is None
    with pytest.raises(RuntimeError, match="released"):
        await guard.extend(1)
    assert await tickets(store, "a") == 0


async def test_a_request_is_used_again_and_by_many(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    lock = store.lock("a")
    count = 0

    async def work() -> None:
        nonlocal count
        for _ in range(5):
            async with lock as guard:
                assert not guard.is_released
                before = count
                await asyncio.sleep(0)
                count = before + 1

    await soon(asyncio.gather(*(work() for _ in range(8))))
    assert count == 40
    async with lock:
        with pytest.raises(RuntimeError, match="not reentrant"):
            async with lock:
                raise AssertionError("entered twice")
    with pytest.raises(RuntimeError, match="was not entered here"):
        await lock.__aexit__(None, None, None)


async def test_an_operation_is_for_once(storage: Storage) -> None:
    store = storage.store()
    operation = store.get_lock("a")
    assert await operation is None
    with pytest.raises(RuntimeError, match="awaited already"):
        await operation
    place = await store.take_ticket("a")
    await (await place.wait()).release()
    with pytest.raises(RuntimeError, match="already"):
        place.wait()
    with pytest.warns(RuntimeWarning, match="`get_lock` was never awaited"):
        store.get_lock("a")
    assert "get_lock" in repr(operation)


async def test_an_operation_under_way_is_awaited_elsewhere(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    holder = await store.lock("a")
    operation = (await store.take_ticket("a")).wait()

    async def wait() -> LockGuard:
        return await operation

    first = asyncio.ensure_future(wait())
    await asyncio.sleep(0.01)
    with pytest.raises(RuntimeError, match="awaited elsewhere"):
        await operation
    with pytest.raises(RuntimeError, match="awaited elsewhere"):
        await asyncio.to_thread(operation.result)
    await holder.release()
    await (await soon(first)).release()


async def test_a_release_that_nobody_awaits_is_done(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    guard = await store.lock("a")
    with pytest.warns(RuntimeWarning, match="`release` was never awaited"):
        guard.release()
    assert guard.is_released
    await nothing_is_left(store)


async def test_the_form_for_threads_does_not_block_a_loop(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    for wrong in (
        lambda: store.lock("a").acquire(),
        lambda: store.lock("a").__enter__(),
    ):
        with pytest.raises(RuntimeError, match="would block the event loop"):
            wrong()
    # A round trip is no wait for others.
    assert store.get_lock("a").result() is None
    assert await tickets(store, "a") == 0


def test_awaiting_needs_a_loop(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    holder = store.lock("a").acquire()
    with pytest.raises(RuntimeError, match="no asyncio event loop"):
        store.lock("a").__await__().send(None)
    holder.release().result()


# Other loops, not closed by their makers, may be collected with it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_is_closed_with_waiters(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    holder = store.lock("a").acquire()
    gone = []

    def abandon() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(_wait_forever(store))
        waits = loop.create_task(until(lambda: _are(store, 2)))
        loop.run_until_complete(waits)
        gone.append(weakref.ref(loop))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

    abandon()
    gc.collect()
    gc.collect()
    assert gone[0]() is None, "the loop is kept alive"
    asyncio.run(until(lambda: _are(store, 1)))
    holder.release().result()


async def _are(store: LockStore, count: int) -> bool:
    return await tickets(store, "a") == count


def test_run_ends_with_waiters(storage: Storage) -> None:
    """`asyncio.run` cancels what is left."""
    store = storage.store(lock_lifetime=60)
    holder = store.lock("a").acquire()

    async def main() -> None:
        asyncio.ensure_future(_wait_forever(store))
        await until(lambda: _are(store, 2))

    asyncio.run(main())
    asyncio.run(until(lambda: _are(store, 1)))
    holder.release().result()


def test_loops_in_threads_share_a_store(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    count = 0
    failures: list[BaseException] = []

    async def work() -> None:
        nonlocal count
        for _ in range(20):
            async with store.lock("a"):
                before = count
                await asyncio.sleep(0)
                count = before + 1

    def run() -> None:
        try:
            asyncio.run(_both(work))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        with store.lock("a"):
            before = count
            time.sleep(0)
            count = before + 1
    for thread in threads:
        thread.join()
    assert not failures
    assert count == 4 * 2 * 20 + 20


async def _both(work: Any) -> None:
    await soon(asyncio.gather(work(), work()))


async def test_a_blocked_loop_keeps_its_turn(storage: Storage) -> None:
    """The store claims in time, though the loop does nothing for longer than
    the claim window, and keeps the lease alive."""

    async def block(lifetime: float) -> None:
        store = storage.store(
            lock_lifetime=lifetime, claim_window=lifetime / 2, keep_alive=True
        )
        holder = await store.lock("a", lifetime=60)
        waiter = asyncio.ensure_future(_acquire(store))
        await until(lambda: _are(store, 2))
        await holder.release()
        time.sleep(2 * lifetime)
        another = await store.try_lock("a", lifetime=60)
        if another is not None:
            await another.release()
        try:
            # Its release says whether it was lost.
            await (await soon(waiter)).release()
        except (LockGone, LockLost) as error:
            raise TooLate from error
        assert another is None

    await in_time(block, 1)


async def _acquire(store: LockStore) -> LockGuard:
    return await store.lock("a")


async def test_gathering_and_shielding(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    guards = await asyncio.gather(*(store.lock(f"c{i}") for i in range(10)))
    await asyncio.gather(*(guard.release() for guard in guards))
    operation: Operation[Any] = store.try_lock("a")
    guard = await asyncio.shield(asyncio.ensure_future(operation))
    await guard.release()


async def test_run_returns_raises_and_is_cancelled(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)

    async def number(guard: LockGuard) -> int:
        return guard.ticket_number

    async def fails(_: LockGuard) -> None:
        raise KeyError("mine")

    assert await store.run("a", number) == 0
    with pytest.raises(KeyError):
        await store.run("a", fails)

    begun = asyncio.Event()
    seen = []

    async def forever(guard: LockGuard) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(guard.is_released)

    task = asyncio.ensure_future(store.run("a", forever))
    await soon(begun.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [False]
    assert await tickets(store, "a") == 0


def test_a_loop_that_watches_no_sockets(storage: Storage) -> None:
    class Blind(asyncio.SelectorEventLoop):
        def add_reader(self, *_: Any) -> None:  # type: ignore[override]
            raise NotImplementedError

    store = storage.store(lock_lifetime=60)
    loop = Blind()
    try:

        async def main() -> None:
            for _ in range(50):
                holder = await store.lock("a")
                waiter = asyncio.ensure_future(_acquire(store))
                await until(lambda: _are(store, 2))
                await holder.release()
                await (await soon(waiter)).release()

        loop.run_until_complete(main())
    finally:
        loop.close()


def test_uvloop(storage: Storage) -> None:
    uvloop = pytest.importorskip("uvloop")
    store = storage.store(lock_lifetime=60)
    loop = uvloop.new_event_loop()
    try:

        async def main() -> None:
            holder = await store.lock("a")
            waiter = asyncio.ensure_future(_acquire(store))
            other = asyncio.ensure_future(_wait_forever(store))
            await until(lambda: _are(store, 3))
            other.cancel()
            await holder.release()
            await (await soon(waiter)).release()

        loop.run_until_complete(main())
    finally:
        loop.close()


async def test_a_store_as_a_context(storage: Storage) -> None:
    async with storage.store() as store:
        async with store.lock("a"):
            pass
    with pytest.raises(LockError, match="closed"):
        await store.lock("a")


async def test_an_operation_is_of_one_task(storage: Storage) -> None:
    """A second one is refused, and the first is resumed all the same."""
    store = storage.store(lock_lifetime=60)
    holder = await store.lock("a")
    place = await store.take_ticket("a")
    operation = place.wait()

    async def wait() -> LockGuard:
        return await operation

    first = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="awaited already, or is awaited elsewhere"):
        await wait()
    await holder.release()
    guard = await soon(first)
    assert guard.ticket_number == 1
    await guard.release()
