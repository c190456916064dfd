"""A chat service: the messages of a conversation are answered one at a time, in
the order in which they came, by however many of these there are.

    python examples/python/bot.py                             # one process
    python examples/python/bot.py redis://localhost:6379/1    # one of many
"""

from __future__ import annotations

import asyncio
import sys

from lock_store import LockError, LockGuard, LockStore


async def answer(guard: LockGuard, sender: str, text: str) -> None:
    await asyncio.sleep(0.05)
    # Whatever is written under the lock can refuse a lower token.
    print(f"{guard.fencing_token} {sender}: {text}")


async def handle(store: LockStore, sender: str, text: str) -> None:
    try:
        await store.run(sender, lambda guard: answer(guard, sender, text), keep_alive=True)
    except LockError as error:
        print(f"{sender}: {error}", file=sys.stderr)


async def main() -> None:
    if len(sys.argv) > 1:
        # Each process in a memory of its own would be no lock.
        store = LockStore.redis(sys.argv[1])
    else:
        store = LockStore.in_memory()
    async with store:
        messages = [(f"sender-{i % 3}", f"message {i}") for i in range(12)]
        await asyncio.gather(*(handle(store, sender, text) for sender, text in messages))


if __name__ == "__main__":
    asyncio.run(main())
