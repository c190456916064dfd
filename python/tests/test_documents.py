"""What the documentation and the examples show works."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from conftest import Redis

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/PYTHON.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
EXAMPLES = sorted((ROOT / "examples/python").glob("*.py"))


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet(redis: Redis, number: int, tmp_path: Path) -> None:
    """As it stands, on a Redis of the test's."""
    text = SNIPPETS[number].replace("redis://localhost:6379/1", redis.url)
    if re.search(r"^(async (with|for)|.*\bawait\b)", text, re.M) and "asyncio.run" not in text:
        # Shown without the function around it.
        text = f"import asyncio\nasync def main():\n{textwrap.indent(text, '    ')}\nasyncio.run(main())\n"
    run([sys.executable, "-W", "error", "-c", text], tmp_path)
    assert redis.keys() == set()


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
@pytest.mark.parametrize("where", ["memory", "redis"])
def test_an_example(redis: Redis, file: Path, where: str, tmp_path: Path) -> None:
    arguments = [redis.url] if where == "redis" else []
    out = run([sys.executable, "-W", "error", str(file), *arguments], tmp_path)
    assert len(out.splitlines()) >= 12
    assert redis.keys() == set()


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)
    assert done.returncode == 0 and not done.stderr, done
    return done.stdout


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) > 8 and len(EXAMPLES) >= 2
