"""The action server of the test: handles `action_add`, and writes down what it sees."""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

WORK = 0.02


@dataclass
class Handled:
    """A message in the kitchen."""

    number: int
    begun: float
    ended: float | None
    #: The messages of this sender that the tracker knew of, this one included.
    known: list[int]
    #: What the slot had.
    order: list[int]


@dataclass
class Kitchen:
    """What was handled, by sender, as it began."""

    handled: defaultdict[str, list[Handled]] = field(
        default_factory=lambda: defaultdict(list)
    )
    #: Senders whose next message is held until its gate is opened.
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def open(self, port: int) -> web.AppRunner:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/webhook", self._webhook)
        # A server that is killed must not cancel what it asked for.
        runner = web.AppRunner(app, handler_cancellation=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner

    async def begun(self, sender: str, count: int = 1) -> None:
        """Waits until so many messages of a sender have begun."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.handled[sender]) >= count)

    async def _webhook(self, request: web.Request) -> web.Response:
        call = await request.json()
        sender, tracker = call["sender_id"], call["tracker"]
        number = number_of(tracker["latest_message"])
        order = tracker["slots"]["order"] or []
        users = [event for event in tracker["events"] if event["event"] == "user"]
        this = Handled(
            number, time.monotonic(), None, [number_of(event) for event in users], order
        )
        async with self._changed:
            self.handled[sender].append(this)
            self._changed.notify_all()
        gate = self.gates.pop(sender, None)
        if gate is not None:
            await gate.wait()
        await asyncio.sleep(WORK)
        this.ended = time.monotonic()
        order = [*order, number]
        return web.json_response(
            {
                "events": [{"event": "slot", "name": "order", "value": order}],
                "responses": [{"text": " ".join(map(str, order))}],
            }
        )


def number_of(message: dict[str, Any]) -> int:
    found = re.search(r"\d+", message["text"])
    assert found, message
    return int(found[0])
