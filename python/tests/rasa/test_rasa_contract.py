"""Rasa's contract: the same bodies over Rasa's stores and ours."""

from __future__ import annotations

import asyncio
import json

import pytest
from attempts import in_time
from rasa_support import run
from rasa.core.lock import NO_TICKET_ISSUED, Ticket, TicketLock
from rasa.core.lock_store import LockError, LockStore


def test_a_created_lock_is_empty_and_not_stored(any_store: LockStore, conversation: str) -> None:
    lock = any_store.create_lock(conversation)
    assert isinstance(lock, TicketLock)
    assert lock.conversation_id == conversation
    assert (lock.last_issued, lock.now_serving) == (NO_TICKET_ISSUED, 0)
    assert not lock.is_someone_waiting()
    assert any_store.get_lock(conversation) is None


def test_an_empty_lock_is_found_when_it_was_saved(any_store: LockStore, conversation: str) -> None:
    any_store.save_lock(any_store.create_lock(conversation))
    lock = any_store.get_lock(conversation)
    assert isinstance(lock, TicketLock)
    assert lock.conversation_id == conversation
    assert (lock.last_issued, lock.now_serving) == (NO_TICKET_ISSUED, 0)
    assert not any_store.is_someone_waiting(conversation)

    any_store.delete_lock(conversation)
    assert any_store.get_lock(conversation) is None
    any_store.delete_lock(conversation)


def test_get_or_create(any_store: LockStore, conversation: str) -> None:
    lock = any_store.get_or_create_lock(conversation)
    assert isinstance(lock, TicketLock)
    assert lock.last_issued == NO_TICKET_ISSUED
    assert any_store.get_lock(conversation) is None
    any_store.issue_ticket(conversation)
    assert any_store.get_or_create_lock(conversation).last_issued == 0
    any_store.cleanup(conversation, 0)


def test_tickets_are_served_one_after_the_other(any_store: LockStore, conversation: str) -> None:
    first = any_store.issue_ticket(conversation, 10)
    assert first == 0
    lock = any_store.get_lock(conversation)
    assert (lock.last_issued, lock.now_serving) == (0, 0)
    assert lock.is_someone_waiting()

    second = any_store.issue_ticket(conversation, 10)
    assert second == 1
    lock = any_store.get_lock(conversation)
    assert (lock.last_issued, lock.now_serving) == (1, 0)
    assert not lock.is_locked(first) and lock.is_locked(second)

    any_store.finish_serving(conversation, first)
    lock = any_store.get_lock(conversation)
    assert (lock.last_issued, lock.now_serving) == (1, 1)
    assert lock.is_locked(first) and not lock.is_locked(second)
    assert any_store.is_someone_waiting(conversation)

    # The lock stays when its last ticket is finished, and goes with `cleanup`.
    any_store.finish_serving(conversation, second)
    lock = any_store.get_lock(conversation)
    assert (lock.last_issued, lock.now_serving) == (NO_TICKET_ISSUED, 0)
    assert not any_store.is_someone_waiting(conversation)
    any_store.cleanup(conversation, second)
    assert any_store.get_lock(conversation) is None

    assert any_store.issue_ticket(conversation) == 0, "numbers start anew"
    any_store.cleanup(conversation, 0)


def test_what_is_not_there_is_finished_without_harm(
    any_store: LockStore, conversation: str
) -> None:
    any_store.finish_serving(conversation, 3)
    any_store.update_lock(conversation)
    any_store.cleanup(conversation, 3)
    assert any_store.get_lock(conversation) is None
    assert not any_store.is_someone_waiting(conversation)

    any_store.issue_ticket(conversation)
    any_store.finish_serving(conversation, 3)
    any_store.cleanup(conversation, 3)
    assert any_store.get_lock(conversation).last_issued == 0
    any_store.cleanup(conversation, 0)


def test_cleanup_keeps_the_lock_while_somebody_waits(
    any_store: LockStore, conversation: str
) -> None:
    first, second = any_store.issue_ticket(conversation), any_store.issue_ticket(conversation)
    any_store.cleanup(conversation, first)
    assert any_store.get_lock(conversation).now_serving == second
    any_store.cleanup(conversation, second)
    assert any_store.get_lock(conversation) is None


def test_a_ticket_in_the_middle_leaves(any_store: LockStore, conversation: str) -> None:
    for _ in range(3):
        any_store.issue_ticket(conversation)
    any_store.finish_serving(conversation, 1)
    lock = any_store.get_lock(conversation)
    assert [ticket.number for ticket in lock.tickets] == [0, 2]
    any_store.finish_serving(conversation, 0)
    assert any_store.get_lock(conversation).now_serving == 2
    any_store.cleanup(conversation, 2)


def test_a_lock_is_read_changed_and_saved(any_store: LockStore, conversation: str) -> None:
    lock = any_store.get_or_create_lock(conversation)
    assert [lock.issue_ticket(30) for _ in range(2)] == [0, 1]
    any_store.save_lock(lock)

    lock = any_store.get_lock(conversation)
    assert [ticket.number for ticket in lock.tickets] == [0, 1]
    assert lock.issue_ticket(30) == 2
    lock.remove_ticket_for(0)
    any_store.save_lock(lock)

    lock = any_store.get_lock(conversation)
    assert [ticket.number for ticket in lock.tickets] == [1, 2]
    assert all(isinstance(ticket, Ticket) for ticket in lock.tickets)
    again = TicketLock.from_dict(json.loads(lock.dumps()))
    assert [ticket.number for ticket in again.tickets] == [1, 2]
    any_store.delete_lock(conversation)


def test_expired_tickets_do_not_count(any_store: LockStore, conversation: str) -> None:
    async def issue(lifetime: float) -> None:
        any_store.issue_ticket(conversation, lifetime)

    async def expired() -> None:
        # The storage must have answered by then.
        await in_time(issue, 0.05, LockError)
        while any_store.get_or_create_lock(conversation).last_issued != NO_TICKET_ISSUED:
            await asyncio.sleep(0.005)

    run(expired())
    any_store.update_lock(conversation)
    assert not any_store.is_someone_waiting(conversation)
    assert any_store.issue_ticket(conversation) == 0
    any_store.cleanup(conversation, 0)


def test_lock_yields_the_lock(any_store: LockStore, conversation: str) -> None:
    async def main() -> None:
        async with any_store.lock(conversation) as lock:
            assert isinstance(lock, TicketLock)
            assert lock.conversation_id == conversation
            assert (lock.last_issued, lock.now_serving) == (0, 0)
            assert not lock.is_locked(0)
            assert lock.is_someone_waiting()
            assert any_store.get_lock(conversation).now_serving == 0
        assert any_store.get_lock(conversation) is None

    run(main())


def test_lock_takes_rasas_arguments(any_store: LockStore, conversation: str) -> None:
    async def main() -> None:
        async with any_store.lock(conversation, 5, 0.01):
            pass
        async with any_store.lock(
            conversation_id=conversation, lock_lifetime=5.5, wait_time_in_seconds=0.01
        ):
            pass

    run(main())


def test_one_at_a_time_and_in_order(any_store: LockStore, conversation: str) -> None:
    handled: list[int] = []
    inside = 0

    async def handle(message: int) -> None:
        nonlocal inside
        async with any_store.lock(conversation, wait_time_in_seconds=0.01) as lock:
            inside += 1
            assert inside == 1
            assert lock.now_serving == message
            await asyncio.sleep(0.002)
            handled.append(message)
            inside -= 1

    async def main() -> None:
        await asyncio.gather(*(handle(i) for i in range(10)))
        assert any_store.get_lock(conversation) is None

    run(main())
    assert handled == list(range(10))


def test_conversations_go_in_parallel(any_store: LockStore, conversation: str) -> None:
    async def main() -> None:
        async with any_store.lock(f"{conversation} a"):
            async with any_store.lock(f"{conversation} b"):
                assert any_store.is_someone_waiting(f"{conversation} a")
                assert any_store.is_someone_waiting(f"{conversation} b")

    run(main())


def test_an_exception_inside_gives_the_lock_back(any_store: LockStore, conversation: str) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with any_store.lock(conversation):
                raise ZeroDivisionError
        assert any_store.get_lock(conversation) is None

    run(main())


def test_lock_waits_for_a_ticket_that_was_issued_by_number(
    any_store: LockStore, conversation: str
) -> None:
    async def main() -> None:
        number = any_store.issue_ticket(conversation)

        async def wait() -> int:
            async with any_store.lock(conversation, wait_time_in_seconds=0.01) as lock:
                return lock.now_serving

        waiting = asyncio.create_task(wait())
        while any_store.get_lock(conversation).last_issued != 1:
            await asyncio.sleep(0.005)
        assert not waiting.done()
        any_store.cleanup(conversation, number)
        assert await waiting == 1
        assert any_store.get_lock(conversation) is None

    run(main())


@pytest.mark.parametrize("name", ["ünïcödé 🍕", "a/b:c{d}", " ", "x" * 500, "new\nline"])
def test_any_conversation_id(any_store: LockStore, name: str) -> None:
    async def main() -> None:
        async with any_store.lock(name) as lock:
            assert lock.conversation_id == name
            assert any_store.get_lock(name).conversation_id == name
        assert any_store.get_lock(name) is None

    run(main())
