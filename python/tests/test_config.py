"""Settings, and what wrong ones say."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import pytest

import lock_store
from conftest import Redis
from lock_store import (
    LockConfigError,
    LockCorrupt,
    LockError,
    LockStore,
    LockStoreUnavailable,
    LockTimeout,
    TicketLock,
)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"key_prefx": "a"}, "configuration error: key_prefx is not a key; did you mean `key_prefix`?"),
        ({"key_prefix": "a:b"}, "key_prefix is \"a:b\"; it may have letters"),
        ({"port": "abc"}, 'port is "abc"; it must be a whole number from 1 to 65535'),
        ({"port": 0}, "port is 0"),
        ({"lock_lifetime": -1}, "lock_lifetime is -1"),
        ({"lock_lifetime": math.nan}, "lock_lifetime is"),
        ({"fallback": "nowhere"}, "fallback is \"nowhere\"; it must be `in_memory` or `none`"),
        ({"keep_alive": 3}, "keep_alive is 3; it must be true or false"),
        ({"endpoints": ["a"]}, "endpoints must be a list of `host:port`"),
        ({"deployment_mode": "ring"}, "deployment_mode is \"ring\""),
        ({"host": "elsewhere"}, "host and url say the same"),
        ({"password": 42}, "password must be text"),
        ({"max_hold": 0}, "max_hold is 0; it must be a number of seconds from 0.001"),
        ({"client_name": "a b"}, 'client_name is "a b"; it must be 1 to 64'),
    ],
)
def test_wrong_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(LockConfigError) as caught:
        LockStore.redis("redis://localhost", **options)
    assert text in str(caught.value)
    assert "lock_store." not in str(caught.value) and "line" not in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.kind == "config" and not caught.value.is_retryable


def test_options_of_wrong_types() -> None:
    with pytest.raises(TypeError, match="port is of type object"):
        LockStore.redis(port=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="type is not an option"):
        LockStore.redis(type="redis")  # type: ignore[call-arg]


def test_right_options(redis: Redis, tmp_path: Path) -> None:
    store = LockStore.redis(
        host="127.0.0.1", port=redis.port, db=2, key_prefix="bot", lock_lifetime=7.5,
        wait_timeout=None, socket_timeout=3, connections=2, fallback="none",
        max_hold=60, client_name="test",
        ssl_ca_certs=None, endpoints=[],
    )  # fmt: skip
    with store.lock("a"):
        lock = store.get_lock("a").result()
        assert lock is not None and lock.tickets[0].lifetime == 7.5
    store.close().result()


def test_values_are_taken_literally(redis: Redis) -> None:
    """Rasa has replaced the variables before: a password may look like one."""
    import redis as client

    with client.Redis(port=redis.port) as admin:
        admin.execute_command("ACL", "SETUSER", "bot", "on", ">a${NO_SUCH}b", "~*", "&*", "+@all")
        try:
            store = LockStore.redis(
                redis.url, username="bot", password="a${NO_SUCH}b", fallback="none"
            )
            with store.lock("a"):
                pass
            wrong = LockStore.redis(redis.url, username="bot", password="${X}", fallback="none")
            with pytest.raises(LockConfigError) as caught:
                wrong.connect().result()
            assert "${X}" not in str(caught.value)
        finally:
            admin.execute_command("ACL", "DELUSER", "bot")


def test_files_and_texts(tmp_path: Path, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_PORT", str(redis.port))
    file = tmp_path / "endpoints.yml"
    file.write_text("lock_store:\n  type: redis\n  url: 127.0.0.1\n  port: ${THE_PORT}\n")
    with LockStore.from_endpoints(file) as store, store.lock("a"):
        assert len(redis.keys()) == 1
    assert "Redis" in repr(store)
    file.write_text("lock_store:\n  type: redis\n  prot: 1\n")
    with pytest.raises(LockConfigError, match=r"endpoints.yml, line 3: lock_store.prot is not a key"):
        LockStore.from_endpoints(str(file))
    with pytest.raises(LockConfigError, match="cannot read"):
        LockStore.from_endpoints(tmp_path / "none.yml")
    monkeypatch.setenv("TICKET_LOCK_LIFETIME", "33")
    store = LockStore.from_yaml("lock_store:\n  lock_lifetime: 5\n")
    assert "in memory" in repr(store)
    with store.lock("a"):
        lock = store.get_lock("a").result()
        assert lock is not None and lock.tickets[0].lifetime == 33
        assert store.issue_ticket("a").result() == 1


def test_the_environment_alone(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LockStore.from_env()
    assert "in memory" in repr(store)
    monkeypatch.setenv("LOCK_STORE_URL", redis.url)
    monkeypatch.setenv("LOCK_STORE_KEY_PREFIX", "bot")
    monkeypatch.setenv("LOCK_STORE_LOCK_LIFETIME", "40")
    monkeypatch.setenv("TICKET_LOCK_LIFETIME", "50")
    with LockStore.from_env() as store, store.lock("a"):
        assert redis.keys() == {"bot:tickets:a"}
        lock = store.get_lock("a").result()
        assert lock is not None and lock.tickets[0].lifetime == 40
    monkeypatch.setenv("LOCK_STORE_KEY_PREFX", "bot")
    with pytest.raises(LockConfigError, match="LOCK_STORE_KEY_PREFX .* did you mean LOCK_STORE_KEY_PREFIX"):
        LockStore.from_env()


def test_options_count_over_the_environment(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCK_STORE_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("LOCK_STORE_KEY_PREFIX", "variable")
    monkeypatch.setenv("LOCK_STORE_DB", "1")
    monkeypatch.setenv("TICKET_LOCK_LIFETIME", "50")
    url = f"redis://127.0.0.1:{redis.port}"
    with LockStore.redis(url, lock_lifetime=5) as store, store.lock("a"):
        assert redis.keys() == {"variable:tickets:a"}
        lock = store.get_lock("a").result()
        assert lock is not None and lock.tickets[0].lifetime == 5
    with LockStore.redis(url, key_prefix="option") as store, store.lock("a"):
        assert redis.keys() == {"option:tickets:a"}
        lock = store.get_lock("a").result()
        assert lock is not None and lock.tickets[0].lifetime == 50
    monkeypatch.setenv("LOCK_STORE_PASSWORD", "s3cr3t")
    monkeypatch.setenv("LOCK_STORE_PORT", "many")
    with pytest.raises(LockConfigError) as caught:
        LockStore.in_memory()
    assert 'the environment variable LOCK_STORE_PORT is "many"' in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_times_of_a_call(redis: Redis) -> None:
    store = LockStore.in_memory()
    for wrong in (-1, math.nan, 0, 1e9):
        with pytest.raises(LockConfigError, match="lifetime is"):
            store.lock("a", lifetime=wrong).acquire()
    with store.lock("a", wait_timeout=math.inf):
        pass


def test_a_redis_that_is_not_there() -> None:
    store = LockStore.redis("redis://127.0.0.1:1")
    assert store.client_id is None and not store.is_degraded
    for _ in range(2):
        with pytest.raises(LockStoreUnavailable) as caught:
            store.connect().result()
        assert caught.value.is_retryable
    store.close().result()
    with pytest.raises(LockError, match="closed"):
        store.lock("a").acquire()


def test_falling_back_is_asked_for() -> None:
    from_file = "lock_store:\n  type: redis\n  url: redis://127.0.0.1:1\n"
    asked = LockStore.redis("redis://127.0.0.1:1", fallback="in_memory")
    for store in (asked, LockStore.from_yaml(from_file)):
        store.connect().result()
        assert store.is_degraded
        store.close().result()


def test_errors_go_through_pickle() -> None:
    error = LockTimeout("text", conversation_id="a", waited=1.5, ahead=3)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is LockTimeout
    assert (str(again), again.conversation_id, again.waited, again.ahead) == ("text", "a", 1.5, 3)


def test_locks_as_data() -> None:
    with pytest.raises(LockCorrupt):
        TicketLock.from_json("{}")
    lock = TicketLock("a")
    assert lock.issue_ticket(10, now=1000.0) == 0
    assert lock.issue_ticket(20, now=1000.0) == 1
    assert [ticket.expires for ticket in lock.tickets] == [1010.0, 1020.0]
    assert lock.tickets[0].state == "claimed" and lock.tickets[0].owner is None
    assert lock.tickets[0].has_expired(1010.0) and not lock.tickets[1].has_expired(1010.0)
    assert lock.tickets[0] == lock.tickets[0] != lock.tickets[1]
    assert lock.last_issued(1000.0) == 1 and lock.now_serving(1015.0) == 1
    assert lock == TicketLock.from_json(lock.to_json()) != TicketLock("a")
    assert '"number":0' in lock.tickets[0].to_json().replace(" ", "")
    lock.remove_ticket_for(0, 1000.0)
    lock.remove_expired_tickets(1100.0)
    assert len(lock) == 0 and not lock.is_someone_waiting()
    assert lock.last_issued() is None and lock.now_serving() is None
    assert lock_store.DEFAULT_LOCK_LIFETIME == 60.0
