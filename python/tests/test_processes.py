"""Real processes: forked, interrupted, and ending with locks held."""

from __future__ import annotations

import re
import time

import pytest

from conftest import PATIENCE, Redis
from lock_store import LockStore
from programs import Program, run


def test_an_exit_releases_what_is_held(redis: Redis) -> None:
    out = run(
        redis.url,
        """
        store = open_store()
        guard = store.lock("held").acquire()
        other = open_store().lock("other").acquire()
        place = open_store().take_ticket("held").result()
        print("ready")
        """,
    )
    assert out == "ready\n"
    assert redis.keys() == set()


def test_an_exit_releases_what_was_just_dropped(redis: Redis) -> None:
    run(
        redis.url,
        """
        import warnings
        warnings.simplefilter("ignore")
        def main():
            store = open_store()
            for i in range(50):
                store.lock(f"dropped-{i}").acquire()
        main()
        """,
    )
    assert redis.keys() == set()


def test_an_exit_with_waiters_in_threads_and_loops(redis: Redis) -> None:
    """The waiters are in daemon threads, which Python does not wait for."""
    run(
        redis.url,
        """
        store = open_store()
        guard = store.lock("a").acquire()
        def wait():
            try:
                store.lock("a").acquire()
            except LockStoreClosed:
                pass
        async def wait_in_loop():
            try:
                await store.lock("a")
            except LockStoreClosed:
                pass
        for _ in range(5):
            threading.Thread(target=wait, daemon=True).start()
            threading.Thread(target=lambda: asyncio.run(wait_in_loop()), daemon=True).start()
        while len(store.get_lock("a").result()) < 11:
            time.sleep(0.01)
        """,
    )
    assert redis.keys() == set()


def test_an_exit_waits_for_a_task_that_has_just_asked(redis: Redis) -> None:
    """Its ticket is on its way while the loop, in a daemon thread, is made
    ready for the answer, which takes longer than all else at the exit. What
    comes last takes longer still: by then the thread must be out of there."""
    run(
        redis.url,
        """
        store = open_store()
        guard = store.lock("a").acquire()
        ready, end = threading.Event(), threading.Event()
        class Slow(asyncio.SelectorEventLoop):
            def add_reader(self, *arguments):
                ready.set()
                end.wait()
                time.sleep(0.5)
                super().add_reader(*arguments)
        class Last:
            def __del__(self, sleep=time.sleep):
                sleep(1)
        async def wait():
            try:
                await store.lock("a")
            except LockStoreClosed:
                pass
        threading.Thread(target=lambda: Slow().run_until_complete(wait()), daemon=True).start()
        ready.wait()
        while len(store.get_lock("a").result()) < 2:
            time.sleep(0.01)
        last = Last()
        end.set()
        """,
    )
    assert redis.keys() == set()


def test_a_child_of_multiprocessing_tells_its_loops(redis: Redis) -> None:
    """Whose threads, unlike those of other programs, end after the exit."""
    program = """
    import multiprocessing
    def child():
        store = open_store()
        guard = store.lock("a").acquire()
        async def wait():
            try:
                await store.lock("a")
            except LockStoreClosed:
                os.write(1, b"closed ")
        for _ in range(3):
            threading.Thread(target=lambda: asyncio.run(wait())).start()
        while len(store.get_lock("a").result()) < 4:
            time.sleep(0.01)
    child = multiprocessing.get_context("fork").Process(target=child)
    child.start()
    child.join(60)
    child.kill()
    print(child.exitcode)
    """
    assert run(redis.url, program).split() == ["closed"] * 3 + ["0"]
    assert redis.keys() == set()


def test_an_exit_in_the_middle_of_everything(redis: Redis) -> None:
    """Daemon threads go on locking while the interpreter ends."""
    for _ in range(5):
        run(
            redis.url,
            """
            store = open_store(keep_alive=True)
            memory = LockStore.in_memory()
            begun = threading.Barrier(9)
            def work(store, id):
                begun.wait()
                try:
                    while True:
                        with store.lock(id):
                            pass
                except LockStoreClosed:
                    pass
            for i in range(8):
                threading.Thread(
                    target=work, args=([store, memory][i % 2], f"c{i % 4}"), daemon=True
                ).start()
            begun.wait()
            time.sleep(0.05)
            """,
        )
        assert redis.keys() == set()


def test_after_the_exit_hook_everything_says_so(redis: Redis) -> None:
    out = run(
        redis.url,
        """
        import atexit
        memory = LockStore.in_memory()
        held = memory.lock("held").acquire()
        # As the interpreter does it.
        atexit._run_exitfuncs()
        for store in (open_store(), memory):
            try:
                store.lock("a").acquire()
            except LockStoreClosed as error:
                print(error)
        del held, store, memory
        """,
    )
    assert out.count("as the interpreter is exiting") == 2


def test_a_sub_interpreter_ends_with_the_program(redis: Redis) -> None:
    import os
    import subprocess
    import sys

    program = """
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    raise SystemExit
run = interpreters.run_string
interpreter = interpreters.create()
try:
    run(interpreter, "import lock_store; g = lock_store.LockStore.in_memory().lock('a').acquire()")
except Exception:
    pass  # refused by some versions
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, env=os.environ)
    assert done.returncode == 0


def test_an_exit_does_not_wait_for_a_storage_that_is_gone(redis: Redis) -> None:
    program = Program(
        redis.url,
        """
        store = open_store()
        guard = store.lock("a").acquire()
        print("held")
        sys.stdin.readline()
        """,
    )
    program.says("held")
    redis.process.send_signal(19)  # SIGSTOP
    try:
        assert program.process.stdin
        program.process.stdin.write("\n")
        program.process.stdin.flush()
        began = time.monotonic()
        ended = program.end()
    finally:
        redis.process.send_signal(18)  # SIGCONT
    assert ended.code == 0, ended
    # It waits for a few seconds, and neither for a reply nor for the lease.
    assert time.monotonic() - began < 20
    assert re.search(r"1 ticket was not given back within [0-9.]+m?s", ended.err), ended


@pytest.mark.parametrize(
    "wait",
    [
        "with store.lock('a'): pass",
        "store.lock('a').acquire()",
        "store.take_ticket('a').result().wait().result()",
        "guard.lost().result()",
        "asyncio.run(wait())",
    ],
)
@pytest.mark.parametrize("where", ["redis", "memory"])
def test_ctrl_c(redis: Redis, wait: str, where: str) -> None:
    program = Program(
        redis.url,
        f"""
        store = open_store() if {where!r} == "redis" else LockStore.in_memory()
        guard = store.lock("a").acquire()
        async def wait():
            await store.lock("a")
        begun = threading.Event()
        def watch():
            begun.wait()
            wanted = 1 if "lost" in {wait!r} else 2
            while len(store.get_lock("a").result()) < wanted:
                time.sleep(0.01)
            print("waits")
        threading.Thread(target=watch).start()
        try:
            begun.set()
            {wait}
        except KeyboardInterrupt:
            while len(store.get_lock("a").result()) > 1:
                time.sleep(0.01)
            print("interrupted")
        guard.release().result()
        """,
    )
    program.says("waits")
    program.interrupt()
    program.says("interrupted")
    ended = program.end()
    assert ended.code == 0 and not ended.err, ended
    assert redis.keys() == set()


def test_a_forked_child_opens_anew(redis: Redis) -> None:
    out = run(
        redis.url,
        """
        store = open_store()
        memory = LockStore.in_memory()
        guard, held = store.lock("a").acquire(), memory.lock("m").acquire()
        place = store.take_ticket("a").result()
        lost = guard.lost()
        ids = store.conversations()
        parent = store.client_id
        pid = os.fork()
        if pid == 0:
            failures = []
            for what in (
                lambda: guard.release().result(),
                lambda: guard.extend(1).result(),
                lambda: lost.result(),
                lambda: place.wait().result(),
                lambda: place.leave(),
                lambda: memory.lock("m").acquire(),
                lambda: next(ids),
                lambda: held.__exit__(None, None, None),
            ):
                try:
                    what()
                except LockForked as error:
                    failures.append(error)
            assert len(failures) == 8, failures
            assert guard.conversation_id == "a" and guard.is_released
            # Nothing of the parent's is given back when these go.
            del guard, held, place, lost, ids
            assert store.client_id is None
            with store.lock("b"):
                assert len(store.get_lock("a").result()) == 2
            assert store.client_id != parent
            async def main():
                async with store.lock("b"):
                    pass
            asyncio.run(main())
            mine = LockStore.in_memory()
            with mine.lock("m"):
                pass
            print("child")
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert not guard.is_lost and not held.is_lost
        guard.release().result()
        place.wait().result().release().result()
        held.release().result()
        lost.close()
        print("parent")
        """,
    )
    assert out == "child\nparent\n"
    assert redis.keys() == set()


def test_forks_while_others_are_at_it(redis: Redis) -> None:
    """Whatever the other threads hold at the moment of the fork."""
    out = run(
        redis.url,
        """
        import logging
        logging.basicConfig(level=logging.DEBUG, stream=open(os.devnull, "w"))
        store, memory = open_store(), LockStore.in_memory()
        ends = threading.Event()
        def work(store, id):
            while not ends.is_set():
                with store.lock(id):
                    pass
        async def many(id):
            async def one():
                while not ends.is_set():
                    async with store.lock(id):
                        await asyncio.sleep(0)
            await asyncio.gather(*(one() for _ in range(4)))
        threads = [threading.Thread(target=work, args=(store, "a")),
                   threading.Thread(target=work, args=(memory, "a")),
                   threading.Thread(target=lambda: asyncio.run(many("b")))]
        for thread in threads:
            thread.start()
        for i in range(15):
            pid = os.fork()
            if pid == 0:
                with store.lock(f"child-{i}"):
                    pass
                # And one more generation.
                grandchild = os.fork()
                if grandchild == 0:
                    with store.lock(f"grandchild-{i}"):
                        pass
                    sys.exit(0)
                assert os.waitpid(grandchild, 0)[1] == 0
                sys.exit(0)
            assert os.waitpid(pid, 0)[1] == 0, i
        ends.set()
        for thread in threads:
            thread.join()
        print("done")
        """,
    )
    assert out == "done\n"
    assert redis.keys() == set()


def test_prefork_workers(redis: Redis) -> None:
    """As gunicorn does: the application is made before its workers are."""
    out = run(
        redis.url,
        """
        store = open_store(keep_alive=True)
        async def serve():
            for i in range(25):
                async with store.lock("shared") as guard:
                    name = f"/tmp/lock-store-{os.getppid()}"
                    with open(name, "x"):
                        pass
                    await asyncio.sleep(0.0005)
                    os.remove(name)
        workers = []
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                asyncio.run(serve())
                sys.exit(0)
            workers.append(pid)
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in workers)
        print("served")
        """,
    )
    assert out == "served\n"
    assert redis.keys() == set()


def test_children_of_multiprocessing_release_what_they_hold(redis: Redis) -> None:
    run(
        redis.url,
        """
        import multiprocessing
        def work(store):
            global guard
            guard = store.lock("held").acquire()
        store = open_store()
        child = multiprocessing.get_context("fork").Process(target=work, args=(store,))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert store.get_lock("held").result() is None
        """,
    )
    assert redis.keys() == set()


def test_a_killed_holder_costs_its_lease(redis: Redis) -> None:
    program = Program(
        redis.url,
        """
        guard = open_store(lock_lifetime=3, keep_alive=True).lock("a").acquire()
        print("held")
        time.sleep(1000)
        """,
    )
    program.says("held")
    with LockStore.redis(redis.url, fallback="none") as store:
        # In line before the lease can be over: numbers would begin anew.
        place = store.take_ticket("a", wait_timeout=PATIENCE).result()
        program.process.kill()
        program.end()
        with place.wait().result() as guard:
            assert guard.ticket_number == 1
