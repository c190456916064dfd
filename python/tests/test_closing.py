"""A store that closes while Redis does not answer."""

from __future__ import annotations

import math
import time

import pytest

from conftest import Redis, frozen, soon, tickets
from lock_store import LockStore, LockStoreUnavailable

#: Longer than any close may take, on a busy machine, and shorter than a lease.
SOON = 20.0


async def test_a_close_says_what_was_not_given_back(own_redis: Redis) -> None:
    store = LockStore.redis(own_redis.url, fallback="none", lock_lifetime=600)
    guards = [await store.lock(id) for id in "ab"]
    with frozen(own_redis):
        with pytest.warns(ResourceWarning):
            guards.clear()
        began = time.monotonic()
        with pytest.raises(LockStoreUnavailable, match="2 tickets were not given back within 200ms"):
            await store.close(timeout=0.2)
        assert 0.2 <= time.monotonic() - began < SOON
    # It goes on meanwhile, and may be closed once more.
    await soon(store.close(timeout=math.inf))
    assert await tickets(store, "a") == 0
    assert await tickets(store, "b") == 0


def test_an_exit_from_a_store_is_bounded(own_redis: Redis) -> None:
    store = LockStore.redis(own_redis.url, fallback="none", lock_lifetime=600)
    guards = [store.lock("a").acquire()]
    began = time.monotonic()
    with pytest.raises(LockStoreUnavailable, match="1 ticket was not given back within 5s"):
        with store:
            own_redis.stop()
            with pytest.warns(ResourceWarning):
                guards.clear()
    assert time.monotonic() - began < SOON


async def test_an_asynchronous_exit_is_bounded(own_redis: Redis) -> None:
    store = LockStore.redis(own_redis.url, fallback="none", lock_lifetime=600)
    guards = [await store.lock("a")]
    began = time.monotonic()
    with pytest.raises(LockStoreUnavailable, match="1 ticket was not given back within 5s"):
        async with store:
            own_redis.stop()
            with pytest.warns(ResourceWarning):
                guards.clear()
    assert time.monotonic() - began < SOON


def test_a_timeout_is_a_number() -> None:
    store = LockStore.in_memory()
    with pytest.raises(ValueError, match="timeout is not a number"):
        store.close(timeout=math.nan)
    with pytest.raises(TypeError):
        store.close(1.0)  # type: ignore[misc]
    # Nothing is to be given back.
    store.close(timeout=0).result()
