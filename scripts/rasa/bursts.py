"""Bursts of messages for two servers, and what must be true of them afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp
from kitchen import Handled, Kitchen

#: How many tickets a conversation has in Redis.
Tickets = Callable[[str], int]


class Broken(SystemExit):
    """What must be true is not."""


@dataclass
class Fleet:
    """Two servers, and their kitchen."""

    kitchen: Kitchen
    ports: tuple[int, int]
    tickets: Tickets
    session: aiohttp.ClientSession

    async def send(self, sender: str, number: int, server: int) -> str | None:
        """Sends a message; returns the answer, or `None` if there is none."""
        url = f"http://127.0.0.1:{self.ports[server]}/webhooks/rest/webhook"
        message = {"sender": sender, "message": f"add {number}"}
        try:
            async with self.session.post(url, json=message) as response:
                answers: list[dict[str, Any]] = await response.json()
        except aiohttp.ClientError:
            return None
        return answers[0]["text"] if answers else None

    async def line_up(
        self, sender: str, servers: Iterable[int]
    ) -> tuple[asyncio.Event, list[asyncio.Task[str | None]]]:
        """Sends message after message to these servers, each as soon as the one
        before it has its ticket, so that their order is known. The first is in
        the kitchen, and stays there until the gate is opened."""
        gate = self.kitchen.gates[sender] = asyncio.Event()
        sent: list[asyncio.Task[str | None]] = []
        for number, server in enumerate(servers):
            sent.append(asyncio.create_task(self.send(sender, number, server)))
            if number == 0:
                await self.kitchen.begun(sender)
            deadline = time.monotonic() + 60
            while self.tickets(sender) != number + 1:
                if sent[-1].done() or time.monotonic() > deadline:
                    raise Broken(f"message {number} of {sender} has no ticket")
                await asyncio.sleep(0.002)
        return gate, sent

    async def in_known_order(self, senders: list[str], messages: int) -> None:
        """Every sender's next message goes to the other server; the order in
        which they arrive is known, and must be the order of their handling."""
        lines = await asyncio.gather(
            *(
                self.line_up(sender, [(i + n) % 2 for n in range(messages)])
                for i, sender in enumerate(senders)
            )
        )
        for gate, _ in lines:
            gate.set()
        for sender, (_, sent) in zip(senders, lines):
            answers = await asyncio.gather(*sent)
            handled = self.check(sender, messages)
            if [this.number for this in handled] != list(range(messages)):
                raise Broken(f"{sender}: handled out of order: {handled}")
            expected = [" ".join(map(str, range(n + 1))) for n in range(messages)]
            if answers != expected:
                raise Broken(f"{sender}: wrong answers: {answers}")

    async def all_at_once(self, senders: list[str], messages: int) -> None:
        """Every sender's messages go to both servers at the same time."""
        sent = [
            self.send(sender, number, (i + number) % 2)
            for number in range(messages)
            for i, sender in enumerate(senders)
        ]
        answers = await asyncio.gather(*sent)
        if None in answers:
            raise Broken(f"{answers.count(None)} messages have no answer")
        for sender in senders:
            self.check(sender, messages)

    def check(self, sender: str, messages: int) -> list[Handled]:
        """Each message was handled once, one at a time, and each saw all that
        was handled before it."""
        handled = self.kitchen.handled[sender]
        if sorted(this.number for this in handled) != list(range(messages)):
            raise Broken(f"{sender}: not each message was handled once: {handled}")
        one_at_a_time(sender, handled)
        done: list[int] = []
        for this in handled:
            if this.order != done or this.known != [*done, this.number]:
                raise Broken(f"{sender}: {this} does not know of all in {done}")
            done.append(this.number)
        return handled


def one_at_a_time(sender: str, handled: list[Handled]) -> None:
    for before, after in zip(handled, handled[1:]):
        if before.ended is None or after.begun < before.ended:
            raise Broken(f"{sender}: two at the same time: {before}, {after}")


def tickets_of_ours(redis: Any) -> Tickets:
    return lambda sender: redis.llen(f"lock-store:tickets:{sender}")


def tickets_of_rasa(redis: Any) -> Tickets:
    def tickets(sender: str) -> int:
        stored = redis.get(f"lock:{sender}")
        return len(json.loads(stored)["tickets"]) if stored else 0

    return tickets
