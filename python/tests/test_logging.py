"""Events of the store in Python's logging."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from conftest import PATIENCE, Redis
from lock_store import LockStore
from programs import run

LOGGER = logging.getLogger("lock_store")


class Collected(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.arrived = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self.arrived:
            self.records.append(record)
            self.arrived.notify_all()

    def wait_for(self, text: str) -> logging.LogRecord:
        """The first record with this text, removed with all before it."""
        with self.arrived:
            found = self.arrived.wait_for(lambda: self._find(text), PATIENCE)
            assert found, f"{text!r} is not among {[r.getMessage() for r in self.records]}"
            record = found[0]
            del self.records[: self.records.index(record) + 1]
            return record

    def _find(self, text: str) -> list[logging.LogRecord]:
        return [record for record in self.records if text in record.getMessage()]


@pytest.fixture
def collected() -> Iterator[Collected]:
    handler = Collected()
    LOGGER.addHandler(handler)
    yield handler
    LOGGER.removeHandler(handler)
    LOGGER.setLevel(logging.NOTSET)
    logging.disable(logging.NOTSET)


def test_an_event_says_all_it_knows(collected: Collected) -> None:
    LOGGER.setLevel(logging.DEBUG)
    before = time.time()
    with LockStore.in_memory().lock("abc"):
        pass
    record = collected.wait_for("acquired lock")
    assert record.name == "lock_store"
    assert record.levelno == logging.DEBUG
    assert record.getMessage() == "acquired lock conversation=abc ticket=0 contended=False"
    assert record.conversation == "abc"  # type: ignore[attr-defined]
    assert record.ticket == 0  # type: ignore[attr-defined]
    assert before - 0.01 <= record.created <= time.time()
    collected.wait_for("released lock")


def test_a_warning_comes_without_any_setting(collected: Collected) -> None:
    store = LockStore.in_memory(lock_lifetime=0.02)
    guard = store.lock("lost").acquire()
    guard.lost().result()
    record = collected.wait_for("lost lock")
    assert record.levelno == logging.WARNING
    del guard


def test_levels_are_noticed_when_they_change(collected: Collected) -> None:
    store = LockStore.in_memory()
    root = logging.getLogger()
    before = root.level

    def cycle(name: str) -> None:
        with store.lock(name):
            pass

    told = []

    def hear() -> None:
        told.append(collected.wait_for("released lock").conversation)  # type: ignore[attr-defined]

    try:
        root.setLevel(logging.WARNING)
        cycle("quiet")
        root.setLevel(logging.DEBUG)
        cycle("by-root")
        # Before the next change: the level counts when an event is told, too.
        hear()
        logging.disable(logging.INFO)
        cycle("disabled")
        logging.disable(logging.NOTSET)
        LOGGER.setLevel(logging.INFO)
        cycle("own-info")
        LOGGER.setLevel(logging.DEBUG)
        cycle("own-debug")
    finally:
        root.setLevel(before)
    while "own-debug" not in told:
        hear()
    assert told == ["by-root", "own-debug"]


def test_a_handler_that_fails_harms_nobody(
    collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ZeroDivisionError

    told = []
    monkeypatch.setattr("sys.unraisablehook", lambda told_: told.append(told_.exc_type))
    LOGGER.setLevel(logging.DEBUG)
    broken = Broken()
    LOGGER.addHandler(broken)
    try:
        with LockStore.in_memory().lock("abc"):
            pass
        collected.wait_for("deleted lock conversation=abc")
    finally:
        LOGGER.removeHandler(broken)
    assert ZeroDivisionError in told


def test_a_slow_handler_never_holds_a_lock_up() -> None:
    """What comes faster than it is taken is lost, and counted."""
    entered, go_on = threading.Event(), threading.Event()
    slow = Collected()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            entered.set()
            go_on.wait()
            slow.emit(record)

    handler = Slow()
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)
    try:
        store = LockStore.in_memory()
        with store.lock("first"):
            pass
        assert entered.wait(PATIENCE)
        for _ in range(4_000):
            with store.lock("a"):
                pass
        go_on.set()
        record = slow.wait_for("events were lost")
        assert record.levelno == logging.WARNING
    finally:
        go_on.set()
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(logging.NOTSET)


def test_what_is_logged_last_is_told_before_the_exit(redis: Redis) -> None:
    out = run(
        redis.url,
        """
        import logging
        logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(name)s %(message)s")
        with open_store().lock("a"):
            pass
        """,
    )
    assert "lock_store connected to Redis\n" in out
    assert "lock_store released lock conversation=a ticket=0\n" in out


def test_an_outage_is_told(redis: Redis) -> None:
    """Warnings from the store's own thread, on standard error by default."""
    from programs import Program

    program = Program(
        "redis://127.0.0.1:1/1",
        """
        store = LockStore.redis(URL, fallback="in_memory")
        store.connect().result()
        assert store.is_degraded
        with store.lock("a"):
            pass
        print("degraded")
        """,
    )
    program.says("degraded")
    ended = program.end()
    assert ended.code == 0
    assert "the locks are in the memory of this process" in ended.err
