"""What a run leaves to read: one line per case, tables, JSON, with what the numbers were measured on."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.data.files import read_json, write_whole
from edge.data.table import printable
from edge.errors import RunError
from edge.predict import Prediction
from edge.system.machine import describe_machine, peak_memory_mib

if TYPE_CHECKING:
    pass


def run_report(predictions: list[Prediction], skipped: list[str], ran: dict[str, Any] | None) -> dict[str, Any]:
    """The manifest of `samedge predict`: machine, engine, options, every case.

    Args: ran: what it ran on, see `edge.predict.ran_on`; None: nothing was left to do.
    """
    return {
        "created": now(),
        "machine": describe_machine(),
        **(ran or {"engine": None, "options": None, "load_s": 0.0, "peak_mib": peak_memory_mib()}),
        "cases": [asdict(prediction) for prediction in predictions]
        + [{"name": n, "status": "skipped"} for n in skipped],
    }


def read_run(path: Path) -> dict[str, Any]:
    """The manifest that `samedge predict --report` wrote, without its cases.

    Raises:
        RunError: not such a file, or of a run that loaded no model as all its cases were done.
    """
    try:
        report = read_json(path)
        run = {key: report[key] for key in ("created", "machine", "engine", "options")}
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(f"{path}: not what samedge predict --report writes") from None
    if run["engine"] is None:
        raise RunError(f"{path}: of a run that had nothing left to do, it names no model; predict with --overwrite")
    return run


def prediction_line(prediction: Prediction) -> str:
    """One line of `samedge predict` for a finished case."""
    size = " x ".join(str(length) for length in prediction.shape)
    return f"{prediction.name}: {size}, {count(prediction.boxes, 'box', 'es')}, {prediction.total_s:.2f} s"


WIDEST = 10_000  # characters of a table


def print_rows(rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout, as wide as it is: header first, first column left, the others right aligned."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, title in enumerate(rows[0]):
        table.add_column(title, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    console.width = max(console.width, console.measure(table, options=console.options.update(max_width=WIDEST)).maximum)
    console.print(table)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """JSON to a file, whole or not at all, or to stdout for '-'; NaN becomes null, texts `edge.data.table.printable`.

    Raises:
        RunError: the file cannot be written.
    """
    text = json.dumps(_plain(content), indent=2, allow_nan=False) + "\n"
    if path == Path("-"):
        sys.stdout.write(text)
    else:
        write_whole(path, text.encode())


def count(number: int, word: str, plural: str) -> str:
    """The number with its word, such as `1 box`, `2 boxes`."""
    return f"{number} {word}" + ("" if number == 1 else plural)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return printable(value)
    return None if isinstance(value, float) and value != value else value


def now() -> str:
    """The time in UTC to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
