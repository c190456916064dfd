# The types of the extension module. Docstrings stand in the module itself.

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from os import PathLike
from types import TracebackType
from typing import Any, Generic, Literal, Optional, TypeVar, final

from typing_extensions import Concatenate, ParamSpec, Self, Unpack

from lock_store._errors import LockLost
from lock_store._options import RedisOptions, Seconds, TimingOptions

__all__ = [
    "Conversations",
    "DEFAULT_CLAIM_WINDOW",
    "DEFAULT_CLOSE_LIMIT",
    "DEFAULT_LOCK_LIFETIME",
    "DEFAULT_WAIT_TIME",
    "Lock",
    "LockGuard",
    "LockStore",
    "Operation",
    "Place",
    "Ticket",
    "TicketLock",
    "__version__",
    "_levels_changed",
    "_rasa_store",
]

__version__: str
DEFAULT_LOCK_LIFETIME: float
DEFAULT_WAIT_TIME: float
DEFAULT_CLAIM_WINDOW: float
DEFAULT_CLOSE_LIMIT: float

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)

# What takes time. `await` it in asyncio, or call `result()` in a thread. It
# begins then, not before, like a coroutine; one that is dropped before is
# warned about. A task that is cancelled while it awaits one takes the request
# back: its ticket leaves the queue.
@final
class Operation(Generic[_T_co]):
    def __await__(self) -> Generator[Any, None, _T_co]: ...
    # Blocks this thread, with the interpreter lock released. After `timeout`
    # seconds a TimeoutError; the operation goes on and can be asked again.
    # Where it waits for others (`Place.wait`, `LockGuard.lost`) it raises a
    # RuntimeError in a thread whose event loop is running; what is only a
    # round trip to the storage is allowed there, and blocks the loop meanwhile.
    def result(self, timeout: Optional[Seconds] = None) -> _T_co: ...
    # For the event loop, as of a generator.
    def send(self, value: object) -> Any: ...
    def throw(
        self,
        kind: object,
        value: Optional[object] = None,
        traceback: Optional[TracebackType] = None,
    ) -> Any: ...
    def close(self) -> None: ...

@final
class LockStore:
    # In the memory of this process.
    @staticmethod
    def in_memory(**options: Unpack[TimingOptions]) -> LockStore: ...
    # On Redis. Options are checked now; the connection is opened at first use,
    # in each process, or by `connect`. Without `url` the option `host` counts,
    # and the default is localhost. Values are taken literally: `${NAME}` is
    # replaced only in files and YAML texts. A Redis that cannot be reached is
    # an error, unless fallback="in_memory".
    @staticmethod
    def redis(url: Optional[str] = None, **options: Unpack[RedisOptions]) -> LockStore: ...
    # From the variables `LOCK_STORE_<KEY>`, without a file.
    @staticmethod
    def from_env() -> LockStore: ...
    # The `lock_store` block of a file / of a text.
    @staticmethod
    def from_endpoints(path: str | PathLike[str]) -> LockStore: ...
    @staticmethod
    def from_yaml(text: str) -> LockStore: ...
    # Opens the connection now, which otherwise the first use does; the error,
    # if there is one. With fallback "in_memory" an unreachable Redis is none.
    def connect(self) -> Operation[None]: ...
    # `async with`, `with`, `await`, or `.acquire()` in threads.
    # wait_timeout=math.inf waits without limit. None: as configured.
    def lock(
        self,
        conversation_id: str,
        *,
        lifetime: Optional[Seconds] = None,
        wait_timeout: Optional[Seconds] = None,
        keep_alive: Optional[bool] = None,
    ) -> Lock: ...
    # None when somebody is there; then no ticket is taken.
    def try_lock(
        self,
        conversation_id: str,
        *,
        lifetime: Optional[Seconds] = None,
        keep_alive: Optional[bool] = None,
    ) -> Operation[Optional[LockGuard]]: ...
    # In line from here on, in this order.
    def take_ticket(
        self,
        conversation_id: str,
        *,
        lifetime: Optional[Seconds] = None,
        wait_timeout: Optional[Seconds] = None,
        keep_alive: Optional[bool] = None,
    ) -> Operation[Place]: ...
    # Locks, awaits work(guard), releases; the work is cancelled when the lock
    # is lost, and LockLost raised.
    async def run(
        self,
        conversation_id: str,
        work: Callable[[LockGuard], Awaitable[_T]],
        *,
        lifetime: Optional[Seconds] = None,
        wait_timeout: Optional[Seconds] = None,
        keep_alive: Optional[bool] = None,
    ) -> _T: ...
    # The ids of all conversations that have a lock, in no order: `async for`,
    # or `for` in threads.
    def conversations(self) -> Conversations: ...
    # Rasa's methods.
    def create_lock(self, conversation_id: str) -> TicketLock: ...
    def get_lock(self, conversation_id: str) -> Operation[Optional[TicketLock]]: ...
    def get_or_create_lock(self, conversation_id: str) -> Operation[TicketLock]: ...
    def save_lock(self, lock: TicketLock) -> Operation[None]: ...
    def delete_lock(self, conversation_id: str) -> Operation[bool]: ...
    def issue_ticket(
        self, conversation_id: str, lifetime: Optional[Seconds] = None
    ) -> Operation[int]: ...
    def update_lock(self, conversation_id: str) -> Operation[None]: ...
    def is_someone_waiting(self, conversation_id: str) -> Operation[bool]: ...
    def finish_serving(self, conversation_id: str, ticket_number: int) -> Operation[None]: ...
    def cleanup(self, conversation_id: str, ticket_number: int) -> Operation[None]: ...
    # Takes no new locks, and waits until everything that was dropped is
    # released, for `timeout` seconds at most: then `LockStoreUnavailable` says
    # how many tickets were not given back. Guards that are held stay good.
    def close(self, *, timeout: Seconds = 5.0) -> Operation[None]: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
        /,
    ) -> Optional[bool]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
        /,
    ) -> Optional[bool]: ...
    # Whether it serves from memory although it should not.
    @property
    def is_degraded(self) -> bool: ...
    # Who this store is to the others, 16 hexadecimal digits; None until it is
    # opened.
    @property
    def client_id(self) -> Optional[str]: ...

# A request for a lock. Takes a ticket each time it is entered, awaited or
# acquired; entered once at a time.
@final
class Lock:
    # Waits for the turn in a thread: the blocking form of `await`.
    def acquire(self) -> LockGuard: ...
    def __await__(self) -> Generator[Any, None, LockGuard]: ...
    async def __aenter__(self) -> LockGuard: ...
    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
        /,
    ) -> Optional[bool]: ...
    def __enter__(self) -> LockGuard: ...
    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
        /,
    ) -> Optional[bool]: ...
    @property
    def conversation_id(self) -> str: ...

# A held lock. Also a context manager, of both kinds, that releases it.
@final
class LockGuard:
    @property
    def conversation_id(self) -> str: ...
    @property
    def fencing_token(self) -> int: ...
    @property
    def ticket_number(self) -> int: ...
    # On the clock of time.monotonic(). After the release: what it was then.
    @property
    def deadline(self) -> float: ...
    # A guard that was released is not lost.
    @property
    def is_lost(self) -> bool: ...
    @property
    def is_released(self) -> bool: ...
    # The lease runs for `lifetime` from now on. LockLost when it is not ours.
    def extend(self, lifetime: Seconds) -> Operation[None]: ...
    # The reason, when the lock is no longer ours; None when it was released.
    def lost(self) -> Operation[Optional[LockLost]]: ...
    # Harmless when it is released already. LockLost when it was not ours.
    def release(self) -> Operation[None]: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
        /,
    ) -> Optional[bool]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
        /,
    ) -> Optional[bool]: ...

# A place in line. Dropping it, or `leave`, gives the ticket back.
@final
class Place:
    @property
    def conversation_id(self) -> str: ...
    @property
    def ticket_number(self) -> int: ...
    @property
    def fencing_token(self) -> int: ...
    # Once; the place is used up.
    def wait(self) -> Operation[LockGuard]: ...
    # How many tickets are ahead; 0 when the turn has come.
    def position(self) -> Operation[int]: ...
    def leave(self) -> None: ...

@final
class Conversations:
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> str: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> str: ...

# One ticket, as plain data. Times are seconds (since the epoch).
@final
class Ticket:
    @property
    def number(self) -> int: ...
    @property
    def expires(self) -> float: ...
    @property
    def fencing_token(self) -> int: ...
    # "<client id>.<sequence>"; None for a ticket in Rasa's manner.
    @property
    def owner(self) -> Optional[str]: ...
    @property
    def lifetime(self) -> float: ...
    @property
    def state(self) -> Literal["waiting", "promoted", "claimed"]: ...
    # Without `now`: time.time().
    def has_expired(self, now: Optional[float] = None) -> bool: ...
    def to_json(self) -> str: ...
    def __eq__(self, other: object, /) -> bool: ...

# A conversation's queue of tickets, as plain data: a copy of what is stored.
@final
class TicketLock:
    def __new__(cls, conversation_id: str) -> Self: ...
    @property
    def conversation_id(self) -> str: ...
    @property
    def tickets(self) -> list[Ticket]: ...
    # The highest fencing token that it ever gave.
    @property
    def last_token(self) -> int: ...
    # Rasa's methods; `now` is time.time() by default.
    def issue_ticket(self, lifetime: Seconds, now: Optional[float] = None) -> int: ...
    def remove_expired_tickets(self, now: Optional[float] = None) -> None: ...
    # None where Rasa says -1, and where Rasa says 0.
    def last_issued(self, now: Optional[float] = None) -> Optional[int]: ...
    def now_serving(self, now: Optional[float] = None) -> Optional[int]: ...
    def is_locked(self, ticket_number: int, now: Optional[float] = None) -> bool: ...
    def is_someone_waiting(self) -> bool: ...
    def remove_ticket_for(self, ticket_number: int, now: Optional[float] = None) -> None: ...
    def has_lock_expired(self, ticket_number: int, now: Optional[float] = None) -> bool: ...
    # Rasa's JSON form (`TicketLock.dumps`), with our fields behind.
    def to_json(self) -> str: ...
    @staticmethod
    def from_json(text: str) -> TicketLock: ...
    def __len__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

# For `lock_store.rasa`: the store that the block of `endpoints.yml` and keyword
# options describe, and its `socket_timeout`, None in memory.
def _rasa_store(
    block: dict[str, Any], options: dict[str, Any]
) -> tuple[LockStore, Optional[float]]: ...

# For `lock_store._logging`: from which level on events are wanted.
def _levels_changed(level: int) -> None: ...
