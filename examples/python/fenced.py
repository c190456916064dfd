"""A holder that is late, and a table that refuses it (fencing tokens).

    python fenced.py

The first handler is paused for longer than its lease, as a process is in a
stop of the garbage collection or on a machine that swaps. It does not look
whether its lock is lost, and writes. The table knows.
"""

from __future__ import annotations

import sqlite3

from lock_store import LockGuard, LockLost, LockStore


def save(db: sqlite3.Connection, guard: LockGuard, state: str) -> None:
    """Saves the state of the conversation that the guard has locked."""
    written = db.execute(
        "INSERT INTO trackers VALUES (?, ?, ?)"
        " ON CONFLICT (conversation_id) DO UPDATE"
        " SET state = excluded.state, token = excluded.token"
        " WHERE trackers.token <= excluded.token",
        (guard.conversation_id, state, guard.fencing_token),
    )
    if written.rowcount == 0:
        raise LockLost("a later holder has written", conversation_id=guard.conversation_id)


def main() -> None:
    store = LockStore.in_memory()
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE trackers (conversation_id TEXT PRIMARY KEY, state TEXT, token BIGINT)")

    late = store.lock("conversation-42", lifetime=0.05).acquire()

    # Its lease ends; the next message has its turn.
    with store.lock("conversation-42") as guard:
        save(db, guard, "written by the second")

    # The first goes on, and knows nothing of it.
    try:
        save(db, late, "written by the first, too late")
    except LockLost as error:
        print("refused:", error)
    (state,) = db.execute("SELECT state FROM trackers").fetchone()
    print("state:", state)


if __name__ == "__main__":
    main()
