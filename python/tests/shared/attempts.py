"""Attempts that need a short time, on machines that may be busy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

#: In seconds. Who has more is told that it was in vain.
LONGEST = 7.5


class TooLate(Exception):
    """An attempt took longer than the time that it had."""


async def in_time(
    attempt: Callable[[float], Awaitable[T]],
    seconds: float,
    too_late: type[Exception] = TooLate,
) -> T:
    """Attempts what needs a short time, which must not be over too soon. Where
    it was, as on a busy machine, the next attempt has twice the time."""
    while True:
        try:
            return await attempt(seconds)
        except too_late:
            if seconds > LONGEST:
                raise
        seconds *= 2
