"""Programs that a test runs, since they end, fork or are interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass

HEAD = """
import asyncio, os, signal, sys, threading, time
import lock_store
from lock_store import *

URL = sys.argv[1]

# Whoever starts the tests by a script's `&` has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def open_store(**options):
    # Longer than a program may take: that a lease ends must not help anybody.
    options.setdefault("lock_lifetime", 600)
    return LockStore.redis(URL, fallback="none", **options)
"""

#: Far longer than any of them takes, and less than pytest's own limit.
LIMIT = 90


@dataclass
class Ended:
    code: int
    out: str
    err: str


class Program:
    """A program in a process of its own. What it prints is its progress."""

    def __init__(self, url: str, text: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-W", "ignore::DeprecationWarning", "-c", HEAD + textwrap.dedent(text), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        # One that hangs says where, and ends.
        self.timer = threading.Timer(LIMIT, self.process.send_signal, [signal.SIGABRT])
        self.timer.start()

    def says(self, what: str) -> None:
        """Waits until it prints this line."""
        assert self.process.stdout
        line = self.process.stdout.readline().strip()
        assert line == what, (line, self.end())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> Ended:
        out, err = self.process.communicate()
        self.timer.cancel()
        return Ended(self.process.returncode, out, err)


def run(url: str, text: str) -> str:
    """Runs it to its good end, and returns what it printed."""
    ended = Program(url, text).end()
    assert ended.code == 0, ended
    assert not ended.err, ended
    return ended.out
