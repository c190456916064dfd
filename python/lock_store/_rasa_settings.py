"""From the block in Rasa's ``endpoints.yml`` to an open store."""

from __future__ import annotations

import logging
import os
from typing import Any, NamedTuple, Optional

from rasa.core.lock_store import DEFAULT_SOCKET_TIMEOUT_IN_SECONDS
from rasa.shared.exceptions import InvalidConfigException

import lock_store
from lock_store._lock_store import _rasa_store

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

_TEXTS = ("username", "password", "client_name")


class Opened(NamedTuple):
    store: lock_store.LockStore
    #: How long a step may take in a method that blocks, in seconds.
    patience: float


def open_store(endpoint_config: Optional[Any], settings: dict[str, Any]) -> Opened:
    """Opens the store that Rasa's `EndpointConfig` and the settings describe.

    The environment counts over the former, and the settings, which a program
    gave, over the environment.
    """
    block, options = _of_endpoint(endpoint_config), settings
    block, options = [
        {key: _typed(key, value) for key, value in given.items() if value is not None}
        for given in (block, options)
    ]
    if {**block, **options}.get("layout") == "rasa":
        for given in (block, options):
            _leave_out_prefix(given)
    try:
        store, timeout = _rasa_store(block, options)
        if timeout is None:
            _warn_of_several_workers()
            return Opened(store, DEFAULT_SOCKET_TIMEOUT_IN_SECONDS)
        store.connect().result()
        return Opened(store, timeout)
    except lock_store.LockConfigError as error:
        raise InvalidConfigException(f"The lock store: {error}") from error
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
    """A password of digits alone is a number in YAML."""
    if key in _TEXTS and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def _warn_of_several_workers() -> None:
    workers = os.environ.get("SANIC_WORKERS", "1").strip()
    if workers not in ("", "1"):
        logger.warning(
            f"The lock store is `in_memory` with {workers} Sanic workers: each has "
            f"locks of its own, and two can handle one conversation at the same time. "
            f"Use `store: redis`."
        )
