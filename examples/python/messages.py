"""Handles the messages of a file, each conversation in order (asyncio).

    python messages.py ../messages.jsonl
    python messages.py ../messages.jsonl redis://localhost:6379/1

A message takes its ticket as soon as it is read, and is handled when its turn
comes; meanwhile the next one is read. Messages of different conversations are
handled at the same time.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys

from lock_store import LockStore, Place


async def handle(place: Place, sender: str, message: str) -> None:
    async with await place.wait() as guard:
        await asyncio.sleep(random.uniform(0.01, 0.05))  # the work
        print(f"{sender}, ticket {guard.ticket_number}: {message}")


async def main(file: str, url: str | None) -> None:
    store = LockStore.redis(url) if url else LockStore.in_memory()
    async with store:
        handled = []
        with open(file, encoding="utf-8") as lines:
            for line in lines:
                message = json.loads(line)
                # In line from here on, in this order.
                place = await store.take_ticket(message["sender"], keep_alive=True)
                handling = handle(place, message["sender"], message["message"])
                handled.append(asyncio.create_task(handling))
        await asyncio.gather(*handled)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
