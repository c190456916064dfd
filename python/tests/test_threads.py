"""The store in threads."""

from __future__ import annotations

import threading
import time

import pytest

from conftest import PATIENCE, Storage
from lock_store import LockLost, LockTimeout


def test_with_excludes(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    count = 0
    lock = store.lock("a")

    def work() -> None:
        nonlocal count
        for _ in range(50):
            with lock:
                before = count
                time.sleep(0)
                count = before + 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count == 400
    assert store.get_lock("a").result() is None


def test_waiting_does_not_hold_the_interpreter(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    holder = store.lock("a").acquire()
    guards = []
    waiter = threading.Thread(target=lambda: guards.append(store.lock("a").acquire()))
    waiter.start()
    while len(store.get_lock("a").result() or ()) < 2:
        pass
    # This thread runs while that one waits.
    assert waiter.is_alive()
    holder.release().result()
    waiter.join()
    guards[0].release().result()


def test_a_result_takes_too_long(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    holder = store.lock("a").acquire()
    lost = holder.lost()
    for _ in range(2):
        with pytest.raises(TimeoutError, match="`lost` is not done yet"):
            lost.result(timeout=0.02)
    waiting = store.take_ticket("a").result().wait()
    with pytest.raises(TimeoutError):
        waiting.result(0)
    holder.release().result()
    # It went on meanwhile.
    waiting.result(30).release().result()
    assert lost.result(30) is None
    with pytest.raises(RuntimeError, match="awaited already"):
        lost.result()
    operation = store.get_lock("a")
    with pytest.raises(ValueError, match="not a number"):
        operation.result(float("nan"))
    assert operation.result() is None


def test_an_operation_that_was_blocked_for_is_dropped(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    holder = store.lock("a").acquire()
    waiting = store.take_ticket("a").result().wait()
    with pytest.raises(TimeoutError):
        waiting.result(0.01)
    del waiting
    while len(store.get_lock("a").result() or ()) > 1:
        time.sleep(0.005)
    holder.release().result()


def test_errors_of_the_body_and_of_the_release(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    with pytest.raises(KeyError), store.lock("a") as guard:
        store.delete_lock("a").result()
        assert guard.lost().result(PATIENCE)
        raise KeyError("mine")
    with pytest.raises(LockLost), store.lock("a") as guard:
        store.delete_lock("a").result()
        assert guard.lost().result(PATIENCE)
    with store.lock("a"), pytest.raises(LockTimeout):
        store.lock("a", wait_timeout=0).acquire()
    lock = store.lock("a")
    with lock:
        with pytest.raises(RuntimeError, match="not reentrant"), lock:
            raise AssertionError("entered twice")
    with pytest.raises(RuntimeError, match="was not entered here"):
        lock.__exit__(None, None, None)


def test_a_guard_is_a_context(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    guard = store.try_lock("a").result()
    assert guard is not None
    with guard as same:
        assert same is guard and not guard.is_released
    assert guard.is_released
    with store, store.lock("a"):
        pass


def test_places_are_left(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    place = store.take_ticket("a").result()
    place.leave()
    place.leave()
    with pytest.raises(RuntimeError, match="left"):
        place.wait()
    with pytest.raises(RuntimeError, match="left"):
        place.position().result()
    place = store.take_ticket("a").result()
    with pytest.warns(RuntimeWarning, match="`wait` was never awaited"):
        place.wait()
    store.close().result()
    assert store.get_lock("a").result() is None


def test_deadlines_are_on_the_clock_of_monotonic(storage: Storage) -> None:
    store = storage.store(lock_lifetime=60)
    before = time.monotonic()
    with store.lock("a", lifetime=20) as guard:
        assert before + 20 <= guard.deadline + 0.001
        assert guard.deadline <= time.monotonic() + 20
        guard.extend(40).result()
        assert guard.deadline > before + 30
    assert guard.deadline > before + 30
