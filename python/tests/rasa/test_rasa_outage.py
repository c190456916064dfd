"""Redis goes away and comes back; processes fork."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attempts import in_time
from rasa_support import RedisServer, run
from rasa.core.lock_store import LockError

import lock_store
from lock_store.rasa import RasaLockStore


def test_an_outage_is_rasas_lock_error_and_passes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = RedisServer(tmp_path)

    # Each step of an outage takes as long as a connection may.
    async def outage(timeout: float) -> None:
        where = {"host": "127.0.0.1", "port": server.port, "fallback": "none"}
        store = RasaLockStore(socket_timeout=timeout, **where)
        async with store.lock("held"):
            server.stop()
            with pytest.raises(LockError) as error:
                async with store.lock("other", lock_lifetime=0.2):
                    pytest.fail("locked without Redis")
            assert isinstance(error.value.__cause__, lock_store.LockError)
            for method in (store.get_lock, store.issue_ticket, store.is_someone_waiting):
                begun = time.monotonic()
                with pytest.raises(LockError):
                    method("other")
                assert time.monotonic() - begun < 30, "not for a whole lifetime"
        # The message was handled: that its ticket could not be given back is no
        # error of the message.
        assert any(
            "Could not give back the lock of conversation 'held'" in record.getMessage()
            for record in caplog.records
            if record.levelno == logging.WARNING
        )
        server.start()
        async with store.lock("held") as lock:
            assert lock.now_serving == 0

    try:
        run(in_time(outage, 0.25, ConnectionError))
        assert not server.keys()
    finally:
        server.stop()


FORKS = """
import asyncio, os, sys
sys.path.insert(0, sys.argv[1])
import light_rasa
light_rasa.prepare()
from rasa.core.lock_store import LockError
from lock_store.rasa import RasaLockStore

store = RasaLockStore(host="127.0.0.1", port=int(sys.argv[2]), store=sys.argv[3])

async def locks():
    async with store.lock("forked") as lock:
        assert lock.now_serving == 0
        await asyncio.sleep(0)

asyncio.run(locks())
child = os.fork()
if child == 0:
    try:
        asyncio.run(locks())
        code = 10
    except LockError:
        code = 11
    os._exit(code)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
asyncio.run(locks())
sys.exit(code)
"""


@pytest.mark.parametrize(("where", "code"), [("redis", 10), ("in_memory", 11)])
def test_a_forked_process(redis_server: RedisServer, where: str, code: int) -> None:
    """On Redis it connects for itself; memory is not shared, and that is said."""
    folder = str(Path(__file__).parent)
    command = [sys.executable, "-c", FORKS, folder, str(redis_server.port), where]
    ended = subprocess.run(command, timeout=60, capture_output=True, text=True)
    assert ended.returncode == code, ended.stderr
    assert not redis_server.keys()
