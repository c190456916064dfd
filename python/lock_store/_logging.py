"""Events of the store in ``logging``, under ``lock_store``."""

from __future__ import annotations

import logging
from typing import Any, Optional

from lock_store import _lock_store

_logger = logging.getLogger("lock_store")


class _NoticingCache(dict[int, bool]):
    """Where a logger remembers which levels it is enabled for.

    ``logging`` clears it when any level changes anywhere, and whatever is
    disabled altogether: the moment at which the store must know.
    """

    def clear(self) -> None:
        super().clear()
        tell_level()


def tell_level() -> None:
    """Tells the store from which level on its events are wanted."""
    level = max(_logger.getEffectiveLevel(), _logger.manager.disable + 1)
    _lock_store._levels_changed(level)


def begin() -> None:
    """Follows the levels from now on."""
    # Without this detail of `logging` the level at import counts, until
    # something is logged.
    if hasattr(_logger, "_cache"):
        _logger._cache = _NoticingCache()
    tell_level()


def deliver(
    level: int,
    name: str,
    message: str,
    fields: dict[str, Any],
    created: float,
    thread: Optional[str],
) -> None:
    """Hands over one event. Called in a thread of its own."""
    logger = logging.getLogger(name)
    if not logger.isEnabledFor(level):
        tell_level()
        return
    text = message
    for field, value in fields.items():
        text += f" {field}={value}"
    record = logger.makeRecord(name, level, "(lock_store)", 0, text, (), None)
    if created:
        # When it happened, not when it was told.
        record.relativeCreated += (created - record.created) * 1000
        record.created = created
        record.msecs = created % 1 * 1000
    # Of the thread in which it happened; only our own have a name that is known.
    record.thread = None
    record.threadName = "MainThread" if thread == "main" else thread
    for field, value in fields.items():
        # As `extra` does, without what a record has itself.
        if field not in record.__dict__ and field != "message":
            record.__dict__[field] = value
    logger.handle(record)
