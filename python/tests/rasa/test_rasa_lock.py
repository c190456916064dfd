"""What our `lock()` promises besides Rasa's contract."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time

import pytest
from attempts import TooLate, in_time
from rasa_support import run, soon_true
from rasa.core.lock import TicketLock
from rasa.core.lock_store import LockError

import lock_store
from lock_store.rasa import RasaLockStore


def waiting(store: RasaLockStore, conversation: str) -> int:
    lock = store.get_lock(conversation)
    return len(lock.tickets) if lock else 0


def test_waiting_does_not_block_the_event_loop(
    our_store: RasaLockStore, conversation: str
) -> None:
    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def wait() -> None:
            async with our_store.lock(conversation):
                pass

        counting = asyncio.create_task(other())
        async with our_store.lock(conversation):
            tasks = [asyncio.create_task(wait()) for _ in range(5)]
            await soon_true(lambda: waiting(our_store, conversation) == 6, "all are in line")
            before = turns
            await soon_true(lambda: turns > before + 1000, "the loop turns while they wait")
            assert not any(task.done() for task in tasks)
        await asyncio.gather(*tasks)
        counting.cancel()

    run(main())


def test_the_yielded_lock_has_our_guard(our_store: RasaLockStore, conversation: str) -> None:
    async def main() -> None:
        async with our_store.lock(conversation, lock_lifetime=5) as lock:
            assert isinstance(lock, TicketLock)
            first = lock.guard.fencing_token
            [ticket] = lock.tickets
            assert 0 < ticket.expires - time.time() <= 5
            assert not ticket.has_expired()
            await lock.guard.extend(60)
            assert ticket.expires - time.time() > 10
            assert not lock.guard.is_lost
            assert TicketLock.from_dict({"tickets": [ticket.dumps()]}).last_issued == 0
            with pytest.raises(LockError):
                our_store.save_lock(lock)
        async with our_store.lock(conversation) as lock:
            assert lock.guard.fencing_token > first

    run(main())


def test_who_holds_and_waits_is_untouched_when_a_lock_is_read_and_saved(
    our_store: RasaLockStore, conversation: str
) -> None:
    async def main() -> None:
        order: list[int] = []

        async def handle() -> None:
            async with our_store.lock(conversation) as lock:
                order.append(lock.guard.ticket_number)

        async with our_store.lock(conversation):
            tasks = [asyncio.create_task(handle()) for _ in range(3)]
            await soon_true(lambda: waiting(our_store, conversation) == 4, "all are in line")
            lock = our_store.get_lock(conversation)
            lock.remove_ticket_for(2)
            our_store.save_lock(lock)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert order == [1, 3]
        assert [type(result) for result in results] == [type(None), LockError, type(None)]

    run(main())


def test_a_turn_that_does_not_come_is_rasas_lock_error(
    our_store: RasaLockStore, conversation: str
) -> None:
    async def main() -> None:
        async def wait(seconds: float) -> None:
            with pytest.raises(LockError) as error:
                async with our_store.lock(conversation, lock_lifetime=seconds):
                    pytest.fail("two at the same time")
            if isinstance(error.value.__cause__, lock_store.LockStoreUnavailable):
                raise TooLate("to have a ticket")
            assert f"conversation_id '{conversation}'" in str(error.value)
            assert isinstance(error.value.__cause__, lock_store.LockTimeout)

        async with our_store.lock(conversation):
            await in_time(wait, 0.05)
            await soon_true(lambda: waiting(our_store, conversation) == 1, "its ticket left")

    run(main())


def test_a_deleted_lock_is_rasas_lock_error_for_who_waits(
    our_store: RasaLockStore, conversation: str
) -> None:
    async def main() -> None:
        number = our_store.issue_ticket(conversation)

        async def wait() -> None:
            async with our_store.lock(conversation):
                pytest.fail("served after all")

        task = asyncio.create_task(wait())
        await soon_true(lambda: waiting(our_store, conversation) == 2, "it waits")
        our_store.delete_lock(conversation)
        with pytest.raises(LockError) as error:
            await task
        assert isinstance(error.value.__cause__, lock_store.LockGone)
        our_store.cleanup(conversation, number)

    run(main())


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_a_cancelled_waiter_leaves_the_line(
    our_store: RasaLockStore, conversation: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async def handle() -> None:
            async with our_store.lock(conversation):
                pass

        with caplog.at_level(level, "rasa.core.lock_store"):
            async with our_store.lock(conversation):
                first = asyncio.create_task(handle())
                await soon_true(lambda: waiting(our_store, conversation) == 2, "it waits")
                second = asyncio.create_task(handle())
                await soon_true(lambda: waiting(our_store, conversation) == 3, "it waits")
                first.cancel()
                await soon_true(lambda: waiting(our_store, conversation) == 2, "it left")
            await second
            assert first.cancelled()

    run(main())


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_a_waiter_may_be_cancelled_at_any_step(
    our_store: RasaLockStore, conversation: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle() -> None:
        async with our_store.lock(conversation):
            await asyncio.sleep(0)

    async def main() -> None:
        with caplog.at_level(level, "rasa.core.lock_store"):
            for steps in range(40):
                tasks = [asyncio.create_task(handle()) for _ in range(3)]
                for _ in range(steps):
                    await asyncio.sleep(0)
                tasks[1].cancel()
                await asyncio.wait(tasks)
                for task in (tasks[0], tasks[2]):
                    task.result()
                await soon_true(lambda: waiting(our_store, conversation) == 0, "all left")

    run(main())


def test_a_cancelled_holder_gives_the_lock_back(
    our_store: RasaLockStore, conversation: str
) -> None:
    async def main() -> None:
        async def hold() -> None:
            async with our_store.lock(conversation):
                await asyncio.sleep(3600)

        task = asyncio.create_task(hold())
        await soon_true(lambda: waiting(our_store, conversation) == 1, "it holds")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with our_store.lock(conversation) as lock:
            assert lock.now_serving == 0

    run(main())


def test_a_loop_that_ends_gives_back(our_store: RasaLockStore, conversation: str) -> None:
    async def main() -> None:
        async def hold() -> None:
            async with our_store.lock(conversation):
                await asyncio.sleep(3600)

        asyncio.create_task(hold()).set_name("left alone")
        await soon_true(lambda: waiting(our_store, conversation) == 1, "it holds")

    run(main())
    gc.collect()

    async def another_loop() -> None:
        async with our_store.lock(conversation):
            pass

    run(another_loop())


def test_event_loops_of_several_threads(our_store: RasaLockStore, conversation: str) -> None:
    inside = 0
    handled = 0

    async def handle() -> None:
        nonlocal inside, handled
        async with our_store.lock(conversation):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.001)
            inside -= 1
            handled += 1

    async def many() -> None:
        await asyncio.gather(*(handle() for _ in range(10)))

    threads = [threading.Thread(target=run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert handled == 40


def warnings(caplog: pytest.LogCaptureFixture, logger: str) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and record.name == logger
    ]


def test_a_lock_that_runs_out_is_warned_about_at_that_moment(
    our_store: RasaLockStore, conversation: str, caplog: pytest.LogCaptureFixture
) -> None:
    def said() -> list[str]:
        return warnings(caplog, "rasa.core.lock_store")

    async def lose(lifetime: float) -> None:
        async with our_store.lock(conversation, lock_lifetime=lifetime) as lock:
            await soon_true(lambda: bool(said()), "a warning")
            assert lock.guard.is_lost
            # Who is next need not wait for it.
            async with our_store.lock(conversation):
                pass
        [warning] = said()
        assert f"'{conversation}'" in warning and "keep_alive" in warning

    # An error only if it is over before it is had.
    run(in_time(lose, 0.25, LockError))


def test_a_lock_that_was_deleted_is_warned_about_at_the_end(
    our_store: RasaLockStore, conversation: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with our_store.lock(conversation):
            our_store.delete_lock(conversation)
        [warning] = warnings(caplog, "rasa.core.lock_store")
        assert "Lost the lock" in warning

    run(main())


def test_a_lease_that_was_extended_is_not_lost(
    our_store: RasaLockStore, conversation: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def extend(lifetime: float) -> None:
        caplog.clear()
        try:
            async with our_store.lock(conversation, lock_lifetime=lifetime) as lock:
                first = lock.guard.deadline
                await lock.guard.extend(30)
                await soon_true(lambda: time.monotonic() > first + 0.05, "the first lease is over")
        except (LockError, lock_store.LockLost) as error:
            raise TooLate from error
        assert not warnings(caplog, "rasa.core.lock_store")

    run(in_time(extend, 0.5))
