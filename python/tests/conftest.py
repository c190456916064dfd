"""What the tests share: a Redis of their own, stores, and the two faces."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from attempts import in_time

from lock_store import Lock, LockGuard, LockLost, LockStore, LockStoreUnavailable, LockTimeout

#: How long a test waits for what must happen: far longer than it takes.
PATIENCE = 30.0


class Redis:
    """A server on a free port, stopped by its process."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        assert program, "redis-server is missing: apt install redis-server"
        while True:
            with contextlib.closing(socket.socket()) as probe:
                probe.bind(("127.0.0.1", 0))
                self.port: int = probe.getsockname()[1]
            self.process = subprocess.Popen(
                [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                 "--dir", str(folder), "--daemonize", "no", "--databases", "16"],
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
            if self._answers():
                break
            # Somebody else took the port in between.
            self.stop()

    def _answers(self) -> bool:
        while self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(
                ("127.0.0.1", self.port), timeout=1
            ) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
            time.sleep(0.01)
        return False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/1"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def keys(self) -> set[str]:
        import redis

        with contextlib.closing(redis.Redis(port=self.port, db=1)) as client:
            return {key.decode(errors="replace") for key in client.keys("*")}

    def flush(self) -> None:
        import redis

        with contextlib.closing(redis.Redis(port=self.port, db=1)) as client:
            client.flushall()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def redis(redis_server: Redis) -> Iterator[Redis]:
    """The server, empty, and empty again behind the test."""
    redis_server.flush()
    yield redis_server
    redis_server.flush()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Redis]:
    """A server that may stand still without anybody else noticing."""
    server = Redis(tmp_path)
    yield server
    server.stop()


@contextlib.contextmanager
def frozen(server: Redis) -> Iterator[None]:
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


class Storage:
    """Makes stores on one storage, whose times do not run out while a test
    lasts, however busy the machine."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url
        self.stores: list[LockStore] = []

    def store(self, **options: Any) -> LockStore:
        # Stores in memory do not share it, so there is only one.
        if self.kind == "memory" and self.stores and not options:
            return self.stores[0]
        times = {"lock_lifetime": 60.0, "wait_timeout": 2 * PATIENCE, "claim_window": PATIENCE}
        times.update(options)
        if self.kind == "memory":
            store = LockStore.in_memory(**times)
        else:
            store = LockStore.redis(self.url, fallback="none", **times)
        self.stores.append(store)
        return store


@pytest.fixture(params=["memory", "redis"])
def storage(request: pytest.FixtureRequest) -> Iterator[Storage]:
    url = ""
    if request.param == "redis":
        url = request.getfixturevalue("redis").url
    storage = Storage(request.param, url)
    yield storage
    for store in storage.stores:
        store.close().result()


class Asyncio:
    """Everything is awaited."""

    async def done(self, operation: Any) -> Any:
        return await operation

    async def lock(self, lock: Lock) -> LockGuard:
        return await lock

    @contextlib.asynccontextmanager
    async def entered(self, lock: Lock) -> AsyncIterator[LockGuard]:
        async with lock as guard:
            yield guard

    async def listed(self, store: LockStore) -> list[str]:
        return [id async for id in store.conversations()]


class Threads:
    """Everything blocks a thread."""

    def __init__(self) -> None:
        # More than anything waits at once.
        self.pool = ThreadPoolExecutor(64)

    async def call(self, what: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.pool, what)

    async def done(self, operation: Any) -> Any:
        return await self.call(operation.result)

    async def lock(self, lock: Lock) -> LockGuard:
        return await self.call(lock.acquire)

    @contextlib.asynccontextmanager
    async def entered(self, lock: Lock) -> AsyncIterator[LockGuard]:
        # One thread enters, and leaves.
        loop = asyncio.get_running_loop()
        entered: asyncio.Future[LockGuard] = loop.create_future()
        leave = threading.Event()

        def hold() -> None:
            with lock as guard:
                loop.call_soon_threadsafe(entered.set_result, guard)
                leave.wait()

        holding = asyncio.ensure_future(self.call(hold))
        await asyncio.wait({holding, entered}, return_when=asyncio.FIRST_COMPLETED)
        if not entered.done():
            holding.result()
        try:
            yield entered.result()
        finally:
            leave.set()
            await holding

    async def listed(self, store: LockStore) -> list[str]:
        return await self.call(lambda: list(store.conversations()))


Face = Any


@pytest.fixture(params=[Asyncio, Threads], ids=["asyncio", "threads"])
def face(request: pytest.FixtureRequest) -> Face:
    return request.param()


async def soon(awaitable: Any) -> Any:
    """Waits for what must happen."""
    return await asyncio.wait_for(awaitable, 4 * PATIENCE)


async def until(condition: Callable[[], Any]) -> None:
    """Waits until a condition holds."""

    async def look() -> None:
        while not await condition():
            await asyncio.sleep(0.005)

    await soon(look())


async def tickets(store: LockStore, id: str) -> int:
    lock = await store.get_lock(id)
    return 0 if lock is None else len(lock)


async def short_lease(face: Face, store: LockStore) -> LockGuard:
    """One that runs out soon, but not before it is had."""

    async def lock(lifetime: float) -> LockGuard:
        guard: LockGuard = await face.lock(store.lock("a", lifetime=lifetime))
        return guard

    return await in_time(lock, 0.25, LockLost)


async def refused(face: Face, store: LockStore, at_least: float) -> LockTimeout:
    """Waits in line in vain, for so long at least."""

    async def wait(seconds: float) -> LockTimeout:
        with pytest.raises(LockTimeout) as caught:
            await face.lock(store.lock("a", wait_timeout=seconds))
        return caught.value

    # The storage must have answered by then.
    return await in_time(wait, at_least, LockStoreUnavailable)
