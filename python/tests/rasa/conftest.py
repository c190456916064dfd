"""Rasa's lock stores and ours, side by side.

Rasa need not be installed for the other tests of the package: then these are
left out. scripts/test-python installs it, and says that they must run.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import light_rasa
import pytest

if TYPE_CHECKING:
    from rasa.core.lock_store import LockStore

    from lock_store.rasa import RasaLockStore

os.environ.pop("TICKET_LOCK_LIFETIME", None)
if light_rasa.prepare():
    from rasa_support import OURS, RASAS, RedisServer, make

    STORES = [*RASAS, *OURS]
else:
    if os.environ.get("LOCK_STORE_TESTS_NEED_RASA") == "1":
        raise ImportError("Rasa is not installed")
    collect_ignore_glob = ["test_*.py"]
    STORES = []


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(params=STORES)
def any_store(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[LockStore]:
    """Rasa's stores and ours: the same contract."""
    store = make(request.param, redis_server)
    yield store
    redis_server.flush()


@pytest.fixture(params=[name for name in STORES if name.startswith("ours")])
def our_store(
    request: pytest.FixtureRequest, redis_server: RedisServer
) -> Iterator[RasaLockStore]:
    store = make(request.param, redis_server)
    yield store
    assert not redis_server.keys(), "nothing is left"


_ids = itertools.count()


@pytest.fixture
def conversation() -> str:
    """An id of its own for each test: the server is shared."""
    return f"conversation {next(_ids)}"
