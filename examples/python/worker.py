"""A worker with threads: at most one of them works on a customer at a time.

    python examples/python/worker.py redis://localhost:6379/1
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from lock_store import LockStore, LockTimeout


def work(store: LockStore, customer: str) -> str:
    try:
        with store.lock(customer, wait_timeout=5) as guard:
            time.sleep(0.02)
            return f"{customer} served as ticket {guard.ticket_number}"
    except LockTimeout as error:
        return f"{customer} has to wait: {error.ahead} are ahead"


def main() -> None:
    if len(sys.argv) > 1:
        store = LockStore.redis(sys.argv[1])
    else:
        store = LockStore.in_memory()
    with store, ThreadPoolExecutor(8) as pool:
        for line in pool.map(lambda i: work(store, f"customer-{i % 3}"), range(24)):
            print(line)


if __name__ == "__main__":
    main()
