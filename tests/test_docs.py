"""README and docs say what the files and the command line say."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from typer.main import get_command

from docs import tables
from edge.cli import app
from edge.engines.model_folder import DEFAULT_MODEL, model_hash, read_description
from edge.scoring.score import score_case
from measure import oracle

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MEASURED = re.compile(r"\b0\.\d{2,4}\b|\b\d+(\.\d+)? (ms|seconds)\b|\b\d+\.\d+ (s|MiB|points|%)")
PAGES = tables.pages()
named = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
written = pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)


@named
def test_tables_say_what_the_files_and_the_command_line_say(page: Path) -> None:
    """`make tables` would change nothing."""
    text = page.read_text(encoding="utf-8")
    assert tables.fill(text, tables.read_reports(), tables.seen_from(page))[0] == text


def test_every_table_has_its_numbers() -> None:
    """Skipped, with their names, while there are tables whose file nobody has measured yet."""
    reports = tables.read_reports()
    filled = {page.name: tables.fill(page.read_text(encoding="utf-8"), reports, "")[1] for page in PAGES}
    if absent := [f"{page}: {name}" for page, names in filled.items() for name in names]:
        pytest.skip(f"no numbers yet for {'; '.join(absent)}")


def test_numbers_are_of_the_model_that_ships() -> None:
    """By its hash, in every file that a model's numbers come from."""
    reports = tables.read_reports()
    engines = [
        *(
            engine
            for name in {"bench", "process", "volumes", "oracle"} & set(reports)
            for engine in reports[name]["engines"]
        ),
        *(reports[name]["prediction"]["engine"] for name in {"val"} & set(reports)),
    ]
    shipped = model_hash(read_description(DEFAULT_MODEL))
    assert {engine["model"]["sha256"] for engine in engines} == {shipped}


def test_a_number_that_differs_is_found() -> None:
    """One digit of one score, in the file or on the page."""
    reports = tables.read_reports()
    text, _ = tables.fill(README.read_text(encoding="utf-8"), reports, "docs/results/")
    other = json.loads(json.dumps(reports))
    timed = other["process" if "process" in other else "bench"]
    timed["cases"] = [{**case, "peak_mib": case["peak_mib"] + 1} for case in timed["cases"]]
    assert tables.fill(text, other, "docs/results/")[0] != text
    assert tables.fill(text.replace("| samedge |", "| samedge | 0.1"), reports, "docs/results/")[0] == text


def test_a_table_without_its_file_is_empty() -> None:
    """So that numbers of a file that has gone do not stay."""
    page = "<!-- table: validation -->\n| CT | 0.9 |\n<!-- end -->\n"
    assert tables.fill(page, {}, "") == ("<!-- table: validation -->\n<!-- end -->\n", ["validation (val.json)"])
    with pytest.raises(KeyError):
        tables.fill(page.replace("validation", "validations"), {}, "")


def test_three_programs_stand_side_by_side() -> None:
    """By modality and in the mean; what one has no number for stays empty."""

    def report(dsc: float) -> dict[str, Any]:
        means = {"modalities": [{"name": "CT", "count": 2, "dsc": dsc, "nsd": None}]}
        engine = {"model": {"name": "toy", "sha256": "ab" * 32}, "backend": "toy 1", "precision": "f32", "threads": 1}
        mean = {"name": "mean over modalities", "count": 1, "dsc": dsc, "nsd": 0.5}
        return {**means, "mean": mean, "cases": [{}, {}], "prediction": {"engine": engine}}

    lines = tables.validation(
        {"val": report(0.9), "public": report(0.8), "ellipse": {**report(0.7), "prediction": None}}
    )
    assert "| CT | 2 | 0.900 | 0.800 | 0.700 |  |  |  |" in lines
    assert "| mean over modalities | 2 | 0.900 | 0.800 | 0.700 | 0.500 | 0.500 | 0.500 |" in lines
    assert "`abababababab`" in lines[-1] and "inscribed ellipse: [ellipse.json]" in lines[-1]


def volumes_report(dsc: dict[str, dict[str, float | None]]) -> dict[str, Any]:
    """Of `samedge bench`: configuration -> case -> DSC."""
    cases = [
        {
            "name": name,
            "modality": name.split("_")[1],
            "configuration": title,
            "dsc": value,
            "total_s": 1.25 if "tracked" in title else 2.0,
            "error": None,
        }
        for title, scores in dsc.items()
        for name, value in scores.items()
    ]
    return {"machine": {"cpu": "toy", "cores": 2, "flags": []}, "engines": [], "cases": cases}


def test_ways_through_volumes_stand_side_by_side() -> None:
    """By data set, modality and all, means over volumes; a file that is not there has no column."""
    names = ["3DBox_CT_Spleen_1", "3DBox_MR_ACDC_1", "3DBox_MR_ACDC_2", "3DBox_MR_LA_1"]
    tracked, walked = [0.5, 0.6, 0.8, 0.4], [0.7, 0.6, None, 0.9]
    report = volumes_report(
        {
            "openvino auto tracked": dict(zip(names, tracked, strict=True)),
            "openvino auto propagated": dict(zip(names, walked, strict=True)),
        }
    )
    others = {"2DBox_CT_Lung_1": 1.0, **dict.fromkeys(names, 0.25)}
    lines = tables.volumes({"volumes": report, "ellipse": volumes_report({"": others})})
    assert lines[:1] + lines[2:9] == [
        "| modality | data set | volumes | DSC, tracked | DSC, propagated | DSC, ellipsoid |",
        "| CT | Spleen | 1 | 0.500 | 0.700 | 0.250 |",
        "| MR | ACDC | 2 | 0.700 | 0.600 | 0.250 |",
        "| MR | LA | 1 | 0.400 | 0.900 | 0.250 |",
        "| CT | all | 1 | 0.500 | 0.700 | 0.250 |",
        "| MR | all | 3 | 0.600 | 0.750 | 0.250 |",
        "| all |  | 4 | 0.575 | 0.733 | 0.250 |",
        "| all | seconds together | 4 | 5 | 8 |  |",
    ]
    assert "[volumes.json]" in lines[-1] and "ellipsoid: [ellipse.json]" in lines[-1] and "oracle" not in lines[-1]
    assert "true box" in tables.volumes({"volumes": report, "oracle": volumes_report({"": others})})[0]


def test_the_oracle_segments_each_slice_in_its_true_box(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model fills boxes: what is found is each object's extent on its slice and 0 to 5 px more on every side."""
    truth = np.zeros((3, 256, 256), np.uint8)
    truth[0, 100:120, 60:90] = 1
    truth[2, 150:160, 60:70] = 1
    truth[2, 0:20, 200:256] = 2  # at the border
    boxes = [[60, 100, 0, 90, 160, 2], [200, 0, 2, 255, 19, 2]]
    volume = np.random.default_rng(0).integers(0, 256, truth.shape, dtype=np.uint8)
    np.savez(tmp_path / "3DBox_MR_A_1.npz", imgs=volume, boxes=boxes, gts=truth)
    np.savez(tmp_path / "2DBox_MR_A_1.npz", imgs=volume[0], boxes=[[60, 100, 89, 119]], gts=truth[0])
    found = []
    segment_slices = oracle.segment_slices
    monkeypatch.setattr(oracle, "segment_slices", lambda *given: found.append(segment_slices(*given)) or found[-1])
    for out in ("one.json", "two.json"):
        monkeypatch.setattr(sys, "argv", ["oracle.py", str(tmp_path), str(tmp_path / out), str(tiny_model)])
        oracle.main()
    one, two = (json.loads((tmp_path / out).read_text()) for out in ("one.json", "two.json"))
    (case,) = one["cases"]
    assert one["cases"] == two["cases"] and (case["name"], case["modality"]) == ("3DBox_MR_A_1", "MR")
    assert case["dsc"] == pytest.approx(score_case("3DBox_MR_A_1", truth, found[0]).dsc) and 0.6 < case["dsc"] < 1
    assert one["engines"][0]["model"]["name"] == "box filler" and "cpu" in one["machine"]
    assert not found[0][1].any() and found[0].shape == truth.shape
    looseness = []
    for z, label in ((0, 1), (2, 1), (2, 2)):
        (top, bottom, left, right), inner = extent(found[0][z] == label), extent(truth[z] == label)
        assert (found[0][z, top : bottom + 1, left : right + 1] == label).all()
        looseness += [inner[0] - top, bottom - inner[1], inner[2] - left, right - inner[3]]
    assert min(looseness) >= 0 and max(looseness) <= 5 and len(set(looseness)) > 2


def extent(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Top, bottom, left, right."""
    rows, columns = np.nonzero(mask)
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


SCORED = {"machine": {}, "prediction": {"engine": {"threads": 1}}, "cases": [{"name": "2DBox_CT_1", "error": None}]}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"bench": {"cases": []}}, "bench.json names no machine"),
        ({"val": {"machine": {}, "prediction": None, "cases": []}}, "val.json names no model"),
        ({"bench": {"machine": {}, "cases": [{"name": "2DBox_CT_1", "error": "torn"}]}}, "failed, such as 2DBox_CT_1"),
        ({"val": SCORED, "ellipse": {"machine": {}, "cases": []}}, "val, ellipse: scores of different cases"),
        ({"volumes": SCORED, "oracle": {"machine": {}, "cases": []}}, "oracle.json lacks 2DBox_CT_1 of volumes.json"),
    ],
)
def test_files_that_cannot_stand_side_by_side_are_refused(
    tmp_path: Path, files: dict[str, dict[str, Any]], message: str
) -> None:
    """No machine, scores of an unknown model, cases that failed, other cases: told, with what to do."""
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(tables.ResultError, match=message):
        tables.read_reports(tmp_path)


def test_the_readme_says_which_python_it_takes() -> None:
    """The least that pyproject.toml allows."""
    least = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert least is not None and f"Python {least[1]} to " in README.read_text(encoding="utf-8")


def test_the_readme_fits_on_one_screen() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert [line for line in lines if len(line) > 120] == []


def prose(text: str) -> str:
    """A page without its tables from files, code and links' addresses."""
    for left_out in (
        tables.BLOCK,
        re.compile(r"```.*?```", re.DOTALL),
        re.compile(r"`[^`\n]*`"),
        re.compile(r"\]\([^)]*\)"),
    ):
        text = left_out.sub("", text)
    return text


@written
def test_no_measured_number_stands_in_prose(page: Path) -> None:
    """Scores, times and memory come from files only."""
    assert [match.group() for match in MEASURED.finditer(prose(page.read_text(encoding="utf-8")))] == []


def test_the_search_for_measured_numbers_finds_them() -> None:
    assert [m.group() for m in MEASURED.finditer("DSC 0.868, in 0.86 s and 19 ms, by 1.5 points")] == [
        "0.868", "0.86", "19 ms", "1.5 points",
    ]  # fmt: skip
    assert MEASURED.search("Apache-2.0, Python 3.10, 56 px, 8 GB, 2.5 px, 95 %") is None


def calls(text: str) -> list[list[str]]:
    """Every call of samedge in a page's code, as words."""
    code = [*re.findall(r"```\n(.*?)```", text, re.DOTALL), *re.findall(r"`(samedge [^`\n]*)`", text)]
    lines = "\n".join(code).replace("\\\n", " ").replace("&&", "\n").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip().startswith("samedge ")]


@named
def test_commands_in_the_text_exist_with_their_options(page: Path) -> None:
    """`samedge` calls in code: a known command, options that it has."""
    for words in calls(page.read_text(encoding="utf-8")):
        command: Any = get_command(app)
        rest = words[1:]
        while rest and hasattr(command, "get_command") and (found := command.get_command(None, rest[0])):
            command, rest = found, rest[1:]
        known = {option for one in command.params for option in [*one.opts, *one.secondary_opts]} | {"--help"}
        assert [word for word in rest if word.startswith("--") and word.split("=")[0] not in known] == [], words
        assert rest == [] or not hasattr(command, "get_command") or rest[0].isupper() or rest[0][0] == "-", words


@written
def test_options_in_the_text_exist(page: Path) -> None:
    """Options named in prose are of some command (or docker's): none of an earlier version stays behind."""
    known = {"--help", "--read-only", "--network none", "--user"}
    waiting: list[Any] = [get_command(app)]
    while waiting:
        command = waiting.pop()
        known |= {option for one in command.params for option in [*one.opts, *one.secondary_opts]}
        if hasattr(command, "list_commands"):
            waiting += [command.get_command(None, name) for name in command.list_commands(None)]
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"`(--[a-z][^`\n]*)`", text)
    assert [given for given in found if given not in known and given.split()[0] not in known] == []


@written
def test_files_in_the_text_exist(page: Path) -> None:
    """`edge/views/view.py`, `train/run`, `docs/results/`: what is moved moves here too."""
    found = re.findall(r"`((?:edge|train|export|tests|cases|docs|docker)/[\w./*-]*)`", page.read_text(encoding="utf-8"))
    assert [path for path in found if not any(ROOT.glob(path)) and not (ROOT / f"{path}.py").is_file()] == []


def test_the_architecture_names_modules_that_exist() -> None:
    """Every name in the table of `edge`."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = re.search(r"## `edge`.*?\n\n(.*?)\n\n", text, re.DOTALL)
    assert table is not None
    folder, wrong = ROOT / "edge", []
    for row in table[1].splitlines():
        first, *others = re.findall(r"`([\w/]+)`", row) or [""]
        within = folder / first if first.endswith("/") else folder
        wrong += [
            name
            for name in others
            if not any((place / f"{name}.py").is_file() or (place / name).is_dir() for place in (within, folder))
        ]
        wrong += [first] if first and not ((folder / first).is_dir() or (folder / f"{first}.py").is_file()) else []
    assert wrong == []


@named
def test_links_lead_somewhere(page: Path) -> None:
    """Files that a page links to or shows are there."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
