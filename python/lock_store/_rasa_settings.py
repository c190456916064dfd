"""From the block in Rasa's ``endpoints.yml`` to an open store."""

from __future__ import annotations

import logging
import os
from typing import Any, Callable, NamedTuple, Optional

from rasa.core.lock_store import DEFAULT_SOCKET_TIMEOUT_IN_SECONDS
from rasa.shared.exceptions import InvalidConfigException

import lock_store

logger = logging.getLogger("rasa.core.lock_store")

#: What an `EndpointConfig` keeps for itself, and what it is when not given. It
#: is made for HTTP endpoints; Rasa's own lock stores ignore these.
_OF_HTTP: dict[str, Any] = {
    "params": {},
    "headers": {},
    "basic_auth": {},
    "token": None,
    "token_name": "token",
    "cafile": None,
}

_WHOLE = ("port", "db", "connections", "replicas")
_SECONDS = ("socket_timeout", "lock_lifetime", "wait_timeout", "wait_time", "claim_window")
_TRUTHS = ("use_ssl", "keep_alive")
_TEXTS = ("username", "password")


class Opened(NamedTuple):
    store: lock_store.LockStore
    #: How long a step may take in a method that blocks, in seconds.
    patience: float


def open_store(endpoint_config: Optional[Any], settings: dict[str, Any]) -> Opened:
    """Opens the store that Rasa's `EndpointConfig` and the settings describe."""
    settings = {**_of_endpoint(endpoint_config), **settings}
    settings = {
        key: _typed(key, value) for key, value in settings.items() if value is not None
    }
    if settings.get("layout") == "rasa":
        _leave_out_prefix(settings)
    try:
        where = settings.pop("store", "redis")
        if where == "in_memory":
            return Opened(_in_memory(settings), DEFAULT_SOCKET_TIMEOUT_IN_SECONDS)
        if where != "redis":
            raise lock_store.LockConfigError(
                f"configuration error: store is {where!r}; "
                f"it must be redis or in_memory"
            )
        store = lock_store.LockStore.redis(settings.pop("url", None), **settings)
        store.connect().result()
        patience = settings.get("socket_timeout", DEFAULT_SOCKET_TIMEOUT_IN_SECONDS)
        return Opened(store, patience)
    except lock_store.LockConfigError as error:
        text = f"The block `lock_store` of `endpoints.yml`: {error}"
        raise InvalidConfigException(text) from error
    except lock_store.LockStoreUnavailable as error:
        # Rasa makes its ConnectionException of it.
        raise ConnectionError(str(error)) from error


def _of_endpoint(endpoint_config: Optional[Any]) -> dict[str, Any]:
    if endpoint_config is None:
        return {}
    ignored = [
        name
        for name, default in _OF_HTTP.items()
        if getattr(endpoint_config, name, default) != default
    ]
    if ignored:
        logger.warning(
            f"The lock store has no use for {', '.join(ignored)} in `endpoints.yml`: "
            f"ignored. Its login is `username` and `password`, its TLS `ssl_ca_certs`."
        )
    return {"url": endpoint_config.url, **endpoint_config.kwargs}


def _leave_out_prefix(settings: dict[str, Any]) -> None:
    """Rasa's rule, so that the keys are the same: no error, but no prefix."""
    prefix = settings.get("key_prefix")
    if prefix and not (isinstance(prefix, str) and prefix.isalnum()):
        logger.warning(
            f"Omitting provided non-alphanumeric redis key prefix: '{prefix}'. "
            f"Using default 'lock:' instead."
        )
        del settings["key_prefix"]


def _typed(key: str, value: Any) -> Any:
    """What Rasa replaced from the environment is text, whatever the key."""
    if key in _TEXTS and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return value
    if key in _WHOLE:
        return _read(int, value)
    if key in _SECONDS:
        return _read(float, value)
    if key in _TRUTHS:
        return {"true": True, "false": False}.get(value.strip().lower(), value)
    return value


def _read(kind: Callable[[str], Any], value: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        return value  # the store says what is wrong with it


def _in_memory(settings: dict[str, Any]) -> lock_store.LockStore:
    """Checks all settings, uses those that memory has."""
    lock_store.LockStore.redis(settings.pop("url", None), **settings)
    workers = os.environ.get("SANIC_WORKERS", "1").strip()
    if workers not in ("", "1"):
        logger.warning(
            f"The lock store is `in_memory` with {workers} Sanic workers: each has "
            f"locks of its own, and two can handle one conversation at the same time. "
            f"Use `store: redis`."
        )
    times = (*_SECONDS[1:], "keep_alive")
    options = {key: settings[key] for key in times if key in settings}
    return lock_store.LockStore.in_memory(**options)
