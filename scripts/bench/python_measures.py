"""What bench-python measures of a contender."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time

from python_contenders import Contender, Enter, EnterInThread


#: How often, and in how many seconds.
Counted = tuple[float, float]


def cycles(contender: Contender, tasks: int, seconds: float) -> Counted:
    """Locks and releases, each task on a conversation of its own."""

    async def main() -> Counted:
        async with contender.open() as enter:
            return await _cycles(enter, [f"cycles-{i}" for i in range(tasks)], seconds)

    return asyncio.run(main())


async def _cycles(enter: Enter, conversations: list[str], seconds: float) -> Counted:
    done = 0

    async def once(conversation: str) -> None:
        async with enter(conversation):
            pass

    async def work(conversation: str) -> None:
        nonlocal done
        gives_way = len(conversations) > 1
        while time.perf_counter() < ends:
            async with enter(conversation):
                pass
            done += 1
            if gives_way:
                # What blocks the event loop never does so by itself.
                await asyncio.sleep(0)

    # Connections and scripts.
    await asyncio.gather(*map(once, conversations))
    begun = time.perf_counter()
    ends = begun + seconds
    await asyncio.gather(*map(work, conversations))
    return done, time.perf_counter() - begun


def hand_off(contender: Contender, tasks: int, work: float) -> float:
    """Seconds from the end of one holder's work to the begin of the next one's,
    the median: messages of one conversation that all came at once."""

    async def main() -> float:
        async with contender.open() as enter:
            async with enter("hand-off"):
                pass
            return await _hand_off(enter, tasks, work)

    return asyncio.run(main())


async def _hand_off(enter: Enter, tasks: int, work: float) -> float:
    ended = None
    times: list[float] = []

    async def handle() -> None:
        nonlocal ended
        async with enter("hand-off"):
            if ended is not None:
                times.append(time.perf_counter() - ended)
            await asyncio.sleep(work)
            ended = time.perf_counter()

    await asyncio.gather(*(handle() for _ in range(tasks)))
    return statistics.median(times)


def cycles_in_threads(enter: EnterInThread, threads: int, seconds: float) -> Counted:
    """As `cycles`, in threads."""
    done = [0] * threads
    ready = threading.Barrier(threads + 1)
    start = threading.Event()
    ends = 0.0

    def work(i: int) -> None:
        conversation = f"cycles-{i}"
        with enter(conversation):
            pass
        ready.wait()
        start.wait()
        while time.perf_counter() < ends:
            with enter(conversation):
                pass
            done[i] += 1

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    begun = time.perf_counter()
    ends = begun + seconds
    start.set()
    for worker in workers:
        worker.join()
    return sum(done), time.perf_counter() - begun


def hand_off_in_threads(enter: EnterInThread, threads: int, work: float) -> float:
    """As `hand_off`, in threads."""
    ended = None
    times: list[float] = []

    def handle() -> None:
        nonlocal ended
        with enter("hand-off"):
            if ended is not None:
                times.append(time.perf_counter() - ended)
            time.sleep(work)
            ended = time.perf_counter()

    with enter("hand-off"):
        pass
    handlers = [threading.Thread(target=handle) for _ in range(threads)]
    for handler in handlers:
        handler.start()
    for handler in handlers:
        handler.join()
    return statistics.median(times)
