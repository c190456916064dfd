"""Starts what the test needs, and ends it again, each by its process id."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Processes:
    """The processes that were started; all are killed at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # ended already
            process.wait()

    def start(self, name: str, *command: str | Path, **environment: str) -> Process:
        """Starts a command, whose output goes to a file in the folder."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, **environment},
                # With its workers, if it has some, it is a group.
                start_new_session=True,
            )
        self._running.append(process)
        return Process(name, process, log)


class Process:
    """One of them."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.popen = popen
        self.log = log

    async def until(self, is_ready: Callable[[], bool], seconds: float = 180) -> None:
        """Waits until it is ready."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            if self.popen.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-4000:]
                raise SystemExit(f"{self.name} does not start; it says:\n{tail}")
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        """`kill -9`."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    async def stop(self) -> None:
        """Asks it to end, as a service manager does."""
        self.popen.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self.popen.wait, 60)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"{self.name} does not stop") from None


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
