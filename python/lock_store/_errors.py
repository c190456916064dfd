"""What can go wrong, told apart by what the caller can do about it."""

from __future__ import annotations

from typing import Any, Callable, Optional


class LockError(Exception):
    """Why a lock could not be acquired, kept or given back.

    The text says what happened, for which conversation, and what to do. The
    attributes are for programs. Every other error of this module is one of
    these.
    """

    #: What happened, in a word; the metrics use it for the label ``reason``.
    kind: str = "other"
    #: Whether the same call may succeed later.
    is_retryable: bool = False

    def __init__(
        self,
        message: str = "",
        *,
        conversation_id: Optional[str] = None,
        waited: Optional[float] = None,
        ahead: Optional[int] = None,
    ) -> None:
        super().__init__(message)
        #: The conversation that it happened to.
        self.conversation_id = conversation_id
        #: How many seconds the caller had waited for its turn.
        self.waited = waited
        #: How many tickets were ahead when last looked.
        self.ahead = ahead

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Callable[..., LockError], tuple[Any, ...]]:
        # An error goes through process pools with all that it says.
        return _rebuild, (
            type(self),
            str(self),
            self.conversation_id,
            self.waited,
            self.ahead,
        )


def _rebuild(
    cls: type[LockError],
    message: str,
    conversation_id: Optional[str],
    waited: Optional[float],
    ahead: Optional[int],
) -> LockError:
    return cls(message, conversation_id=conversation_id, waited=waited, ahead=ahead)


class LockTimeout(LockError, TimeoutError):
    """The turn did not come within the wait timeout.

    The ticket was given back. Trying again joins the queue at its end.
    """

    kind = "timed_out"
    is_retryable = True


class LockLost(LockError):
    """A held lock is no longer ours.

    Its lease ran out, or somebody deleted it. What was done under it may have
    met another holder's work.
    """

    kind = "lost"


class LockGone(LockError):
    """A waiting ticket is no longer in the queue.

    The lock was deleted, the store lost its data, or this process was taken
    for dead. Trying again joins the queue at its end.
    """

    kind = "gone"
    is_retryable = True


class LockStoreUnavailable(LockError):
    """The store could not be reached, or did not answer in time."""

    kind = "unavailable"
    is_retryable = True


class InvalidConversationId(LockError, ValueError):
    """The conversation id is empty, too long, or not valid Unicode."""

    kind = "invalid_conversation_id"


class LockConfigError(LockError, ValueError):
    """A setting is wrong. The text says which and what would be right."""

    kind = "config"


class LockCorrupt(LockError):
    """What is stored for the conversation is not a lock."""

    kind = "corrupt"


class LockStoreClosed(LockError):
    """The store was closed, or the interpreter is exiting."""

    kind = "closed"


class LockNotReplicated(LockError):
    """Fewer replicas than configured have acknowledged the acquisition.

    The ticket was given back. Trying again joins the queue at its end.
    """

    kind = "not_replicated"
    is_retryable = True


class LockForked(LockError):
    """It belongs to the process that this one was forked from.

    Guards and places stay with their process, and so does a store in memory.
    A store on Redis is opened anew by itself.
    """

    kind = "forked"
