"""`layout: rasa`: instances with Rasa's own store and with ours share locks.

Rasa's store reads, changes and writes back; what we do in between is undone. So
leases are short here: what came back that way does not stay.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from rasa_support import RedisServer, run, soon_true
from rasa.core.lock_store import LockStore, RedisLockStore

from lock_store.rasa import RasaLockStore


class Sharing:
    """Rasa's store and ours on one Redis."""

    def __init__(self, server: RedisServer, **settings: Any) -> None:
        where = {"host": "127.0.0.1", "port": server.port, **settings}
        self.rasas = RedisLockStore(**where)
        self.ours = RasaLockStore(layout="rasa", fallback="none", wait_time=0.05, **where)

    def tickets(self, conversation: str) -> list[list[int]]:
        """What each of them sees. They look one after the other: while a ticket
        comes or goes, they need not see the same."""
        locks = [store.get_lock(conversation) for store in (self.rasas, self.ours)]
        return [[ticket.number for ticket in lock.tickets] if lock else [] for lock in locks]


def both(tickets: list[int]) -> list[list[int]]:
    return [tickets, tickets]


@pytest.fixture
def sharing(redis_server: RedisServer) -> Iterator[Sharing]:
    yield Sharing(redis_server)
    assert not redis_server.keys(), "nothing is left"


def other(sharing: Sharing, store: LockStore) -> LockStore:
    return sharing.ours if store is sharing.rasas else sharing.rasas


@pytest.mark.parametrize("first", ["rasas", "ours"])
def test_one_waits_for_the_other(sharing: Sharing, conversation: str, first: str) -> None:
    async def main() -> None:
        holds = getattr(sharing, first)
        waits = other(sharing, holds)
        order = []

        async def wait() -> None:
            async with waits.lock(conversation, 60, 0.05):
                order.append("second")

        async with holds.lock(conversation, 5 if first == "ours" else 60):
            task = asyncio.create_task(wait())
            await soon_true(lambda: sharing.tickets(conversation) == both([0, 1]), "it is in line")
            order.append("first")
        await task
        assert order == ["first", "second"]

    run(main())


def test_a_conversation_is_kept_as_rasa_keeps_it(
    sharing: Sharing, redis_server: RedisServer, conversation: str
) -> None:
    import redis

    async def main() -> None:
        async with sharing.ours.lock(conversation):
            with redis.Redis(port=redis_server.port, db=1) as client:
                stored = json.loads(client.get(f"lock:{conversation}"))
            assert stored["conversation_id"] == conversation
            [ticket] = map(json.loads, stored["tickets"])
            assert ticket["number"] == 0

    run(main())


def test_tickets_by_number(sharing: Sharing, conversation: str) -> None:
    assert sharing.ours.issue_ticket(conversation) == 0
    assert sharing.rasas.issue_ticket(conversation) == 1
    assert sharing.ours.issue_ticket(conversation) == 2
    sharing.rasas.finish_serving(conversation, 0)
    assert sharing.tickets(conversation) == both([1, 2])
    sharing.ours.finish_serving(conversation, 1)
    assert sharing.tickets(conversation) == both([2])
    sharing.rasas.cleanup(conversation, 2)
    assert sharing.tickets(conversation) == both([])


def test_rasas_rule_for_prefixes(
    redis_server: RedisServer, conversation: str, caplog: pytest.LogCaptureFixture
) -> None:
    shared = Sharing(redis_server, key_prefix="bot7")
    shared.ours.issue_ticket(conversation)
    assert redis_server.keys() == [f"bot7:lock:{conversation}".encode()]
    assert shared.tickets(conversation) == both([0])
    shared.rasas.cleanup(conversation, 0)

    with caplog.at_level(logging.WARNING):
        left_out = Sharing(redis_server, key_prefix="my-bot")
    assert sum("my-bot" in record.getMessage() for record in caplog.records) == 2
    left_out.ours.issue_ticket(conversation)
    assert redis_server.keys() == [f"lock:{conversation}".encode()]
    assert left_out.tickets(conversation) == both([0])
    left_out.ours.cleanup(conversation, 0)
    assert redis_server.keys() == []


def test_two_of_ours_beside_rasas(
    sharing: Sharing, redis_server: RedisServer, conversation: str
) -> None:
    """Among themselves ours are as prompt and exact as in their own layout."""
    second = Sharing(redis_server)
    handled: list[int] = []
    inside = 0

    async def handle(store: LockStore) -> None:
        nonlocal inside
        async with store.lock(conversation) as lock:
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            handled.append(lock.guard.fencing_token)
            inside -= 1

    async def main() -> None:
        stores = (sharing.ours, second.ours)
        await asyncio.gather(*(handle(stores[i % 2]) for i in range(20)))

    run(main())
    assert len(handled) == 20
    assert handled == sorted(handled)
