"""The checks of the conformance suite, from Python: what a waiter may rely on,
and the methods of Rasa's lock store."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from attempts import TooLate, in_time
from conftest import Face, Storage, refused, soon, tickets, until
from lock_store import LockError, LockGone, LockStoreUnavailable, TicketLock


async def test_a_wait_times_out(storage: Storage, face: Face) -> None:
    store = storage.store()
    holder = await face.lock(store.lock("a", lifetime=60))
    ahead = await face.done(store.take_ticket("a"))
    began = time.monotonic()
    error = await refused(face, store, 0.25)
    assert error.kind == "timed_out"
    assert error.conversation_id == "a"
    assert error.ahead == 2
    assert error.waited is not None and error.waited >= 0.25
    assert time.monotonic() - began >= 0.25
    assert error.is_retryable
    assert isinstance(error, LockError) and isinstance(error, TimeoutError)

    async def left() -> bool:
        return await tickets(store, "a") == 2

    await until(left)
    ahead.leave()
    await face.done(holder.release())


def ghost(lock: TicketLock, tickets: int, lifetime: float) -> TicketLock:
    """The lock with tickets of a client behind it that is dead."""
    form = json.loads(lock.to_json())
    token = lock.last_token or int(time.time() * 1e6)
    behind = len(form["tickets"])
    for i in range(tickets):
        is_head = not form["tickets"]
        form["tickets"].append(
            json.dumps(
                {
                    "number": behind + i,
                    "expires": time.time() + (lifetime if is_head else 60),
                    "fencing_token": token + i + 1,
                    "owner": f"00000000deadbeef.{i}",
                    "lifetime": lifetime,
                    "state": "claimed" if is_head else "waiting",
                }
            )
        )
    return TicketLock.from_json(json.dumps(form))


async def test_a_dead_holder_is_found(storage: Storage, face: Face) -> None:
    store = storage.store()

    async def find(lifetime: float) -> None:
        await store.save_lock(ghost(TicketLock("a"), 1, lifetime))
        began = time.monotonic()
        guard = await soon(face.lock(store.lock("a")))
        assert time.monotonic() - began < lifetime + 20
        await face.done(guard.release())
        if guard.ticket_number == 0:
            raise TooLate("to be in line behind it")
        assert guard.ticket_number == 1

    await in_time(find, 1)


async def test_a_dead_client_costs_one_claim_window(storage: Storage, face: Face) -> None:
    store = storage.store(claim_window=1)
    holder = await face.lock(store.lock("a"))
    lock = await store.get_lock("a")
    assert lock is not None
    await store.save_lock(ghost(lock, 50, 1))
    place = await face.done(store.take_ticket("a"))
    assert await face.done(place.position()) == 51
    released = time.monotonic()
    await face.done(holder.release())
    guard = await soon(face.done(place.wait()))
    assert time.monotonic() - released < 10
    await face.done(guard.release())
    assert await tickets(store, "a") == 0


async def test_a_client_that_waited_too_long_is_not_dead(storage: Storage, face: Face) -> None:
    store, other = storage.store(), storage.store()
    holder = await face.lock(store.lock("a", lifetime=60))
    await refused(face, other, 0.3)
    patient = await face.done(other.take_ticket("a"))
    await face.done(holder.release())
    guard = await soon(face.done(patient.wait()))
    await face.done(guard.release())


async def test_a_promoted_ticket_is_claimed_for_a_busy_caller(
    storage: Storage, face: Face
) -> None:
    async def be_busy(window: float) -> None:
        store = storage.store(claim_window=window)
        holder = await face.lock(store.lock("a"))
        place = await face.done(store.take_ticket("a"))
        await face.done(holder.release())
        # The loop of this thread does nothing for far longer than the window.
        time.sleep(4 * window)
        another = await face.done(store.try_lock("a"))
        if another is not None:
            await face.done(another.release())
        guard = await soon(face.done(place.wait()))
        assert another is None
        assert not guard.is_lost
        await face.done(guard.release())

    await in_time(be_busy, 0.5, LockGone)


async def test_deleting_tells_the_waiters(storage: Storage, face: Face) -> None:
    one, other = storage.store(), storage.store()
    holder = await face.lock(one.lock("a", lifetime=60))
    waiter = asyncio.ensure_future(face.lock(other.lock("a")))
    place = await face.done(one.take_ticket("a"))

    async def waits() -> bool:
        return await tickets(one, "a") == 3

    await until(waits)
    assert await face.done(one.delete_lock("a"))
    with pytest.raises(LockGone) as caught:
        await soon(waiter)
    assert caught.value.is_retryable
    with pytest.raises(LockGone):
        await soon(face.done(place.wait()))
    following = await face.lock(one.lock("a", keep_alive=True))
    assert following.fencing_token > holder.fencing_token
    with pytest.raises(LockError):
        await face.done(holder.release())
    assert not following.is_lost
    await face.done(following.release())


async def test_numbers_are_as_in_rasa(storage: Storage, face: Face) -> None:
    store = storage.store()
    assert await face.done(store.get_lock("a")) is None
    assert not await face.done(store.is_someone_waiting("a"))
    assert len(await face.done(store.get_or_create_lock("a"))) == 0
    assert await face.done(store.issue_ticket("a", 60)) == 0
    assert await face.done(store.issue_ticket("a", 60)) == 1
    assert await face.done(store.is_someone_waiting("a"))
    lock = await face.done(store.get_lock("a"))
    assert lock.last_issued() == 1
    assert lock.now_serving() == 0
    assert not lock.is_locked(0)
    assert lock.is_locked(1)
    assert not lock.has_lock_expired(1)
    assert lock.has_lock_expired(1, time.time() + 100)
    await face.done(store.delete_lock("a"))


async def test_tickets_by_number_are_served_in_order(storage: Storage, face: Face) -> None:
    store = storage.store()
    first = await face.done(store.issue_ticket("a", 60))
    second = await face.done(store.issue_ticket("a", 60))
    place = await face.done(store.take_ticket("a"))
    await face.done(store.finish_serving("a", first))
    await face.done(store.finish_serving("a", first))
    lock = await face.done(store.get_lock("a"))
    assert lock.now_serving() == second
    await face.done(store.cleanup("a", second))
    guard = await soon(face.done(place.wait()))
    assert guard.ticket_number == 2
    await face.done(guard.release())
    assert await face.done(store.get_lock("a")) is None


async def test_locks_are_saved_and_deleted(storage: Storage, face: Face) -> None:
    store = storage.store()
    lock = store.create_lock("a")
    assert await face.done(store.get_lock("a")) is None
    lock.issue_ticket(60)
    lock.issue_ticket(60)
    await face.done(store.save_lock(lock))
    saved = await face.done(store.get_lock("a"))
    assert saved.to_json() == lock.to_json()
    place = await face.done(store.take_ticket("a"))
    assert place.ticket_number == 2
    assert await tickets(store, "a") == 3
    assert await face.done(store.delete_lock("a"))
    assert not await face.done(store.delete_lock("a"))
    with pytest.raises(LockGone):
        await soon(face.done(place.wait()))
    await face.done(store.save_lock(store.create_lock("a")))
    assert await face.done(store.get_lock("a")) is None


async def test_an_expired_ticket_by_number_is_dropped(storage: Storage, face: Face) -> None:
    store = storage.store()

    async def issue(lifetime: float) -> None:
        await face.done(store.issue_ticket("a", lifetime))

    # The storage must have answered by then.
    await in_time(issue, 0.25, LockStoreUnavailable)
    second = await face.done(store.issue_ticket("a", 60))
    place = await face.done(store.take_ticket("a"))

    async def dropped() -> bool:
        await face.done(store.update_lock("a"))
        return await tickets(store, "a") == 2

    await until(dropped)
    lock = await face.done(store.get_lock("a"))
    assert lock.tickets[0].number == second
    await face.done(store.finish_serving("a", second))
    guard = await soon(face.done(place.wait()))
    await face.done(guard.release())
