"""What bench-python compares, each behind one form: `enter(conversation)` is a
context manager that holds the lock. All leases are 60 seconds."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from types import ModuleType
from typing import AsyncIterator, Callable, NamedTuple

import redis
import redis.asyncio
import redis_lock
from lock_store import LockStore
from lock_store.rasa import RasaLockStore

LEASE = 60

Enter = Callable[[str], AbstractAsyncContextManager]
EnterInThread = Callable[[str], AbstractContextManager]

OURS = "lock_store"
OURS_FOR_RASA = "lock_store.rasa.RasaLockStore"
RASA = "Rasa 3.6.20 RedisLockStore"
RASA_IN_MEMORY = "Rasa 3.6.20 InMemoryLockStore"
REDIS_PY = "redis-py asyncio.Lock"
REDIS_PY_IN_THREADS = "redis-py Lock"
PYTHON_REDIS_LOCK = "python-redis-lock"


class Contender(NamedTuple):
    name: str
    #: For an event loop, whose connections end with it.
    open: Callable[[], AbstractAsyncContextManager[Enter]]


class Contenders:
    """All of them, on this Redis."""

    def __init__(self, port: int, rasa: ModuleType) -> None:
        ours = LockStore.redis(f"redis://127.0.0.1:{port}/0", key_prefix="ours")
        ours_in_memory = LockStore.in_memory()
        for_rasa = RasaLockStore(url="127.0.0.1", port=port, db=1, key_prefix="ours")
        for_rasa_in_memory = RasaLockStore(store="in_memory")
        rasas = rasa.RedisLockStore(host="127.0.0.1", port=port, db=2)
        rasas_in_memory = rasa.InMemoryLockStore()

        @asynccontextmanager
        async def redis_py() -> AsyncIterator[Enter]:
            client = redis.asyncio.Redis(host="127.0.0.1", port=port, db=3)
            yield lambda conversation: client.lock(conversation, timeout=LEASE)
            await client.close(close_connection_pool=True)

        client = redis.Redis(host="127.0.0.1", port=port, db=4)
        self._ours = [ours, ours_in_memory]
        self._ours_for_rasa = [for_rasa, for_rasa_in_memory]
        self.on_redis = [
            Contender(RASA, _kept(rasas.lock)),
            Contender(REDIS_PY, redis_py),
            Contender(OURS, _kept(ours.lock)),
            Contender(OURS_FOR_RASA, _kept(for_rasa.lock)),
        ]
        self.in_memory = [
            Contender(RASA_IN_MEMORY, _kept(rasas_in_memory.lock)),
            Contender(OURS, _kept(ours_in_memory.lock)),
            Contender(OURS_FOR_RASA, _kept(for_rasa_in_memory.lock)),
        ]
        self.in_threads: list[tuple[str, EnterInThread]] = [
            (REDIS_PY_IN_THREADS, lambda id: client.lock(f"py-{id}", timeout=LEASE)),
            (PYTHON_REDIS_LOCK, lambda id: redis_lock.Lock(client, id, expire=LEASE)),
            (OURS, ours.lock),
        ]

    def close(self) -> None:
        """Before the Redis goes."""
        for store in self._ours:
            store.close().result()
        for store in self._ours_for_rasa:
            store.close()


def _kept(enter: Enter) -> Callable[[], AbstractAsyncContextManager[Enter]]:
    """Of a store that serves any number of event loops."""

    @asynccontextmanager
    async def kept() -> AsyncIterator[Enter]:
        yield enter

    return kept
