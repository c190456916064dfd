"""The rounds of bench-python, on a Redis that is started and ended here."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Callable, Iterator

import redis
from python_contenders import Contenders
from python_measures import Counted, cycles, cycles_in_threads, hand_off, hand_off_in_threads

#: By measure and contender, a figure per round.
Results = dict[str, dict[str, list[float]]]

ONE = "Redis, 1 coroutine"
MANY = "Redis, 64 coroutines"
ONE_THREAD = "Redis, 1 thread"
MANY_THREADS = "Redis, 16 threads"
MEMORY = "memory, 1 coroutine"
HAND_OFF = "hand-off, 20 coroutines"
HAND_OFF_IN_THREADS = "hand-off, 20 threads"


def measure(rasa: ModuleType, rounds: int, quick: bool) -> Results:
    """All measures of all contenders, `rounds` times."""
    # Short turns: what slows down the machine for a second slows down all.
    turns, seconds = (1, 0.1) if quick else (10, 0.1)
    # With Rasa, each but the first of them takes a second.
    waiting = 4 if quick else 20
    work = 0.02
    rounds = 1 if quick else rounds
    results: Results = {}

    def note(measure: str, contender: str, figure: float) -> None:
        results.setdefault(measure, {}).setdefault(contender, []).append(figure)

    def take_turns(measure: str, contenders: list[tuple[str, Callable[[], Counted]]]) -> None:
        counted = [[take() for _, take in contenders] for _ in range(turns)]
        for (name, _), counts in zip(contenders, zip(*counted)):
            done, took = map(sum, zip(*counts))
            note(measure, name, done / took)

    def once(contenders: Contenders) -> None:
        for measure, compared, tasks in [
            (ONE, contenders.on_redis, 1),
            (MANY, contenders.on_redis, 64),
            (MEMORY, contenders.in_memory, 1),
        ]:
            take_turns(
                measure,
                [(each.name, partial(cycles, each, tasks, seconds)) for each in compared],
            )
        for measure, threads in [(ONE_THREAD, 1), (MANY_THREADS, 16)]:
            take_turns(
                measure,
                [
                    (name, partial(cycles_in_threads, enter, threads, seconds))
                    for name, enter in contenders.in_threads
                ],
            )
        for contender in contenders.on_redis:
            note(HAND_OFF, contender.name, hand_off(contender, waiting, work))
        for name, enter in contenders.in_threads:
            took = hand_off_in_threads(enter, waiting, work)
            note(HAND_OFF_IN_THREADS, name, took)

    with redis_server() as port:
        contenders = Contenders(port, rasa)
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
            once(contenders)
        contenders.close()
        # The last connections go with it.
        del contenders
        gc.collect()
    return results


@contextmanager
def redis_server() -> Iterator[int]:
    """A Redis on a free port, with nothing written to disk."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_until_ready(server, port)
            yield port
        finally:
            server.terminate()
            server.wait()


def wait_until_ready(server: subprocess.Popen, port: int) -> None:
    client = redis.Redis(host="127.0.0.1", port=port)
    while True:
        try:
            client.ping()
            return
        except redis.ConnectionError:
            if server.poll() is not None:
                raise SystemExit(f"redis-server ended with status {server.returncode}")
            time.sleep(0.01)
