"""Measures lock stores for Python, for bench-python: a JSON object per line of
standard input, a number of cycles per second for each.

    {"store": "ours", "measure": "cycles", "tasks": 64, "seconds": 1}
        locks and releases, each task on a conversation of its own
    {"store": "ours", "measure": "handoff", "tasks": 20, "seconds": 1}
        the same, all on one conversation
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Callable

import redis
import redis.asyncio
import redis_lock

from lock_store import LockStore

PORT = int(sys.argv[1])


def asyncio_locks(store: str) -> Callable[[str], AbstractAsyncContextManager[Any]]:
    if store == "ours in memory":
        return LockStore.in_memory().lock
    if store == "ours":
        return LockStore.redis(f"redis://127.0.0.1:{PORT}/1", fallback="none").lock
    client = redis.asyncio.Redis(port=PORT, db=1)
    return lambda id: client.lock(id, timeout=60)


def thread_locks(store: str) -> Callable[[str], AbstractContextManager[Any]]:
    if store == "ours in threads":
        return LockStore.redis(f"redis://127.0.0.1:{PORT}/1", fallback="none").lock
    client = redis.Redis(port=PORT, db=1)
    return lambda id: redis_lock.Lock(client, id, expire=60)


async def in_tasks(store: str, tasks: int, seconds: float, id: Callable[[int], str]) -> float:
    lock = asyncio_locks(store)
    await _touch(lock)
    count = 0
    begun = time.perf_counter()
    ends = begun + seconds

    async def work(id: str) -> None:
        nonlocal count
        while time.perf_counter() < ends:
            async with lock(id):
                pass
            count += 1
            # What is uncontended never gives way to other tasks.
            await asyncio.sleep(0)

    await asyncio.gather(*(work(id(i)) for i in range(tasks)))
    return count / (time.perf_counter() - begun)


async def _touch(lock: Any) -> None:
    async with lock("warm"):
        pass


def in_threads(store: str, tasks: int, seconds: float, id: Callable[[int], str]) -> float:
    lock = thread_locks(store)
    with lock("warm"):
        pass
    counts = [0] * tasks
    begun = time.perf_counter()
    ends = begun + seconds

    def work(i: int) -> None:
        while time.perf_counter() < ends:
            with lock(id(i)):
                pass
            counts[i] += 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun)


def measure(store: str, measure: str, tasks: int, seconds: float) -> float:
    name = store.replace(" ", "-")

    def id(i: int) -> str:
        return f"{name}-one" if measure == "handoff" else f"{name}-{i}"

    if "threads" in store:
        return in_threads(store, tasks, seconds, id)
    return asyncio.run(in_tasks(store, tasks, seconds, id))


for line in sys.stdin:
    print(json.dumps(measure(**json.loads(line))), flush=True)
