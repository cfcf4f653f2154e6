"""Progress is seen: lines where nobody watches, a bar where somebody does."""

import io

import pytest

from train.records import display
from train.records.display import lines, on_stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_come_after_half_a_minute_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps at 0, 10, 31, 40 and 41 s: the first only starts the clock, that at 31 s is shown, and the last."""
    seconds = iter([0.0, 10.0, 31.0, 40.0, 41.0])
    monkeypatch.setattr(display.time, "monotonic", lambda: next(seconds))
    said: list[str] = []
    advance = lines(said.append)
    for step in range(1, 6):
        advance("training", step, 5, f"loss 0.{step}")
    assert said == ["training: 3 of 5, loss 0.3", "training: 5 of 5, loss 0.5"]


def test_on_a_terminal_a_bar_shows_how_far_and_how_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count and note of each work; lines of text stand above."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with on_stderr() as (say, advance):
        say("left out: [broken]")
        advance("training", 3, 10, "12.5 samples/s")
        advance("training", 10, 10, "13.0 samples/s")
    shown = terminal.getvalue()
    assert "left out: [broken]" in shown and "10/10" in shown and "13.0 samples/s" in shown


def test_a_process_that_shows_nothing_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others of a run over several processes."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with on_stderr():
        pass
    assert terminal.getvalue() == ""


def test_in_a_pipe_there_are_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No control characters in a log."""
    pipe = io.StringIO()
    monkeypatch.setattr("sys.stderr", pipe)
    with on_stderr() as (say, advance):
        say("left out: [broken]")
        advance("training", 10, 10, "13.0 samples/s")
    assert pipe.getvalue() == "left out: [broken]\ntraining: 10 of 10, 13.0 samples/s\n"
