"""Rasa's lock stores and ours, side by side."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rasa.core.lock_store import InMemoryLockStore, LockStore, RedisLockStore

from lock_store.rasa import RasaLockStore


class RedisServer:
    """A real one, on a free port, ended by its process id."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._command = [
            *["redis-server", "--bind", "127.0.0.1", "--port", str(self.port)],
            *["--save", "", "--dir", str(folder), *arguments],
        ]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._listens, "redis-server listens")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError("redis-server ended at once")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def keys(self) -> list[bytes]:
        import redis

        with redis.Redis(port=self.port, db=1) as client:
            return sorted(client.keys("*"))

    def flush(self) -> None:
        import redis

        with redis.Redis(port=self.port) as client:
            client.flushall()


def until(holds: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Waits for a condition, not for a time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


async def soon_true(holds: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """As `until`, with a running event loop."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        await asyncio.sleep(0.005)


def run(main: Awaitable[Any]) -> Any:
    """Runs a test's coroutine, with an end to it."""

    async def limited() -> Any:
        return await asyncio.wait_for(main, 60)

    return asyncio.run(limited())


OURS: dict[str, dict[str, Any]] = {
    "ours in memory": {"store": "in_memory"},
    "ours on redis": {},
    "ours in rasa's layout": {"layout": "rasa"},
}
RASAS = ("rasa's in memory", "rasa's on redis")


def make(kind: str, server: RedisServer, **settings: Any) -> LockStore:
    if kind == "rasa's in memory":
        return InMemoryLockStore()
    if kind == "rasa's on redis":
        return RedisLockStore(host="127.0.0.1", port=server.port)
    where = {"host": "127.0.0.1", "port": server.port, "fallback": "none"}
    return RasaLockStore(**{**where, **OURS[kind], **settings})
