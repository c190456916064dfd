"""Every public name of the Rust library has its counterpart here, or a reason
to have none."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import lock_store

LIBRARY = Path(__file__).parents[2] / "crates/lock-store/src"

#: What has another name, or another form, in Python.
COUNTERPARTS = {
    "Request": "Lock",
    "LockErrorKind": "LockError",
}

#: What Python has not, and why.
EXEMPT = {
    **dict.fromkeys(
        ["Backend", "Claim", "Claimed", "Finish", "Finished", "InMemoryLockStore", "Issue",
         "Issued", "Listener", "RedisLockStore", "Step", "TicketName", "Uncontended", "WakeUp",
         "Changes"],
        "for storages, which are written in Rust",
    ),
    **dict.fromkeys(
        ["DeploymentMode", "Fallback", "Layout", "LockStoreConfig", "RedisConfig", "StoreType", "Timing",
         "ConfigReader", "ReadConfig", "Setting", "Source"],
        "are options in Python",
    ),
    **dict.fromkeys(
        ["ClientId", "ConversationId", "FencingToken", "Owner", "ParseOwnerError", "TicketState",
         "Timestamp"],
        "are plain texts and numbers in Python",
    ),
    "describe_metrics": "for a program that has a recorder of metrics, which is of Rust",
    **dict.fromkeys(["Acquiring", "Mode", "TakeTicket", "TryLock"], "types that only Rust needs"),
    **dict.fromkeys(
        ["Inspection", "LockSummary", "ServerInfo", "Survey", "diagnose"],
        "for people on call, who have the command `lock-store`",
    ),
    "SteadyClock": "time.monotonic",
}  # fmt: skip

#: Methods that Python has not, and why.
EXEMPT_METHODS = {
    "LockStore.new": "takes a storage, which is written in Rust",
    "LockStore.with_timing": "takes a storage, which is written in Rust",
    "LockStore.create": "from_endpoints, from_yaml, and the options of redis and in_memory",
    "LockStore.close_within": "close(timeout=...)",
    "LockStore.blocking_lock": "what store.lock(...) gives can be entered by threads, too",
    "LockGuard.blocking_release": "result() of release(), or the end of the with block",
    "LockGuard.cancellation_token": "lost() and run()",
    "LockStore.backend": "gives the storage, whose steps are for Rust",
    **dict.fromkeys(
        [f"LockError.{name}" for name in
         ["is_timed_out", "is_lost", "is_gone", "is_unavailable"]],
        "a class of its own",
    ),
    **dict.fromkeys(
        [f"LockError.{name}" for name in
         ["unavailable", "corrupt", "config", "for_conversation"]],
        "for storages, which are written in Rust",
    ),
    **dict.fromkeys(
        [f"TicketLock.{name}" for name in
         ["new", "resumed", "issue", "claim", "advance", "finish", "drop_dead_heads"]],
        "the steps of a storage, which is written in Rust",
    ),
    "TicketLock.is_empty": "len()",
}  # fmt: skip


def exported(text: str) -> set[str]:
    names = set()
    for group in re.findall(r"^pub use [\w:]+::\{([^}]*)\};", text, re.M):
        names.update(name.strip() for name in group.split(",") if name.strip())
    names.update(re.findall(r"^pub use [\w:]+::(\w+);", text, re.M))
    return names


def methods(name: str) -> set[str]:
    """The public methods of a type, wherever they are written."""
    found = set()
    for file in LIBRARY.rglob("*.rs"):
        text = file.read_text()
        for block in re.findall(rf"^impl {name} \{{\n(.*?)^\}}", text, re.M | re.S):
            found.update(re.findall(r"^    pub (?:const )?(?:async )?fn (\w+)", block, re.M))
    return found


def test_every_public_name_has_a_counterpart() -> None:
    names = exported((LIBRARY / "lib.rs").read_text())
    assert len(names) > 40
    missing = {
        name
        for name in names
        if name not in EXEMPT and COUNTERPARTS.get(name, name) not in lock_store.__all__
    }
    assert not missing
    assert not set(EXEMPT) - names, "exempt, but not there"


def test_every_public_method_has_a_counterpart() -> None:
    exempt = set(EXEMPT_METHODS)
    for name in ["LockStore", "LockGuard", "Place", "TicketLock", "Ticket", "LockError"]:
        found = methods(name)
        assert found, name
        here = set(dir(getattr(lock_store, name)))
        if name == "LockError":
            here |= set(vars(lock_store.LockError("")))
        missing = {f"{name}.{method}" for method in found - here} - exempt
        assert not missing
        exempt -= {f"{name}.{method}" for method in found}
    assert not exempt, "exempt, but not there"


def test_every_kind_of_error_has_a_class() -> None:
    text = (LIBRARY / "error.rs").read_text()
    kinds = set(re.findall(r'Self::\w+ => "(\w+)"', text))
    classes = {
        thing.kind: thing
        for thing in vars(lock_store).values()
        if isinstance(thing, type) and issubclass(thing, lock_store.LockError)
    }
    assert len(kinds) >= 9
    assert kinds <= set(classes)
    retryable = text[text.index("pub fn is_retryable") :]
    retryable = retryable[: retryable.index("\n    }\n")]
    wanted = {
        kind
        for variant, kind in re.findall(r'Self::(\w+) => "(\w+)"', text)
        if f"::{variant}" in retryable
    }
    assert {kind for kind in kinds if classes[kind].is_retryable} == wanted


def test_everything_public_is_documented() -> None:
    for name in lock_store.__all__:
        thing = getattr(lock_store, name)
        if not isinstance(thing, type):
            continue
        assert inspect.getdoc(thing), name
        for method, what in vars(thing).items():
            if not method.startswith("_") and (callable(what) or inspect.isdatadescriptor(what)):
                assert inspect.getdoc(what), f"{name}.{method}"
