"""Rasa's debug messages, under the name of Rasa's logger."""

from __future__ import annotations

import asyncio
import logging

import pytest
from rasa_support import run, soon_true
from rasa.core.lock_store import LockStore

from lock_store.rasa import RasaLockStore


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "rasa.core.lock_store"]


def test_of_a_message_that_is_alone(
    any_store: LockStore, conversation: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with any_store.lock(conversation):
            pass

    with caplog.at_level(logging.DEBUG):
        run(main())
    assert said(caplog) == [
        f"Issuing ticket for conversation '{conversation}'.",
        f"Acquiring lock for conversation '{conversation}'.",
        f"Acquired lock for conversation '{conversation}'.",
        f"Deleted lock for conversation '{conversation}'.",
    ]


def test_of_messages_that_wait(
    any_store: LockStore, conversation: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async def handle() -> None:
            async with any_store.lock(conversation, wait_time_in_seconds=0.01):
                pass

        def has_said(ahead: int) -> bool:
            return any(
                f"for conversation ID '{conversation}' because {ahead} other item(s)" in text
                for text in said(caplog)
            )

        async with any_store.lock(conversation):
            tasks = [asyncio.create_task(handle()) for _ in range(2)]
            await soon_true(lambda: has_said(1) and has_said(2), "who is ahead")
        await asyncio.gather(*tasks)
        assert said(caplog).count(f"Deleted lock for conversation '{conversation}'.") == 1

    with caplog.at_level(logging.DEBUG):
        run(main())


def test_of_the_other_methods(
    any_store: LockStore, conversation: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        any_store.issue_ticket(conversation)
        any_store.cleanup(conversation, 0)
        any_store.delete_lock(conversation)
    assert said(caplog) == [
        f"Issuing ticket for conversation '{conversation}'.",
        f"Deleted lock for conversation '{conversation}'.",
        f"Could not delete lock for conversation '{conversation}'.",
    ]


def test_nothing_is_asked_for_logs_that_nobody_reads(
    our_store: RasaLockStore, conversation: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with our_store.lock(conversation):
            pass

    with caplog.at_level(logging.INFO):
        run(main())
    assert not said(caplog)
