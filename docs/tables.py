"""The tables of README and docs, made from what the commands wrote: `python -m docs.tables` fills them in.

A block begins with `<!-- table: NAME -->` and ends with `<!-- end -->`. Numbers come from `docs/results/*.json`,
options from the command line itself. A block whose file is not there yet is empty.
"""

import html
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from docs.result_tables import (
    BOUNDS_3D,
    TITLES,
    Reports,
    claims_table,
    cluster,
    growth,
    many_cases,
    markdown,
    measured,
    peaks,
    stages,
    started,
    summary,
    times,
    trained_table,
    training_size,
    validation,
    volumes,
)
from measure.callers import callers_table
from measure.kept_views import kept_views_table
from measure.loading import loading_table
from measure.quota import quota_table
from measure.serve import serve_table
from measure.stability import stability_table, unsure_table
from measure.startup import startup_table
from measure.views import views_table
from measure.walks import walks_table

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
RESULTS = DOCS / "results"
BLOCK = re.compile(r"(<!-- table: ([\w -]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
WIDTH = 120
AS_IT_IS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
SHIPPED = "Model {model[name]} `{model[sha256]:.12}`; "
TRAINED = "{training[samples]} samples, {training[seeds]} seeds; "


class ResultError(Exception):
    """A JSON file does not say what its numbers were measured with; the message says how to write it again."""


@dataclass(frozen=True)
class Table:
    """One kind of block."""

    needs: str  # JSON file without which it is empty
    write: Callable[[Reports], list[str]]  # all reports that are there -> lines of Markdown


def read_reports(folder: Path = RESULTS) -> Reports:
    """The reports of a folder by file name without `.json`.

    Raises:
        ResultError: one of them does not name CPU, versions and, where a model ran, the model's hash; holds cases that
            failed; or has scores of other cases than the rest.
    """
    reports = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    for name, report in reports.items():
        if "machine" not in report:
            raise ResultError(f"{name}.json names no machine; write it with --json of samedge bench or evaluate")
        if name in ("val", "public") and not (report.get("prediction") or {}).get("engine"):
            raise ResultError(f"{name}.json names no model; samedge predict --report FILE, evaluate --report FILE")
        if failed := [case["name"] for case in report.get("cases", ()) if case["error"]]:
            raise ResultError(f"{name}.json holds cases that failed, such as {failed[0]}; mend and measure them again")
    scored = {name: {case["name"] for case in reports[name]["cases"]} for name in TITLES if name in reports}
    if len(set(map(frozenset, scored.values()))) > 1:
        raise ResultError(f"{', '.join(scored)}: scores of different cases; evaluate the same folder for each")
    _check_volumes(reports)
    return reports


def _check_volumes(reports: Reports) -> None:
    """Every volume that was benchmarked is in each file it is compared with."""
    wanted = {case["name"] for case in reports["volumes"]["cases"]} if "volumes" in reports else set()
    for name in BOUNDS_3D:
        if name in reports and (absent := wanted - {case["name"] for case in reports[name]["cases"]}):
            raise ResultError(f"{name}.json lacks {min(absent)} of volumes.json; measure the same folder for both")


def pages() -> list[Path]:
    """Every file that may hold blocks."""
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *(ROOT / "edge").glob("*/README.md")]


def fill(text: str, reports: Reports, results_at: str) -> tuple[str, list[str]]:
    """A page with its blocks filled, and the names of those that have no numbers yet.

    Args:
        results_at: the folder of the JSON files as seen from the page.

    Raises:
        KeyError: a block of a name that is not known.
    """
    absent = []

    def filled(match: re.Match[str]) -> str:
        begin, name, _, end = match.groups()
        if name.startswith("options "):
            lines = option_table(name.removeprefix("options ").split())
        elif TABLES[name].needs in reports:
            lines = TABLES[name].write(reports)
        else:
            absent.append(f"{name} ({TABLES[name].needs}.json)")
            return begin + end
        told = "\n".join(lines).replace("RESULTS/", results_at)
        wrapped = [
            line if line.startswith("|") else textwrap.fill(line, WIDTH, **AS_IT_IS) for line in told.split("\n")
        ]
        return "\n".join([begin, *wrapped, "", end])

    return BLOCK.sub(filled, text), absent


TABLES = {
    "callers": Table("callers", partial(measured, name="callers", table=callers_table)),
    "runtime claims": Table(
        "runtime-claims", partial(measured, name="runtime-claims", table=claims_table, told=SHIPPED)
    ),
    "training claims": Table(
        "training-claims", partial(measured, name="training-claims", table=claims_table, told=TRAINED)
    ),
    "trained parameters": Table(
        "training-claims", partial(measured, name="training-claims", table=trained_table, told=TRAINED)
    ),
    "serve": Table("serve", partial(measured, name="serve", table=serve_table, told="Medians of {rounds}; ")),
    "kept views": Table("kept-views", partial(measured, name="kept-views", table=kept_views_table, told="Means; ")),
    "stability": Table("stability", partial(measured, name="stability", table=stability_table)),
    "unsure": Table("stability", partial(measured, name="stability", table=unsure_table)),
    "training size": Table("training-size", training_size),
    "loading": Table("loading", partial(measured, name="loading", table=loading_table)),
    "startup": Table("startup", partial(measured, name="startup", table=startup_table, told=started)),
    "views": Table("views", partial(measured, name="views", table=views_table, told=peaks)),
    "quota": Table("quota", partial(measured, name="quota", table=quota_table)),
    "growth": Table("growth", growth),
    "many cases": Table("growth", many_cases),
    "cluster": Table("cluster", cluster),
    "summary": Table("bench", summary),
    "bench": Table("bench", partial(times, name="bench")),
    "process": Table("process", partial(times, name="process")),
    "stages": Table("bench", stages),
    "validation": Table("val", validation),
    "volumes": Table("volumes", volumes),
    "walks": Table("walks", partial(measured, name="walks", table=walks_table, told="Means; ")),
}


def option_table(words: Sequence[str]) -> list[str]:
    """The arguments and options of `samedge WORDS`, as the command line has them."""
    from typer.main import get_command

    from edge.cli import app

    command: Any = get_command(app)
    for word in words:
        command = command.get_command(None, word)
    rows = [["option", "default", "what it does"]]
    for one in command.params:
        title = one.metavar if one.metavar and "=" in one.metavar else one.name.upper()
        given = ", ".join(f"`{option}`" for option in one.opts) if one.opts[0].startswith("-") else f"`{title}`"
        among = getattr(one.type, "choices", ())
        choices = " ".join(f"`{choice}`" for choice in among) if among else ""
        default = (
            "" if one.default in (None, "") or isinstance(one.default, bool) or one.required else f"`{one.default}`"
        )
        rows.append([given, default, "<br>".join(filter(None, [choices, html.escape(one.help or "", quote=False)]))])
    return markdown(rows)


def seen_from(page: Path) -> str:
    """The folder of the JSON files as a page links to it, with the slash."""
    return f"{os.path.relpath(RESULTS, page.parent)}/"


def main() -> None:
    """Fill every page."""
    try:
        reports = read_reports()
    except ResultError as error:
        sys.exit(f"error: {error}")
    for page in pages():
        text = page.read_text(encoding="utf-8")
        filled, absent = fill(text, reports, seen_from(page))
        if filled != text:
            page.write_text(filled, encoding="utf-8")
        for name in absent:
            print(f"{page.relative_to(ROOT)}: no numbers yet for {name}")


if __name__ == "__main__":
    main()
