"""The checks of the conformance suite, from Python: awaited and in threads,
in memory and on Redis."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest

from attempts import TooLate, in_time
from conftest import (
    Asyncio,
    Face,
    Storage,
    refused,
    short_lease,
    soon,
    tickets,
    until,
)
from lock_store import (
    InvalidConversationId,
    LockError,
    LockLost,
    LockStore,
    LockStoreClosed,
)

SUITE = Path(__file__).parents[2] / "crates/lock-store/src/testing.rs"

#: Checks that Python cannot make, and why.
EXEMPT = {
    "repeated_steps_change_nothing_more": "takes the steps of a backend, which Python has not",
}


async def test_the_first_is_served_at_once(storage: Storage, face: Face) -> None:
    guard = await face.lock(storage.store().lock("a"))
    assert guard.ticket_number == 0
    assert guard.conversation_id == "a"
    assert not guard.is_lost
    assert guard.deadline > time.monotonic() - 1
    await face.done(guard.release())


async def test_nobody_else_is_served(storage: Storage, face: Face) -> None:
    one, other = storage.store(), storage.store()
    guard = await face.lock(one.lock("a", lifetime=60))
    for store in (one, other):
        await refused(face, store, 0.3)
        assert await face.done(store.try_lock("a")) is None

    async def is_alone() -> bool:
        return await tickets(one, "a") == 1

    # Who was refused leaves in the background.
    await until(is_alone)
    await face.done(guard.release())
    again = await face.done(other.try_lock("a"))
    await face.done(again.release())


async def test_conversations_do_not_meet(storage: Storage, face: Face) -> None:
    store = storage.store()
    guards = [await face.lock(store.lock(f"conversation-{i}")) for i in range(50)]
    assert all(guard.ticket_number == 0 for guard in guards)
    for guard in guards:
        await face.done(guard.release())


async def test_try_lock_never_queues(storage: Storage, face: Face) -> None:
    store = storage.store()
    guard = await face.done(store.try_lock("a"))
    for _ in range(3):
        assert await face.done(store.try_lock("a")) is None
    assert await tickets(store, "a") == 1
    await face.done(guard.release())
    guard = await face.done(store.try_lock("a"))
    await face.done(guard.release())


async def test_tokens_only_rise(storage: Storage, face: Face) -> None:
    stores = [storage.store(), storage.store()]
    last = -1
    for i in range(200):
        async with face.entered(stores[i % 2].lock("a")) as guard:
            assert guard.fencing_token > last
            last = guard.fencing_token


async def test_a_lease_is_extended(storage: Storage, face: Face) -> None:
    store = storage.store()
    guard = await face.lock(store.lock("a", lifetime=3))
    before = guard.deadline
    await face.done(guard.extend(30))
    assert guard.deadline > before + 20
    await refused(face, store, 4)
    await face.done(guard.release())


async def test_a_lease_runs_out(storage: Storage, face: Face) -> None:
    one, other = storage.store(), storage.store()
    guard = await short_lease(face, one)
    following = await soon(face.lock(other.lock("a", keep_alive=True)))
    assert guard.is_lost
    loss = await soon(face.done(guard.lost()))
    assert isinstance(loss, LockLost)
    with pytest.raises(LockLost):
        await face.done(guard.extend(1))
    assert guard.fencing_token < following.fencing_token
    with pytest.raises(LockLost):
        await face.done(guard.release())
    assert guard.is_lost
    assert not following.is_lost
    await face.done(following.release())


async def test_a_late_release_harms_nobody(storage: Storage, face: Face) -> None:
    one, other = storage.store(), storage.store()
    late = await short_lease(face, one)
    holder = await soon(face.lock(other.lock("a", keep_alive=True)))
    with pytest.raises(LockLost):
        await face.done(late.release())
    await refused(face, one, 0.3)
    await face.done(holder.release())


async def test_a_lease_is_kept_alive(storage: Storage, face: Face) -> None:
    one, other = storage.store(), storage.store()
    guard = await face.lock(one.lock("a", lifetime=4, keep_alive=True))
    await refused(face, other, 5)
    assert not guard.is_lost
    await face.done(guard.release())

    async def is_empty() -> bool:
        return await tickets(one, "a") == 0

    await until(is_empty)


async def test_a_dropped_guard_releases(storage: Storage, face: Face) -> None:
    store = storage.store()
    warning = 'the lock of conversation "a" was never released'

    def drop() -> None:
        guard = store.lock("a", lifetime=60).acquire()
        with pytest.warns(ResourceWarning, match=warning):
            del guard

    async def drop_here() -> None:
        guard = await store.lock("a", lifetime=60)
        with pytest.warns(ResourceWarning, match=warning):
            del guard

    for _ in range(2):
        async with face.entered(store.lock("a")):
            pass
        await (drop_here() if isinstance(face, Asyncio) else asyncio.to_thread(drop))
    await soon(face.done(store.close()))
    assert await tickets(store, "a") == 0


async def test_deleting_tells_the_holder(storage: Storage, face: Face) -> None:
    one, other = storage.store(), storage.store()
    guard = await face.lock(one.lock("a", lifetime=60))
    lost = asyncio.ensure_future(face.done(guard.lost()))
    await asyncio.sleep(0)
    assert await face.done(other.delete_lock("a"))
    loss = await soon(lost)
    assert isinstance(loss, LockLost)
    assert loss.conversation_id == "a"
    assert guard.is_lost
    with pytest.raises(LockLost):
        await face.done(guard.release())
    assert not await face.done(other.delete_lock("a"))


async def test_work_stops_when_the_lock_is_lost(storage: Storage) -> None:
    store = storage.store()

    async def number(guard: Any) -> int:
        return int(guard.ticket_number)

    assert await store.run("a", number) == 0
    begun, stopped = [], []

    async def forever(_: Any) -> None:
        begun.append(True)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(True)
            raise

    async def lose(lifetime: float) -> None:
        with pytest.raises(LockLost):
            await soon(store.run("a", forever, lifetime=lifetime))
        if not begun:
            raise TooLate("to begin the work")

    await in_time(lose, 0.25)
    assert stopped == [True]

    async def gone() -> bool:
        return await tickets(store, "a") == 0

    await until(gone)


async def test_a_closed_store_takes_no_locks(storage: Storage, face: Face) -> None:
    store = storage.store()
    guard = await face.lock(store.lock("a", lifetime=60))
    await face.done(store.close())
    with pytest.raises(LockStoreClosed):
        await face.lock(store.lock("b"))
    await face.done(guard.extend(60))
    await face.done(guard.release())
    assert await tickets(store, "a") == 0


async def test_tickets_are_served_in_order(storage: Storage, face: Face) -> None:
    stores = [storage.store(), storage.store()]
    served: list[tuple[int, int]] = []

    async def serve(i: int, place: Any) -> None:
        guard = await face.done(place.wait())
        served.append((i, guard.fencing_token))
        await face.done(guard.release())

    tasks = []
    for i in range(60):
        place = await face.done(stores[i % 3 == 0].take_ticket("a"))
        tasks.append(asyncio.ensure_future(serve(i, place)))
    await soon(asyncio.gather(*tasks))
    assert [i for i, _ in served] == list(range(60))
    assert served == sorted(served, key=lambda one: one[1])


async def test_numbers_start_at_zero(storage: Storage, face: Face) -> None:
    store = storage.store()
    for _ in range(2):
        places = []
        for number in range(3):
            place = await face.done(store.take_ticket("a"))
            assert place.ticket_number == number
            places.append(place)
        for place in places:
            guard = await face.done(place.wait())
            await face.done(guard.release())
        assert await tickets(store, "a") == 0


async def test_positions_count_down(storage: Storage, face: Face) -> None:
    store = storage.store()
    holder = await face.lock(store.lock("a", lifetime=60))
    second = await face.done(store.take_ticket("a"))
    third = await face.done(store.take_ticket("a", lifetime=60))
    assert await face.done(second.position()) == 1
    assert await face.done(third.position()) == 2
    second.leave()

    async def is_at(position: int) -> bool:
        return bool(await face.done(third.position()) == position)

    await until(lambda: is_at(1))
    await face.done(holder.release())
    await until(lambda: is_at(0))
    guard = await face.done(third.wait())
    assert guard.ticket_number == 2
    await face.done(guard.release())


async def test_a_release_wakes_the_next(storage: Storage, face: Face) -> None:
    one, other = storage.store(), storage.store()
    holder = await face.lock(one.lock("a", lifetime=600))
    waiter = asyncio.ensure_future(face.lock(other.lock("a")))

    async def waits() -> bool:
        return await tickets(one, "a") == 2

    await until(waits)
    await face.done(holder.release())
    guard = await soon(waiter)
    assert guard.ticket_number == 1
    await face.done(guard.release())


async def test_a_dropped_wait_leaves(storage: Storage) -> None:
    store = storage.store()
    holder = await store.lock("a", lifetime=60)

    async def wait() -> None:
        async with store.lock("a"):
            raise AssertionError("nobody released it")

    waiters = [asyncio.ensure_future(wait()) for _ in range(3)]

    async def are(count: int) -> bool:
        return await tickets(store, "a") == count

    await until(lambda: are(4))
    for waiter in waiters:
        waiter.cancel()
    await until(lambda: are(1))
    await holder.release()
    assert await tickets(store, "a") == 0


async def test_a_dropped_place_leaves(storage: Storage, face: Face) -> None:
    store = storage.store()
    first = await face.done(store.take_ticket("a", lifetime=60))
    second = await face.done(store.take_ticket("a", lifetime=60))
    third = await face.done(store.take_ticket("a", lifetime=60))
    del first, second
    guard = await soon(face.done(third.wait()))
    assert guard.ticket_number == 2
    await face.done(guard.release())
    await soon(face.done(store.close()))
    assert await tickets(store, "a") == 0


async def test_many_stores_share_fairly(storage: Storage, face: Face) -> None:
    busy = False
    highest = 0

    async def work(store: LockStore) -> None:
        nonlocal busy, highest
        for _ in range(10):
            async with face.entered(store.lock("a", keep_alive=True)) as guard:
                assert not busy, "two hold it"
                busy = True
                await asyncio.sleep(0)
                assert guard.fencing_token > highest
                highest = guard.fencing_token
                busy = False

    stores = [storage.store() for _ in range(4)]
    await soon(asyncio.gather(*(work(store) for store in stores)))


async def test_nothing_is_left_behind(storage: Storage, face: Face) -> None:
    # Times that a loaded machine keeps.
    store = storage.store(lock_lifetime=60, claim_window=60)

    async def one(i: int) -> None:
        id = f"conversation-{i % 4}"
        if i % 5 == 0:
            (await face.lock(store.lock(id))).release().close()
        elif i % 5 == 1:
            (await face.done(store.take_ticket(id))).leave()
        elif i % 5 == 2:
            try:
                guard = await face.lock(store.lock(id, wait_timeout=0.01))
            except LockError as error:
                # Gone or without an answer, if its time was over first.
                assert error.is_retryable
                return
            await face.done(guard.release())
        elif i % 5 == 3:
            guard = await face.done(store.try_lock(id))
            if guard is not None:
                await face.done(guard.release())
        else:
            await store.run(id, lambda _: asyncio.sleep(0))

    await soon(asyncio.gather(*(one(i) for i in range(40))))
    await soon(face.done(store.close()))
    assert await face.listed(store) == []


async def test_any_characters_are_an_id(storage: Storage, face: Face) -> None:
    store = storage.store()
    ids = [" ", "a:b{c}*?[d]", "línea\nnueva\0nul", "对话 🧵", "x" * 1024]
    guards = []
    for id in ids:
        guards.append(await face.lock(store.lock(id, lifetime=60)))
        assert await tickets(store, id) == 1
    assert set(await face.listed(store)) == set(ids)
    for guard in guards:
        await face.done(guard.release())
    for wrong in ("", "x" * 1025):
        with pytest.raises(InvalidConversationId):
            await face.lock(store.lock(wrong))
    with pytest.raises(InvalidConversationId, match="not valid Unicode"):
        store.lock("\ud800")
    with pytest.raises(TypeError):
        store.lock(42)  # type: ignore[arg-type]


async def test_conversations_are_listed_once(storage: Storage, face: Face) -> None:
    store = storage.store()
    assert await face.listed(store) == []
    guards = [await store.lock(f"conversation-{i}", lifetime=60) for i in range(500)]
    ids = await face.listed(store)
    assert len(ids) == len(set(ids)) == 500
    for guard in guards:
        await guard.release()


def test_the_suite_is_complete() -> None:
    checks = set(re.findall(r"^\s+(?:holding|queueing|waiting|rasa)::(\w+)$", SUITE.read_text(), re.M))
    assert len(checks) > 30
    files = Path(__file__).parent.glob("test_conformance*.py")
    here = {
        name for file in files for name in re.findall(r"def test_(\w+)", file.read_text())
    }
    assert checks - here == set(EXEMPT)
