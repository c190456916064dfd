"""Real Rasa servers on one Redis; see scripts/test-rasa.

Needs an environment with Rasa and lock-store: scripts/test-rasa makes it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import redis
from bursts import Broken, Fleet, one_at_a_time, tickets_of_ours, tickets_of_rasa
from kitchen import Kitchen
from processes import Process, Processes, free_port, listens

BOT = Path(__file__).resolve().parents[2] / "examples" / "rasa"
OURS = "lock_store.rasa.RasaLockStore"
LOCKS, TRACKERS = 1, 0

#: What a server's death may cost: the rest of a lease, the claim window, and
#: the time that a loaded machine takes.
LIFETIME, CLAIM_WINDOW, SLACK = 5, 3, 10

BEGUN = float(os.environ.get("BEGUN", time.time()))


def step(text: str) -> None:
    print(f"\n== {text} ({time.time() - BEGUN:.0f} s so far)", flush=True)


def say(text: str) -> None:
    print(f"   {text}", flush=True)


class Stage:
    """A Redis, a trained bot, and its kitchen."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.folder = processes.folder
        self.model = self.folder / "models" / "bot.tar.gz"
        self.kitchen = Kitchen()
        self.kitchen_port, self.redis_port = free_port(), free_port()

    async def set_up(self) -> None:
        step("redis-server")
        port = str(self.redis_port)
        command = ["redis-server", "--bind", "127.0.0.1", "--port", port]
        server = self.processes.start("redis", *command, "--save", "")
        await server.until(lambda: listens(self.redis_port), 20)
        self.locks = redis.Redis(port=self.redis_port, db=LOCKS)

        step("training the bot of examples/rasa")
        bot = self.folder / "bot"
        # Rasa writes a cache beside it.
        shutil.copytree(BOT, bot, dirs_exist_ok=True)
        rasa = Path(sys.executable).parent / "rasa"
        begun = time.monotonic()
        trained = await asyncio.create_subprocess_exec(
            *[rasa, "train", "--quiet", "--fixed-model-name", self.model.name],
            *["--out", self.model.parent],
            cwd=bot,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await trained.communicate()
        if trained.returncode != 0 or not self.model.exists():
            raise Broken(f"training failed:\n{output.decode()}")
        say(f"took {time.monotonic() - begun:.0f} s")
        await self.kitchen.open(self.kitchen_port)

    async def servers(self, *wanted: tuple[str, dict[str, object], int]) -> list[Server]:
        """A server for each name, `lock_store` block and number of workers."""
        servers = [Server(self, *this) for this in wanted]
        await asyncio.gather(*(server.ready() for server in servers))
        return servers

    def block(self, store_type: str, **keys: object) -> dict[str, object]:
        return {"type": store_type, "url": "127.0.0.1", "port": self.redis_port, **keys}

    def left(self) -> list[bytes]:
        return self.locks.keys("*")

    async def nothing_is_left(self) -> None:
        """A reply leaves a little earlier than its ticket."""
        deadline = time.monotonic() + 10
        while self.left():
            if time.monotonic() > deadline:
                raise Broken(f"left in Redis: {self.left()}")
            await asyncio.sleep(0.01)


class Server:
    """`rasa run`."""

    def __init__(
        self, stage: Stage, name: str, block: dict[str, object], workers: int
    ) -> None:
        self.port = free_port()
        endpoints = stage.folder / f"{name}.endpoints.yml"
        tracker_store = stage.block("redis", db=TRACKERS)
        # JSON is YAML.
        endpoints.write_text(
            json.dumps(
                {
                    "lock_store": block,
                    "tracker_store": tracker_store,
                    "action_endpoint": {
                        "url": f"http://127.0.0.1:{stage.kitchen_port}/webhook"
                    },
                }
            )
        )
        rasa = Path(sys.executable).parent / "rasa"
        self.process: Process = stage.processes.start(
            name,
            *[rasa, "run", "--interface", "127.0.0.1", "--port", str(self.port)],
            *["--model", stage.model, "--endpoints", endpoints],
            *["--credentials", BOT / "credentials.yml"],
            SANIC_WORKERS=str(workers),
        )

    async def ready(self) -> None:
        await self.process.until(lambda: listens(self.port))


async def bursts(
    stage: Stage, names: str, fleet: Fleet, senders: int, messages: int
) -> None:
    begun = time.monotonic()
    await fleet.in_known_order([f"{names}-{i}" for i in range(senders)], messages)
    await stage.nothing_is_left()
    took, total = time.monotonic() - begun, senders * messages
    say(f"{total} messages of {senders} senders: one at a time, in order, {took:.1f} s")


async def ours(stage: Stage, session: aiohttp.ClientSession) -> None:
    step("two servers with our store, one with two workers")
    block = stage.block(
        OURS,
        fallback="none",
        lock_lifetime=LIFETIME,
        keep_alive=True,
        claim_window=CLAIM_WINDOW,
        wait_timeout=60,
    )
    one, other = await stage.servers(("one", block, 1), ("other", block, 2))
    fleet = Fleet(
        stage.kitchen, (one.port, other.port), tickets_of_ours(stage.locks), session
    )
    step("bursts to both")
    await bursts(stage, "ours", fleet, 24, 10)

    begun = time.monotonic()
    senders, messages = [f"ours-free-{i}" for i in range(24)], 10
    await fleet.all_at_once(senders, messages)
    await stage.nothing_is_left()
    took = time.monotonic() - begun
    say(f"{len(senders) * messages} messages, all at once: one at a time, {took:.1f} s")

    step("kill -9 of one of them, in mid-message")
    await killed(stage, fleet, one.process)
    await other.process.stop()


async def killed(stage: Stage, fleet: Fleet, victim: Process) -> None:
    senders = [f"killed-{i}" for i in range(6)]
    # The one that is killed holds each conversation, and is in each queue twice.
    lines = await asyncio.gather(
        *(fleet.line_up(sender, [0, 0, 1, 0, 1]) for sender in senders)
    )
    victim.kill()
    killed = time.monotonic()
    for gate, _ in lines:
        gate.set()
    held_up = []
    for sender, (_, sent) in zip(senders, lines):
        answers = await asyncio.gather(*sent)
        if [answer is None for answer in answers] != [True, True, False, True, False]:
            raise Broken(f"{sender}: wrong answers after the kill: {answers}")
        handled = stage.kitchen.handled[sender]
        if [this.number for this in handled] != [0, 2, 4]:
            raise Broken(f"{sender}: handled out of order: {handled}")
        one_at_a_time(sender, handled[1:])
        held_up.append(handled[1].begun - killed)
    await stage.nothing_is_left()
    say(
        f"{len(senders)} conversations were held up by {min(held_up):.1f} "
        f"to {max(held_up):.1f} s (lease {LIFETIME} s, claim window {CLAIM_WINDOW} s)"
    )
    if max(held_up) > LIFETIME + CLAIM_WINDOW + SLACK:
        raise Broken("that is longer than the lease and the claim window")


async def mixed(stage: Stage, session: aiohttp.ClientSession) -> None:
    """Each ticket is taken after the one before it. All at once would show the
    races of Rasa's own store, which docs/RASA.md tells of."""
    step("one server with Rasa's own store, one with ours and `layout: rasa`")
    rasas = stage.block("redis")
    block = stage.block(OURS, layout="rasa", fallback="none")
    one, other = await stage.servers(("rasas", rasas, 1), ("mixed", block, 1))
    fleet = Fleet(
        stage.kitchen, (one.port, other.port), tickets_of_rasa(stage.locks), session
    )
    step("bursts to both; Rasa's waiters look once a second")
    await bursts(stage, "mixed", fleet, 8, 6)
    await one.process.stop()
    await other.process.stop()


async def agent(stage: Stage) -> None:
    step("10 simultaneous messages of one conversation, each 20 ms of work, in an Agent")
    script = Path(__file__).with_name("agent.py")
    measured = await asyncio.create_subprocess_exec(
        *[sys.executable, script, stage.model, str(stage.redis_port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await measured.communicate()
    if measured.returncode != 0:
        raise Broken(f"the Agent failed:\n{errors.decode()}")
    seconds = json.loads(output.splitlines()[-1])
    say(f"with Rasa's RedisLockStore {seconds['rasa']:.2f} s, with ours {seconds['ours']:.3f} s")


PARTS = ("ours", "mixed", "agent")


async def main(parts: list[str]) -> None:
    folder = Path(os.environ["RASA_TEST_FOLDER"])
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    # Messages wait for each other, and for the gate.
    timeout = aiohttp.ClientTimeout(total=300)
    connector = aiohttp.TCPConnector(limit=0)
    with Processes(folder) as processes:
        stage = Stage(processes)
        await stage.set_up()
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            for part in parts:
                await {
                    "ours": lambda: ours(stage, session),
                    "mixed": lambda: mixed(stage, session),
                    "agent": lambda: agent(stage),
                }[part]()
    step("all is well")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1:] or list(PARTS)))
    except asyncio.CancelledError:
        sys.exit("stopped")
