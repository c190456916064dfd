"""Locks for conversations.

Messages of one conversation are handled one at a time, in the order in which
they arrived; messages of different conversations in parallel. In memory for
one process, on Redis for a fleet; from asyncio and from threads.

    from lock_store import LockStore

    store = LockStore.redis("redis://localhost:6379/1")

    async with store.lock("conversation-42") as guard:
        ...  # one message of the conversation is handled here

    with store.lock("conversation-42") as guard:
        ...  # the same, in a thread
"""

from lock_store import _logging
from lock_store._errors import (
    InvalidConversationId,
    LockConfigError,
    LockCorrupt,
    LockError,
    LockForked,
    LockGone,
    LockLost,
    LockNotReplicated,
    LockStoreClosed,
    LockStoreUnavailable,
    LockTimeout,
)
from lock_store._lock_store import (
    DEFAULT_CLAIM_WINDOW,
    DEFAULT_CLOSE_LIMIT,
    DEFAULT_LOCK_LIFETIME,
    DEFAULT_WAIT_TIME,
    Conversations,
    Lock,
    LockGuard,
    LockStore,
    Operation,
    Place,
    Ticket,
    TicketLock,
    __version__,
)

__all__ = [
    "DEFAULT_CLAIM_WINDOW",
    "DEFAULT_CLOSE_LIMIT",
    "DEFAULT_LOCK_LIFETIME",
    "DEFAULT_WAIT_TIME",
    "Conversations",
    "InvalidConversationId",
    "Lock",
    "LockConfigError",
    "LockCorrupt",
    "LockError",
    "LockForked",
    "LockGone",
    "LockGuard",
    "LockLost",
    "LockNotReplicated",
    "LockStore",
    "LockStoreClosed",
    "LockStoreUnavailable",
    "LockTimeout",
    "Operation",
    "Place",
    "Ticket",
    "TicketLock",
    "__version__",
]

_logging.begin()
