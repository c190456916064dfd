"""From `endpoints.yml` to a store, by Rasa's own way, and what wrong settings say."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from rasa_support import RedisServer, run
from rasa.core.lock_store import LockError, LockStore
from rasa.shared.exceptions import ConnectionException, InvalidConfigException, RasaException
from rasa.utils.endpoints import EndpointConfig, read_endpoint_config

import lock_store
from lock_store.rasa import RasaLockStore

TYPE = "lock_store.rasa.RasaLockStore"


def create(**block: Any) -> LockStore:
    """As Rasa does with a block that it read."""
    return LockStore.create(EndpointConfig.from_dict({"type": TYPE, **block}))


def from_file(folder: Path, text: str) -> LockStore:
    """As `rasa run --endpoints` does."""
    endpoints = folder / "endpoints.yml"
    endpoints.write_text(text)
    return LockStore.create(read_endpoint_config(str(endpoints), "lock_store"))


def locks(store: LockStore) -> None:
    async def main() -> None:
        async with store.lock("settings") as lock:
            assert lock.now_serving == 0

    run(main())


def test_rasa_loads_it_from_endpoints(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCKS_PORT", str(redis_server.port))
    monkeypatch.setenv("LOCKS_SSL", "false")
    store = from_file(
        tmp_path,
        f"""
        lock_store:
          type: {TYPE}
          url: 127.0.0.1
          port: ${{LOCKS_PORT}}
          db: 1
          use_ssl: ${{LOCKS_SSL}}
          key_prefix: bot
          socket_timeout: 5
        """,
    )
    assert isinstance(store, RasaLockStore)
    assert isinstance(store, LockStore)
    store.issue_ticket("a")
    assert redis_server.keys() == [b"bot:tickets:a"]
    store.cleanup("a", 0)
    assert redis_server.keys() == []


def test_every_key_of_rasas_redis_lock_store(redis_server: RedisServer) -> None:
    store = create(
        url="127.0.0.1",
        port=redis_server.port,
        db=1,
        username=None,
        password=None,
        use_ssl=False,
        ssl_certfile=None,
        ssl_keyfile=None,
        ssl_ca_certs=None,
        key_prefix="bot",
        socket_timeout=10,
    )
    locks(store)


def test_every_key_of_ours(redis_server: RedisServer) -> None:
    store = create(
        host="127.0.0.1",
        port=redis_server.port,
        connections=2,
        replicas=0,
        deployment_mode="standard",
        fallback="none",
        lock_lifetime=30,
        wait_timeout=20,
        wait_time=0.5,
        claim_window=2,
        keep_alive=True,
        layout="native",
    )
    locks(store)


def test_what_rasa_replaced_from_the_environment_is_text(redis_server: RedisServer) -> None:
    store = create(
        url="127.0.0.1",
        port=str(redis_server.port),
        db="1",
        use_ssl="False",
        socket_timeout="5",
        connections="1",
        lock_lifetime="30.5",
        keep_alive="true",
    )
    locks(store)


def test_a_whole_url(redis_server: RedisServer) -> None:
    locks(create(url=f"redis://127.0.0.1:{redis_server.port}/1"))


def test_keyword_arguments_as_of_rasas_store(redis_server: RedisServer) -> None:
    locks(RasaLockStore(host="127.0.0.1", port=redis_server.port, db=1))


def test_in_memory(tmp_path: Path) -> None:
    store = from_file(
        tmp_path, f"lock_store:\n  type: {TYPE}\n  store: in_memory\n  lock_lifetime: 5\n"
    )
    locks(store)
    # A port on which nobody listens is of no interest.
    locks(create(store="in_memory", url="127.0.0.1", port=1, key_prefix="bot"))


def test_in_memory_with_several_workers_is_warned_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANIC_WORKERS", "4")
    create(store="in_memory")
    [record] = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "4 Sanic workers" in record.getMessage()


def test_a_password_is_taken_literally(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = "s3cr${HOME}t@/:"
    monkeypatch.setenv("LOCKS_PASSWORD", secret)
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--requirepass", secret)
    try:
        with caplog.at_level(logging.DEBUG):
            store = from_file(
                tmp_path,
                f"""
                lock_store:
                  type: {TYPE}
                  url: 127.0.0.1
                  port: {server.port}
                  password: ${{LOCKS_PASSWORD}}
                """,
            )
            locks(store)
        assert secret not in caplog.text
        assert secret not in repr(store) + repr(vars(store))

        with pytest.raises(RasaException) as wrong:
            create(url="127.0.0.1", port=server.port, password="wr0ng")
        assert "wr0ng" not in str(wrong.value) + repr(wrong.value.__cause__)
    finally:
        server.stop()


def test_a_password_of_digits_is_a_number_in_yaml(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--requirepass", "12345")
    try:
        locks(create(url="127.0.0.1", port=server.port, password=12345))
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"prot": 6379}, "port"),
        ({"port": "abc"}, "port"),
        ({"port": 0}, "port"),
        ({"db": -1}, "db"),
        ({"use_ssl": "maybe"}, "use_ssl"),
        ({"key_prefix": "a b"}, "key_prefix"),
        ({"socket_timeout": "soon"}, "socket_timeout"),
        ({"lock_lifetime": 0}, "lock_lifetime"),
        ({"keep_alive": 3}, "keep_alive"),
        ({"fallback": "maybe"}, "fallback"),
        ({"layout": "other"}, "layout"),
        ({"store": "sqlite"}, "`in_memory` or `redis`"),
        ({"url": "http://localhost"}, "redis://"),
        ({"url": "localhost", "host": "localhost"}, "host"),
    ],
)
@pytest.mark.parametrize("where", ["redis", "in_memory"])
def test_wrong_settings_are_refused_at_the_start(
    block: dict[str, Any], said: str, where: str
) -> None:
    with pytest.raises(InvalidConfigException) as error:
        create(**{"store": where, **block})
    assert said in str(error.value)
    assert isinstance(error.value.__cause__, lock_store.LockConfigError)


def test_what_only_an_http_endpoint_has_is_ignored_as_in_rasa(
    caplog: pytest.LogCaptureFixture,
) -> None:
    create(store="in_memory", token="t0ken", basic_auth={"username": "u", "password": "p4ss"})
    [record] = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "basic_auth, token" in record.getMessage()
    assert "t0ken" not in caplog.text and "p4ss" not in caplog.text
    caplog.clear()
    create(store="in_memory")
    assert not caplog.records


def test_no_redis_and_no_fallback_is_rasas_connection_exception() -> None:
    with pytest.raises(ConnectionException) as error:
        create(url="127.0.0.1", port=1, fallback="none")
    cause = error.value.__cause__
    assert isinstance(cause, ConnectionError)
    assert isinstance(cause.__cause__, lock_store.LockStoreUnavailable)


def test_no_redis_at_the_start_is_memory_by_default() -> None:
    locks(create(url="127.0.0.1", port=1))


def test_the_lifetime_of_the_environment_counts(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import redis

    monkeypatch.setenv("TICKET_LOCK_LIFETIME", "1000")
    store = create(url="127.0.0.1", port=redis_server.port, lock_lifetime=5)
    store.issue_ticket("a")
    with redis.Redis(port=redis_server.port, db=1) as client:
        assert client.pttl("lock-store:tickets:a") > 900_000
    store.cleanup("a", 0)


def test_the_environment_counts_over_the_file_and_a_program_over_both(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    where: dict[str, Any] = {"url": "127.0.0.1", "port": redis_server.port}
    monkeypatch.setenv("LOCK_STORE_KEY_PREFIX", "variable")
    for store, key in [
        (create(**where, key_prefix="file"), b"variable:tickets:a"),
        (RasaLockStore(**where, key_prefix="program"), b"program:tickets:a"),
    ]:
        store.issue_ticket("a")
        assert redis_server.keys() == [key]
        store.cleanup("a", 0)
    monkeypatch.setenv("LOCK_STORE_TYPE", "in_memory")
    create(**where).issue_ticket("a")
    assert redis_server.keys() == []
    monkeypatch.setenv("LOCK_STORE_DB", "one")
    with pytest.raises(InvalidConfigException, match="variable LOCK_STORE_DB is "):
        create(**where)


def test_rasas_errors_are_caught_by_rasas_name(our_store: RasaLockStore) -> None:
    with pytest.raises(LockError) as error:
        our_store.issue_ticket("")
    assert isinstance(error.value.__cause__, lock_store.InvalidConversationId)
