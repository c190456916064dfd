"""Rasa's ``TicketLock`` from ours, and back."""

from __future__ import annotations

import json
import time
from collections import deque
from typing import Any

from rasa.core.lock import Ticket, TicketLock
from rasa.core.lock_store import LockError

import lock_store


class StoredTicket(Ticket):  # type: ignore[misc, unused-ignore]
    """A ticket that keeps what Rasa does not know, until it is stored again."""

    def __init__(self, stored: lock_store.Ticket) -> None:
        super().__init__(stored.number, stored.expires)
        self._stored = stored

    def as_dict(self) -> dict[str, Any]:
        """All its fields; Rasa reads the first two."""
        return {**json.loads(self._stored.to_json()), **super().as_dict()}


class HeldTicket(Ticket):  # type: ignore[misc, unused-ignore]
    """The ticket of a guard: expires when the guard's lease does, as extended."""

    def __init__(self, guard: lock_store.LockGuard) -> None:
        # Not Rasa's: `expires` is a property here.
        self.number = guard.ticket_number
        self._guard = guard

    @property
    def expires(self) -> float:
        return time.time() + self._guard.deadline - time.monotonic()


class HeldLock(TicketLock):  # type: ignore[misc, unused-ignore]
    """What ``RasaLockStore.lock`` yields: Rasa's lock, with its own ticket.

    ``guard`` is the lock in this package's terms: ``guard.fencing_token``,
    ``guard.is_lost``, ``await guard.extend(60)``.
    """

    def __init__(self, guard: lock_store.LockGuard) -> None:
        super().__init__(guard.conversation_id, deque([HeldTicket(guard)]))
        self.guard = guard


def from_stored(stored: lock_store.TicketLock) -> TicketLock:
    return TicketLock(stored.conversation_id, deque(map(StoredTicket, stored.tickets)))


def to_stored(lock: TicketLock) -> lock_store.TicketLock:
    if isinstance(lock, HeldLock):
        # It knows its own ticket only: who waits behind it would be dropped.
        raise LockError(
            f"The lock that `lock()` yields for conversation "
            f"'{lock.conversation_id}' is stored already; save what `get_lock` returns."
        )
    return lock_store.TicketLock.from_json(lock.dumps())
