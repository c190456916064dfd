"""The lock store that Rasa 3.6 loads from its ``endpoints.yml``.

    lock_store:
      type: lock_store.rasa.RasaLockStore
      url: localhost
      port: 6379
      password: ${REDIS_PASSWORD}

The way of a message: Rasa's ``Agent`` enters :meth:`RasaLockStore.lock`, which
takes a ticket, waits to be called, and gives the ticket back at the end. Rasa's
other methods are for programs that are written for them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Optional

import rasa.core.lock_store
from rasa.core.lock import TicketLock

import lock_store
from lock_store._rasa_locks import HeldLock, from_stored, to_stored
from lock_store._rasa_settings import open_store

# Whoever reads Rasa's log finds its messages where they were.
logger = logging.getLogger("rasa.core.lock_store")


class RasaLockStore(rasa.core.lock_store.LockStore):  # type: ignore[misc, unused-ignore]
    """Rasa's ``LockStore``, on Redis (the default) or in memory.

    Takes every key that Rasa's ``RedisLockStore`` takes, those of this package,
    ``store: in_memory`` for locks in the memory of one process, and ``layout:
    rasa`` to share locks with instances that run Rasa's own store. Rasa makes
    it with the ``EndpointConfig`` that it read; a program may give the keys as
    keyword arguments.
    """

    def __init__(self, endpoint_config: Optional[Any] = None, **settings: Any) -> None:
        """Opens the store.

        Raises ``InvalidConfigException`` for a wrong setting, and, where
        ``fallback: none`` says so, ``ConnectionError`` when Redis is not there.
        """
        super().__init__()
        self._store, self._patience = open_store(endpoint_config, settings)
        self._emptied = _Emptied()

    @asynccontextmanager
    async def lock(
        self,
        conversation_id: str,
        lock_lifetime: Optional[float] = None,
        wait_time_in_seconds: float = 1,
    ) -> AsyncIterator[TicketLock]:
        """Waits until every ticket taken before is done, and yields the lock.

        Args:
            conversation_id: Whose messages are handled one at a time.
            lock_lifetime: The lease in seconds, from the turn on, waiting not
                included. As configured, 60 by default.
            wait_time_in_seconds: Rasa's time between two looks. Accepted, and
                not needed: who is next is called.

        Raises Rasa's ``LockError`` when the turn does not come in time, or the
        store cannot be reached.
        """
        logger.debug(f"Issuing ticket for conversation '{conversation_id}'.")
        with _as_rasas_error("Error while acquiring lock. Error:\n"):
            place = await self._store.take_ticket(conversation_id, lifetime=lock_lifetime)
        logger.debug(f"Acquiring lock for conversation '{conversation_id}'.")
        failed = f"Could not acquire lock for conversation_id '{conversation_id}'. Error:\n"
        with _as_rasas_error(failed):
            await self._say_who_is_ahead(place)
            guard = await place.wait()
        logger.debug(f"Acquired lock for conversation '{conversation_id}'.")
        watch = _Watch(guard)
        try:
            yield HeldLock(guard)
        finally:
            watch.stop()
            await self._give_back(guard, watch)

    async def _say_who_is_ahead(self, place: lock_store.Place) -> None:
        if not logger.isEnabledFor(logging.DEBUG):
            return
        try:
            ahead = await place.position()
        except BaseException:
            place.leave()
            raise
        if ahead:
            logger.debug(
                f"Failed to acquire lock for conversation ID '{place.conversation_id}' "
                f"because {ahead} other item(s) for this "
                f"conversation ID have to be finished processing first. "
                f"Waiting to be called ..."
            )

    async def _give_back(self, guard: lock_store.LockGuard, watch: _Watch) -> None:
        """The message is handled, whatever becomes of its ticket: no error."""
        conversation_id = guard.conversation_id
        try:
            await guard.release()
            self._emptied.forget(conversation_id)
            if logger.isEnabledFor(logging.DEBUG):
                is_left = await self._store.is_someone_waiting(conversation_id)
                if not is_left:
                    self._log_deletion(conversation_id, deletion_successful=True)
        except lock_store.LockLost:
            watch.tell()
        except lock_store.LockError as error:
            logger.warning(
                f"Could not give back the lock of conversation '{conversation_id}' yet; "
                f"it is tried again in the background, and the lock ends with its "
                f"lifetime. Error: {error}"
            )

    def issue_ticket(self, conversation_id: str, lock_lifetime: Optional[float] = None) -> int:
        """Issues a ticket in Rasa's manner, in one atomic step.

        Its lifetime runs from now, waiting included, and nobody is called: it
        is served when ``get_lock`` says so.
        """
        logger.debug(f"Issuing ticket for conversation '{conversation_id}'.")
        with _as_rasas_error("Error while acquiring lock. Error:\n"):
            issue = self._store.issue_ticket(conversation_id, lock_lifetime)
            # It goes on trying for a lifetime; a loop that stands still cannot.
            number = issue.result(self._patience)
        self._emptied.forget(conversation_id)
        return number

    def get_lock(self, conversation_id: str) -> Optional[TicketLock]:
        """The lock as it is stored: a copy, whose changes ``save_lock`` stores."""
        with _as_rasas_error():
            stored = self._store.get_lock(conversation_id).result()
        if stored is not None:
            return from_stored(stored)
        if conversation_id in self._emptied:
            return self.create_lock(conversation_id)
        return None

    def save_lock(self, lock: TicketLock) -> None:
        """Stores a lock instead of what is there.

        Not atomic with an earlier ``get_lock``: for repair, not for locking.
        """
        with _as_rasas_error():
            self._store.save_lock(to_stored(lock)).result()
        if lock.tickets:
            self._emptied.forget(lock.conversation_id)
        else:
            self._emptied.remember(lock.conversation_id)

    def delete_lock(self, conversation_id: str) -> None:
        """Deletes a lock: who waits for it gets a ``LockError``, who holds it
        has lost it."""
        with _as_rasas_error():
            was_there = self._store.delete_lock(conversation_id).result()
        was_there |= self._emptied.forget(conversation_id)
        self._log_deletion(conversation_id, deletion_successful=was_there)

    def update_lock(self, conversation_id: str) -> None:
        """Drops expired tickets, in one atomic step, and calls who is next."""
        with _as_rasas_error():
            self._store.update_lock(conversation_id).result()

    def is_someone_waiting(self, conversation_id: str) -> bool:
        """Whether there is any ticket, the served one included."""
        with _as_rasas_error():
            return self._store.is_someone_waiting(conversation_id).result()

    def finish_serving(self, conversation_id: str, ticket_number: int) -> None:
        """Removes a ticket, in one atomic step, and calls who is next."""
        was_there = self.get_lock(conversation_id) is not None
        with _as_rasas_error():
            self._store.finish_serving(conversation_id, ticket_number).result()
        if was_there:
            self._emptied.remember(conversation_id)

    def cleanup(self, conversation_id: str, ticket_number: int) -> None:
        """Removes a ticket, and the lock with its last one."""
        with _as_rasas_error():
            self._store.cleanup(conversation_id, ticket_number).result()
            is_left = self._store.is_someone_waiting(conversation_id).result()
        if not is_left:
            self._emptied.forget(conversation_id)
            self._log_deletion(conversation_id, deletion_successful=True)

    def close(self) -> None:
        """Takes no new locks, and waits until what was dropped is given back."""
        with _as_rasas_error():
            self._store.close().result()


@contextmanager
def _as_rasas_error(prefix: str = "") -> Iterator[None]:
    """What Rasa and its users catch is Rasa's ``LockError``."""
    try:
        yield
    except (lock_store.LockError, TimeoutError) as error:
        raise rasa.core.lock_store.LockError(f"{prefix}{error}") from error


class _Watch:
    """Says so when a lock is lost while its message is handled.

    Rasa has no way to be told. The message goes on: half of one, without an
    answer, would be worse than one that may meet the next.
    """

    def __init__(self, guard: lock_store.LockGuard) -> None:
        self._guard = guard
        self._begun = time.monotonic()
        self._is_told = False
        self._loop = asyncio.get_running_loop()
        self._set()

    def _set(self) -> None:
        # A timer costs nothing; a task that waits for each message would.
        delay = max(self._guard.deadline - time.monotonic(), 0.001)
        self._timer = self._loop.call_later(delay, self._look)

    def _look(self) -> None:
        if self._guard.is_lost:
            self.tell()
        else:
            self._set()  # the lease was extended

    def tell(self) -> None:
        if self._is_told:
            return
        self._is_told = True
        held = time.monotonic() - self._begun
        logger.warning(
            f"Lost the lock of conversation '{self._guard.conversation_id}' (ticket "
            f"{self._guard.ticket_number}) after {held:.1f} s, while its message is "
            f"handled: another message of the conversation may be handled at the same "
            f"time. If its lease ran out, set `keep_alive: true` or a longer `lock_lifetime`."
        )

    def stop(self) -> None:
        self._timer.cancel()


class _Emptied:
    """Conversations whose lock is there in Rasa's eyes, but has no ticket.

    In Rasa a saved lock is found until it is deleted. Here a lock without
    tickets is not stored, so that nothing is left behind, and this process
    remembers the last of them.
    """

    _MOST = 10_000

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, conversation_id: str) -> bool:
        return conversation_id in self._ids

    def remember(self, conversation_id: str) -> None:
        self._ids[conversation_id] = None
        while len(self._ids) > self._MOST:
            self._ids.popitem(last=False)

    def forget(self, conversation_id: str) -> bool:
        if conversation_id not in self._ids:
            return False
        self._ids.pop(conversation_id, None)
        return True
