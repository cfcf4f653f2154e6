"""The evaluation on folders of outputs: what is ranked, what is written, what is not believed."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from edge.challenge.leaderboard.evaluation import Plan, evaluate_teams
from edge.challenge.leaderboard.records import Records, locked
from edge.challenge.leaderboard.teams import Times, find_teams, read_times
from edge.challenge.submission.container import Limits
from edge.data.case import Case, write_case
from edge.data.npz import write_npz
from edge.errors import CaseError, RunError

CASES = ("2DBox_US_a", "2DBox_CT_b")


def square(shift: int = 0) -> np.ndarray:
    labels = np.zeros((32, 32), np.uint8)
    labels[8:24, 8 + shift : 24 + shift] = 1
    return labels


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two cases with a square; `good` meets it and is slow, `shifted` is off by 2 px, `partly` has one case only."""
    cases, teams = tmp_path / "cases", tmp_path / "teams"
    cases.mkdir()
    for name in CASES:
        image = np.zeros((32, 32, 3), np.uint8)
        write_case(cases / f"{name}.npz", Case(name, image, np.array([[8.0, 8, 23, 23]]), truth=square()))
    sent = {
        "good": ({name: square() for name in CASES}, 9.0),
        "shifted": ({name: square(2) for name in CASES}, 1.0),
        "partly": ({CASES[0]: square()}, 0.5),
    }
    for team, (outputs, seconds) in sent.items():
        (teams / team).mkdir(parents=True)
        for name, labels in outputs.items():
            write_npz(teams / team / f"{name}.npz", {"segs": labels})
        rows = "".join(f"{name}.npz,{seconds}\n" for name in CASES)
        (teams / team / "times.csv").write_text(f"CaseName,RunningTime\n{rows}")
    return Plan(teams, cases, cases, tmp_path / "out", Limits())


def no_engine() -> None:
    raise AssertionError("no image was sent")


def evaluate(plan: Plan) -> dict:
    return evaluate_teams(plan, no_engine, lambda team, trial, is_new: None)


def test_the_board_is_the_one_worked_out_by_hand(plan: Plan) -> None:
    """Case a: DSC ranks good 1.5, partly 1.5, shifted 3; time partly 1, shifted 2, good 3. Case b: good 1, shifted 2,
    partly (nothing there) 3 in every metric, but time shifted 1, good 2.

    NSD: shifted by 2 px is within the tolerance, so on case a all three share 2; on case b good and shifted share 1.5.
    Sums over 6: good 1.5 + 1 + 2 + 1.5 + 3 + 2 = 11, shifted 3 + 2 + 2 + 1.5 + 2 + 1 = 11.5, partly 1.5 + 3 + 2 + 3 + 1
    + 3 = 13.5.
    """
    board = evaluate(plan)
    assert [team["team"] for team in board["teams"]] == ["good", "shifted", "partly"]
    assert [team["mean_rank"] for team in board["teams"]] == pytest.approx([11 / 6, 11.5 / 6, 13.5 / 6])
    assert [team["failed"] for team in board["teams"]] == [0, 0, 1]
    dsc_shifted = 2 * 16 * 14 / (2 * 16 * 16)
    assert [team["mean"]["dsc"] for team in board["teams"]] == pytest.approx([1, dsc_shifted, 0.5])


def test_everything_is_written(plan: Plan) -> None:
    """CSV in the board's order, JSON without NaN, official times, a page without any outer address."""
    evaluate(plan)
    with (plan.out / "leaderboard.csv").open() as file:
        assert [row["team"] for row in csv.DictReader(file)] == ["good", "shifted", "partly"]
    json.loads((plan.out / "leaderboard.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    times = (plan.out / "teams/good/good_running_time.csv").read_text().splitlines()
    assert times == ["CaseName,RunningTime", "2DBox_CT_b.npz,9.0000", "2DBox_US_a.npz,9.0000"]
    page = (plan.out / "leaderboard.html").read_text()
    assert page.count("data:image/jpeg") == 7  # 2 truths, 5 outputs
    assert not re.search(r"""(src|href)=["'](?!data:)""", page) and "http" not in page.replace("http-equiv", "")


def test_a_second_evaluation_gives_the_same(plan: Plan) -> None:
    """Same board, bootstrap included; nothing is scored again (its record is the one of before)."""
    first = evaluate(plan)
    record = plan.out / "teams/good/scores/2DBox_US_a.json"
    written = record.stat().st_mtime_ns
    second = evaluate(plan)
    assert {**first, "created": ""} == {**second, "created": ""}
    assert record.stat().st_mtime_ns == written


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Dask's own, in this process
def test_a_cluster_scores_the_same_and_leaves_the_times(plan: Plan) -> None:
    """The whole board but for its date; without a cluster nothing is scored."""
    distributed = pytest.importorskip("distributed")
    alone = evaluate(plan)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        spread = evaluate(replace(plan, out=plan.out.with_name("spread"), score_on=cluster.scheduler_address))
    assert {**spread, "created": ""} == {**alone, "created": ""}
    with pytest.raises(RunError, match="no Dask scheduler answers"):  # it is not scored here in silence
        evaluate(replace(plan, out=plan.out.with_name("nobody"), score_on="tcp://127.0.0.1:9"))


def test_a_changed_output_is_scored_anew(plan: Plan) -> None:
    """Another content under the same name."""
    evaluate(plan)
    write_npz(plan.teams_dir / "good/2DBox_US_a.npz", {"segs": square(8)})
    board = evaluate(plan)
    (row,) = (row for row in board["cases"][1]["teams"] if row["team"] == "good")
    assert row["dsc"] == pytest.approx(2 * 16 * 8 / 512)


def test_a_link_in_a_team_folder_is_not_followed(plan: Plan) -> None:
    """An output that points at another team's counts as none."""
    (plan.teams_dir / "partly/2DBox_CT_b.npz").symlink_to(plan.teams_dir / "good/2DBox_CT_b.npz")
    board = evaluate(plan)
    (row,) = (row for row in board["cases"][0]["teams"] if row["team"] == "partly")
    assert not row["usable"] and "symbolic link" in row["problem"]


def test_names_are_shown_as_text(plan: Plan) -> None:
    """A team that calls itself markup is escaped."""
    (plan.teams_dir / "good").rename(plan.teams_dir / "<script>alert(1)<")
    evaluate(plan)
    page = (plan.out / "leaderboard.html").read_text()
    assert "<script>alert(1)<" not in page and "&lt;script&gt;" in page


def test_a_case_without_a_truth_is_named_before_anything_runs(plan: Plan, tmp_path: Path) -> None:
    """Not at the end of a night."""
    (plan.cases_dir / "2DBox_US_a.npz").rename(tmp_path / "elsewhere.npz")
    (tmp_path / "more").mkdir()
    for path in plan.cases_dir.iterdir():
        (tmp_path / "more" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "elsewhere.npz").rename(plan.cases_dir / "2DBox_US_a.npz")
    with pytest.raises(CaseError, match="2DBox_US_a: no truth"):
        evaluate(Plan(plan.teams_dir, plan.cases_dir, tmp_path / "more", plan.out, Limits()))


def test_two_evaluations_into_one_folder_are_refused(plan: Plan) -> None:
    """The second one says so."""
    with locked(plan.out), pytest.raises(RunError, match="another evaluation"):
        evaluate(plan)


def test_two_submissions_of_one_team_are_refused(plan: Plan) -> None:
    """A file and a folder of one name, whatever the case of its letters."""
    (plan.teams_dir / "Good.tar.gz").write_bytes(b"x")
    with pytest.raises(RunError, match="two submissions of good"):
        find_teams(plan.teams_dir)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("beta/outputs/a.npz", "teams/beta: neither an image .* directly in it, as in beta/outputs"),
        ("delta/notes.txt", "teams/delta: neither an image"),
        ("eps.tgz", r"eps.tgz: neither an image \(\*\.tar\.gz\)"),
    ],
)
def test_what_is_no_submission_is_named_before_anything_runs(tmp_path: Path, name: str, says: str) -> None:
    """A ranking without a word of them would be wrong."""
    for file in ("alpha/a.npz", "times.csv", name):
        (tmp_path / "teams" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "teams" / file).write_bytes(b"")
    with pytest.raises(RunError, match=says):
        find_teams(tmp_path / "teams")


def test_what_may_lie_among_submissions_is_none(tmp_path: Path) -> None:
    """The folder of results, what systems leave, tables."""
    for file in ("alpha/a.npz", "board/board.json", "lost+found/x", "__MACOSX/x", "notes.csv.gz", "readme.md"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    assert [team.name for team in find_teams(tmp_path, tmp_path / "board")] == ["alpha"]


def test_times_of_a_table_that_lies(tmp_path: Path) -> None:
    """No number, negative, infinite or missing: no time, and told; a table without the columns is passed over."""
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.csv").write_text("CaseName,RunningTime\na.npz,1.5\nb,-1\nc.npz,inf\nd.npz,\ne.npz,soon\nf,2\n")
    times = read_times(tmp_path)
    assert times.seconds == {"a": 1.5, "f": 2.0}
    file = tmp_path / "b.csv"
    expected = [f"{file} line {n}: RunningTime must be a positive number of seconds, got {text!r}" for n, text in
                ((3, "-1"), (4, "inf"), (5, ""), (6, "soon"))]  # fmt: skip
    assert list(times.problems) == expected


PLAIN = "CaseName,RunningTime\n2DBox_US_a.npz,1.5\n2DBox_CT_b.npz,20\n"
SPREADSHEETS = {
    "bom": b"\xef\xbb\xbf" + PLAIN.encode(),
    "crlf": PLAIN.replace("\n", "\r\n").encode(),
    "semicolons": PLAIN.replace(",", ";").encode(),
    "decimal commas": PLAIN.replace(",", ";").replace("1.5", "1,5").encode(),
    "all at once": b"\xef\xbb\xbf" + PLAIN.replace(",", ";").replace("1.5", "1,5").replace("\n", "\r\n").encode(),
    "tabs, UTF-16": PLAIN.replace(",", "\t").replace("1.5", "1,5").encode("utf-16"),
    "separator named": b"sep=;\r\n" + PLAIN.replace(",", ";").encode(),
    "quotes": b'"CaseName","RunningTime"\n"2DBox_US_a.npz","1.5"\n"2DBox_CT_b.npz","20"\n',
    "empty lines": b"\n" + PLAIN.replace("\n", "\n\n").encode(),
    "folders": PLAIN.replace("2D", "./inputs/2D").encode(),
    "folders of Windows": PLAIN.replace("2D", "C:\\inputs\\2D").encode(),
    "other columns, other letters": b" team ,casename,RUNNINGTIME \nx,2DBox_US_a.NPZ, 1.5\nx, 2DBox_CT_b ,20\n",
}


@pytest.mark.parametrize("spelling", SPREADSHEETS)
def test_a_table_saved_by_a_spreadsheet_is_the_plain_one(tmp_path: Path, spelling: str) -> None:
    """Byte order mark, line ends, separators, decimal commas, paths."""
    (tmp_path / "Times.CSV").write_bytes(SPREADSHEETS[spelling])
    assert read_times(tmp_path) == Times({"2DBox_US_a": 1.5, "2DBox_CT_b": 20.0}, ())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"Case,Seconds\na,1\n", r"times.csv: no table of times: the first line must name .*got 'case,seconds'"),
        (b"", r"times.csv: no table of times: .* got nothing"),
        (PLAIN.replace("1.5", "1,5").encode(), r"times.csv line 2: 3 fields where the first line has 2"),
        (PLAIN.replace(",", ";").replace("1.5", "1.000,5").encode(), r"times.csv line 2: .* got '1.000,5'"),
        (PLAIN.replace("CT_b", "US_a").encode(), r"times.csv line 3: 2DBox_US_a has another time above"),
        (PLAIN.replace("CT_b", "CT_c").encode(), r"good: no time of 2DBox_CT_b in its table"),
    ],
)
def test_a_table_that_cannot_be_used_is_told(
    plan: Plan, samedge: Callable[..., CompletedProcess[str]], content: bytes, says: str
) -> None:
    """File and line on stderr, in JSON and on the page; the others are ranked, and the exit code is 1."""
    (plan.teams_dir / "good/times.csv").write_bytes(content)
    folders = ("--cases", plan.cases_dir, "--truth", plan.truth_dir, "--out", plan.out)
    run = samedge("leaderboard", plan.teams_dir, *folders, "--workers", 1, "--pictures", 0, "-q")
    assert run.returncode == 1
    lines = run.stderr.splitlines()
    assert re.search(f"^error: .*{says}", lines[0])
    problems = json.loads((plan.out / "leaderboard.json").read_text())["problems"]
    assert problems == [line.removeprefix("error: ") for line in lines]
    assert "Tables of times" in (plan.out / "leaderboard.html").read_text()
    assert "shifted" in run.stdout


def test_a_link_is_no_table(tmp_path: Path) -> None:
    """Another team's, or a file of the organiser's."""
    (tmp_path / "team").mkdir()
    (tmp_path / "other.csv").write_text(PLAIN)
    (tmp_path / "team/times.csv").symlink_to(tmp_path / "other.csv")
    times = read_times(tmp_path / "team")
    assert times.seconds == {} and "not a regular file" in times.problems[0]


def test_a_record_counts_for_its_key_only_and_is_whole(tmp_path: Path) -> None:
    """Another key, or a file cut short by a power cut, is as good as no record."""
    records = Records(tmp_path)
    records.put("runs", "a", {"image": "1"}, {"wall_s": 2.0})
    assert records.get("runs", "a", {"image": "1"}) == {"wall_s": 2.0}
    assert records.get("runs", "a", {"image": "2"}) is None
    (tmp_path / "runs/a.json").write_text('{"key": {"image": "1"}, "conte')
    assert records.get("runs", "a", {"image": "1"}) is None


@pytest.mark.parametrize(
    ("truth", "says"),
    [
        (np.zeros((32, 30), np.uint8), r"2DBox_US_a: its truth has shape \(32, 30\), the case \(32, 32\)"),
        (square() * 255, "2DBox_US_a: its truth is drawn with 255, read as 1"),
        (None, "2DBox_US_a: key 'gts' is missing"),
    ],
)
def test_a_truth_that_does_not_fit_is_named_before_anything_runs(plan: Plan, truth: np.ndarray, says: str) -> None:
    """It would change the scores of every team."""
    truths = plan.out.with_name("truths")
    truths.mkdir()
    for name in CASES:
        write_npz(truths / f"{name}.npz", {"gts": square()})
    write_npz(truths / "2DBox_US_a.npz", {"spacing": np.ones(3)} if truth is None else {"gts": truth})
    with pytest.raises(CaseError, match=f"^{says}"):
        evaluate(replace(plan, truth_dir=truths))
    assert not plan.out.exists()
    if truth is not None and truth.max() == 255:  # with its boxes beside it, it is read as everywhere
        write_npz(truths / "2DBox_US_a.npz", {"gts": truth, "boxes": np.array([[8, 8, 23, 23]])})
        assert evaluate(replace(plan, truth_dir=truths))["teams"][0]["mean"]["dsc"] == 1


def test_a_time_over_the_limit_is_no_output(plan: Plan) -> None:
    """By a team's own table, as of an image that would have been stopped."""
    board = evaluate(replace(plan, limits=Limits(time_s=5)))
    failed = {team["team"]: team["failed"] for team in board["teams"]}
    assert failed == {"good": 2, "shifted": 0, "partly": 1}
    (row,) = (row for row in board["cases"][0]["teams"] if row["team"] == "good")
    assert not row["usable"] and "took 9 s by its table, the limit is 5 s" in row["problem"]
