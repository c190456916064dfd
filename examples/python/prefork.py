"""Workers that are forked, as gunicorn and Sanic do.

    python prefork.py redis://localhost:6379/1 balance.txt

The store is made once, before the fork; each worker connects for itself.
"""

from __future__ import annotations

import asyncio
import os
import sys

from lock_store import LockStore

WORKERS = 4
MESSAGES = 25


async def work(store: LockStore, balance: str) -> None:
    for _ in range(MESSAGES):
        # What several processes must not do at once: read, change, write back.
        async with store.lock("account", keep_alive=True):
            with open(balance, encoding="ascii") as file:
                before = int(file.read())
            await asyncio.sleep(0.001)
            with open(balance, "w", encoding="ascii") as file:
                file.write(str(before + 1))


def main(url: str, balance: str) -> None:
    with open(balance, "w", encoding="ascii") as file:
        file.write("0")
    store = LockStore.redis(url, lock_lifetime=10)
    workers = []
    for _ in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            asyncio.run(work(store, balance))
            sys.exit()
        workers.append(pid)
    failed = [pid for pid in workers if os.waitpid(pid, 0)[1] != 0]
    with open(balance, encoding="ascii") as file:
        print(f"{WORKERS} workers, {MESSAGES} messages each: {file.read()}")
    if failed:
        sys.exit("a worker failed")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
