"""The options of a store: the keys of the block ``lock_store`` of ``endpoints.yml``.

What is not given comes from the variable ``LOCK_STORE_<KEY>`` of the environment.
"""

from __future__ import annotations

from typing import Literal, Optional, TypedDict, Union

Seconds = Union[int, float]


class TimingOptions(TypedDict, total=False):
    """The times of a store. Numbers of seconds."""

    #: The length of a lease, from the turn on. Default: 60, or what
    #: ``LOCK_STORE_LOCK_LIFETIME`` or ``TICKET_LOCK_LIFETIME`` says.
    lock_lifetime: Seconds
    #: How long to wait for a turn. Default: as long as the lifetime.
    wait_timeout: Optional[Seconds]
    #: The longest time between two looks when no wake-up can arrive. Default: 1.
    wait_time: Seconds
    #: How long a called ticket may take to answer before its client is taken
    #: for dead. Default: 5.
    claim_window: Seconds
    #: Whether leases are extended until released. Default: no.
    keep_alive: bool
    #: How long ``keep_alive`` extends a lease at most, from the turn on.
    #: Default: without end.
    max_hold: Optional[Seconds]
    #: What this process is called in Redis: 1 to 64 printable ASCII characters
    #: without spaces. Default: ``<host>:<pid>``.
    client_name: Optional[str]


class RedisOptions(TimingOptions, total=False):
    """How to reach Redis, and the times."""

    host: str
    port: int
    db: int
    username: Optional[str]
    password: Optional[str]
    use_ssl: bool
    ssl_certfile: Optional[str]
    ssl_keyfile: Optional[str]
    ssl_ca_certs: Optional[str]
    #: What every key begins with: letters, digits, ``_``, ``-``, ``.``.
    key_prefix: Optional[str]
    #: Seconds to connect, and for one reply. Default: 10.
    socket_timeout: Seconds
    #: Pipelined connections. Default: 1.
    connections: int
    #: How many replicas must have an acquisition before it counts. Default: 0.
    replicas: int
    deployment_mode: Literal["standard", "sentinel", "cluster"]
    #: ``host:port`` of sentinels or cluster nodes.
    endpoints: list[str]
    sentinel_service: str
    #: What to do if Redis cannot be reached at the start: ``"none"``, an error,
    #: or ``"in_memory"``: locks in the memory of this process until it can.
    #: Default: ``"none"``.
    fallback: Literal["in_memory", "none"]
    #: How a conversation is kept in Redis: ``"native"``, or ``"rasa"`` as Rasa
    #: does.
    layout: Literal["native", "rasa"]
