"""Work that is stopped when its lock is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from lock_store._lock_store import Lock, LockGuard

T = TypeVar("T")


async def run(lock: Lock, work: Callable[[LockGuard], Awaitable[T]]) -> T:
    """Locks, awaits ``work(guard)``, releases."""
    async with lock as guard:
        working = asyncio.ensure_future(_awaited(work, guard))
        watching = asyncio.ensure_future(guard.lost())
        try:
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            loss = watching.result() if watching.done() else None
            if working.done() or loss is None:
                # Also when the work released the lock itself.
                return await working
            raise loss
        finally:
            watching.cancel()
            # Also when this task is cancelled: no work goes on without its lock.
            await _stopped(working)


async def _awaited(work: Callable[[LockGuard], Awaitable[T]], guard: LockGuard) -> T:
    return await work(guard)


async def _stopped(working: asyncio.Future[T]) -> None:
    """Cancels it, and waits until it has seen to that."""
    if not working.done():
        working.cancel()
    cancelled: asyncio.CancelledError | None = None
    while not working.done():
        try:
            await asyncio.wait({working})
        except asyncio.CancelledError as error:
            # Cancelled again: so is the work, but it is not left behind.
            cancelled = error
            working.cancel()
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            cancelled = None  # its traceback has this frame, with all that is in it
