"""The tables of bench-python.

A ratio is taken within each round, and the median of these is shown: what
slows down the machine for a while slows down both.
"""

from __future__ import annotations

import statistics
from typing import Callable, NamedTuple

from python_contenders import OURS, OURS_FOR_RASA, RASA, RASA_IN_MEMORY
from python_rounds import (
    HAND_OFF,
    HAND_OFF_IN_THREADS,
    MANY,
    MANY_THREADS,
    MEMORY,
    ONE,
    ONE_THREAD,
    Results,
)


class Target(NamedTuple):
    what: str
    measure: str
    beside: str
    at_least: float


TARGETS = [
    Target("Redis, cycles from one coroutine", ONE, RASA, 4),
    Target("Redis, cycles from 64 coroutines on 64 conversations", MANY, RASA, 15),
    Target("Redis, hand-off among 20 coroutines of one conversation", HAND_OFF, RASA, 500),
    Target("memory, cycles from one coroutine", MEMORY, RASA_IN_MEMORY, 1),
]

HAND_OFFS = [HAND_OFF, HAND_OFF_IN_THREADS]


def tables(results: Results) -> str:
    parts = [targets(results)]
    for measure in [ONE, MANY, MEMORY, ONE_THREAD, MANY_THREADS, *HAND_OFFS]:
        parts.append(table(results, measure))
    return "\n\n".join(parts)


def table(results: Results, measure: str) -> str:
    is_hand_off = measure in HAND_OFFS
    unit = "hand-off, median, ms" if is_hand_off else "cycles per second"
    beaten = "times as fast" if is_hand_off else "times as many"
    show: Callable[[float], str] = milliseconds if is_hand_off else thousands
    lines = [
        f"**{measure}**",
        "",
        f"| | {unit} | `{OURS}` is {beaten} | from round to round |",
        "|---|---:|---:|---:|",
    ]
    for name, figures in results[measure].items():
        cells = [name, show(statistics.median(figures)), "", ""]
        if name != OURS:
            ratios = compared(results, measure, OURS, name)
            cells[2] = times(statistics.median(ratios))
            cells[3] = f"{number(min(ratios))}–{times(max(ratios))}"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def targets(results: Results) -> str:
    lines = [
        f"| beside Rasa 3.6.20 | target | `{OURS}` | | `{OURS_FOR_RASA}` | |",
        "|---|---:|---:|---|---:|---|",
    ]
    for target in TARGETS:
        cells = [target.what, f"≥ {target.at_least:g} ×"]
        for name in [OURS, OURS_FOR_RASA]:
            ratios = compared(results, target.measure, name, target.beside)
            ratio = statistics.median(ratios)
            cells += [times(ratio), "met" if ratio >= target.at_least else "missed"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def compared(results: Results, measure: str, ours: str, other: str) -> list[float]:
    """How many times better the one is than the other, by round."""
    pairs = zip(results[measure][ours], results[measure][other])
    if measure in HAND_OFFS:
        return [other / ours for ours, other in pairs]
    return [ours / other for ours, other in pairs]


def times(ratio: float) -> str:
    return f"{number(ratio)} ×"


def number(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def thousands(figure: float) -> str:
    return f"{figure:,.0f}"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.3g}" if seconds < 0.1 else f"{seconds * 1000:,.0f}"
