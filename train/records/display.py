"""How far a run is, on stderr: a bar for each kind of work on a terminal, a line now and then otherwise."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_S = 30  # at least, between two lines about the same work

Say = Callable[[str], None]  # takes a line
Advance = Callable[[str, int, int, str], None]  # what is done, units done, units in all, a note such as the loss


def silent(*_: object) -> None:
    """What says nothing."""


def lines(say: Say) -> Advance:
    """Progress as lines: after LINE_S, and where the work is done."""
    said: dict[str, float] = {}

    def advance(what: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if done == total or now - said.setdefault(what, now) > LINE_S:
            said[what] = now
            say(f"{what}: {done} of {total}" + (f", {note}" if note else ""))

    return advance


@contextmanager
def on_stderr() -> Iterator[tuple[Say, Advance]]:
    """Where lines and progress go: below each other, or on a terminal the bars under the lines."""
    if not sys.stderr.isatty():
        yield _print, lines(_print)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    words = (TextColumn("{task.description}"), TextColumn("{task.fields[note]}"))
    columns = (words[0], BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(), words[1])
    bars = Progress(*columns, console=Console(stderr=True, highlight=False, markup=False, emoji=False))
    known: dict[str, TaskID] = {}

    def advance(what: str, done: int, total: int, note: str = "") -> None:
        if what not in known:
            known[what] = bars.add_task(what, total=total, completed=done, note=note)
            bars.start()  # not before: a process that shows nothing leaves the terminal alone
        bars.update(known[what], completed=done, total=total, note=note)

    try:
        yield bars.console.print, advance
    finally:
        bars.stop()


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
