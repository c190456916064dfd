"""The examples of the documentation, and the programs beside them, run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import Redis
from lock_store import LockStore

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs/PYTHON.md", ROOT / "README.md"]

#: A fenced block, and the one behind it if that says what is printed.
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:```text\n(?P<printed>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)

#: Far longer than any of them takes.
LIMIT = 60

#: Whatever Python warns of is a failure, but for forks beside threads, which
#: the page speaks of, and for what the examples leave open at their end.
PYTHON = [
    sys.executable, "-W", "always",
    "-W", "ignore:This process:DeprecationWarning",
    "-W", "ignore:unclosed database:ResourceWarning",
]  # fmt: skip

#: Runs a block as `python -m asyncio` would, with a bare `await` or without.
DRIVER = """
import ast, asyncio, inspect, logging, sys
from lock_store import LockStore

logging.getLogger("lock_store").addHandler(logging.NullHandler())
page, kind, url = sys.argv[1:]
names = {"__name__": "__main__"}
if kind == "memory":
    names["store"] = LockStore.in_memory()
elif kind == "redis":
    names["store"] = LockStore.redis(url, fallback="none")
code = compile(sys.stdin.read(), page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
result = eval(code, names)
if code.co_flags & inspect.CO_COROUTINE:
    asyncio.run(result)
"""


@dataclass
class Example:
    page: Path
    line: int
    code: str
    printed: str
    #: Which store it finds, if it does not make its own.
    kind: str

    def __str__(self) -> str:
        return f"{self.page.name}-{self.line}-{self.kind}"


def examples() -> Iterator[Example]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            code, printed = found["code"], found["printed"] or ""
            line = text.count("\n", 0, found.start("code"))
            makes_its_own = "LockStore." in code
            for kind in ["own"] if makes_its_own else ["memory", "redis"]:
                yield Example(page, line, code, printed, kind)


EXAMPLES = list(examples())


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_prints_what_the_page_says(example: Example, redis: Redis) -> None:
    code = example.code.replace("redis://localhost:6379/1", redis.url)
    code = code.replace('host="localhost", port=6379', f'host="127.0.0.1", port={redis.port}')
    if example.kind == "redis":
        # A page may be brief; a busy machine need not answer in so short a time.
        code = re.sub(r"(lifetime|wait_timeout)=0\.\d+", r"\1=2", code)
    # A traceback names the line of the page.
    code = "\n" * example.line + code
    ended = subprocess.run(
        [*PYTHON, "-c", DRIVER, example.page.name, example.kind, redis.url],
        input=code,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == (example.printed, "", 0)
    assert redis.keys() == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_has_examples_and_all_are_found(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = {example.line for example in EXAMPLES if example.page == page}
    assert len(found) == text.count("```python\n") > 0
    if page.name == "PYTHON.md":
        printed = sum(1 for found in BLOCK.finditer(text) if found["printed"])
        assert printed == text.count("```text\n"), "what is printed stands right behind its example"


def test_the_links_of_the_page_lead_somewhere() -> None:
    page = PAGES[0]
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    assert links
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {as_anchor(heading) for heading in headings}, link


def as_anchor(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


def program(name: str, *arguments: str) -> tuple[str, str]:
    """Runs one of `examples/python` to its good end: what it printed, and its warnings."""
    ended = subprocess.run(
        [*PYTHON, str(ROOT / "examples/python" / name), *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert ended.returncode == 0, ended
    return ended.stdout, ended.stderr


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_messages_are_handled_in_order(kind: str, redis: Redis) -> None:
    file = ROOT / "examples/messages.jsonl"
    url = [redis.url] if kind == "redis" else []
    printed, warnings = program("messages.py", str(file), *url)
    assert not warnings
    wanted: dict[str, list[str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        message = json.loads(line)
        wanted.setdefault(message["sender"], []).append(str(message["message"]))
    # Numbers begin anew when nobody was in line.
    lines = [re.fullmatch(r"(.*), ticket \d+: (.*)", line) for line in printed.splitlines()]
    handled = [(line[1], line[2]) for line in lines if line]
    assert len(handled) == sum(map(len, wanted.values())) > 0
    for sender_name, messages in wanted.items():
        of_sender = [message for sender, message in handled if sender == sender_name]
        assert of_sender == messages, sender_name
    assert redis.keys() == set()


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_a_bot_answers_in_order_and_with_rising_tokens(kind: str, redis: Redis) -> None:
    printed, warnings = program("bot.py", *([redis.url] if kind == "redis" else []))
    assert not warnings
    answers = [re.fullmatch(r"(\d+) (\S+): message (\d+)", line) for line in printed.splitlines()]
    assert len(answers) == 12
    for sender in ("sender-0", "sender-1", "sender-2"):
        of_sender = [answer for answer in answers if answer and answer[2] == sender]
        assert len(of_sender) == 4
        for what in (1, 3):
            numbers = [int(answer[what]) for answer in of_sender]
            assert numbers == sorted(set(numbers)), printed
    assert redis.keys() == set()


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_threads_of_a_worker_serve_everybody(kind: str, redis: Redis) -> None:
    printed, warnings = program("worker.py", *([redis.url] if kind == "redis" else []))
    assert not warnings
    lines = printed.splitlines()
    assert len(lines) == 24
    for i, line in enumerate(lines):
        assert line.startswith(f"customer-{i % 3} served as ticket "), printed
    assert redis.keys() == set()


def test_every_program_is_run_here_and_named_on_the_page() -> None:
    tests, page = Path(__file__).read_text("utf-8"), PAGES[0].read_text("utf-8")
    programs = [file.name for file in (ROOT / "examples/python").glob("*.py")]
    assert programs
    for name in programs:
        assert f'"{name}"' in tests or f"/{name}" in tests, name
        assert f"`{name}`" in page, name


def test_a_late_holder_is_refused() -> None:
    printed, warnings = program("fenced.py")
    # It is told in time, and does not look.
    assert len(warnings.splitlines()) == 1 and warnings.startswith("lost lock")
    assert printed == "refused: a later holder has written\nstate: written by the second\n"


def test_forked_workers_do_not_overwrite_each_other(redis: Redis, tmp_path: Path) -> None:
    printed, warnings = program("prefork.py", redis.url, str(tmp_path / "balance.txt"))
    assert not warnings
    assert printed == "4 workers, 25 messages each: 100\n"
    assert redis.keys() == set()


def test_the_server_serves_one_at_a_time_and_ends_well(redis: Redis) -> None:
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "examples/python/server.py"), "0", redis.url],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout
        port = int(server.stdout.readline().rsplit(" ", 1)[1])

        def post(body: str) -> tuple[int, dict[str, Any]]:
            request = urllib.request.Request(f"http://127.0.0.1:{port}", body.encode())
            try:
                with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.load(error)

        hello = json.dumps({"sender": "anna", "message": "Hi!"})
        with LockStore.redis(redis.url, fallback="none") as store, ThreadPoolExecutor(4) as pool:
            # They wait behind this process, all at once.
            with store.lock("anna"):
                posts = [pool.submit(post, hello) for _ in range(4)]
                while len(store.get_lock("anna").result() or ()) < 5:
                    time.sleep(0.01)
            answers = [answer.result() for answer in posts]
        assert [status for status, _ in answers] == [200] * 4
        assert sorted(answer["ticket"] for _, answer in answers) == [1, 2, 3, 4]
        assert post("[]")[0] == 400
        status, answer = post(json.dumps({"sender": "", "message": "Hi!"}))
        assert status == 500 and "invalid conversation id" in answer["error"]
    finally:
        server.terminate()
        _, errors = server.communicate(timeout=LIMIT)
    assert (server.returncode, errors) == (0, "")
    assert redis.keys() == set()
