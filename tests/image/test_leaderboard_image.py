"""The leaderboard over four real submissions: ranks, a kill in the middle, nothing run twice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.challenge.leaderboard.run import container_label
from edge.challenge.submission.container import LABEL
from edge.challenge.submission.pack import pack
from edge.data.case import write_case
from edge.data.phantom import make_phantom

pytestmark = pytest.mark.image

PREDICT = "exec samedge predict /workspace/inputs /workspace/outputs"
TEAMS = {
    "lb-crashing": "case $(ls inputs) in 3D*) exit 1;; esac; exec samedge predict /workspace/inputs /workspace/outputs",
    "lb-exact": f"{PREDICT} --precision f32",
    "lb-quick": f"{PREDICT} --precision auto",
    "lb-slow": f"sleep 10; {PREDICT} --precision f32",
}
CASES = (("2DBox_US_a", (64, 64)), ("2DBox_Fundus_b", (64, 64)), ("3DBox_CT_c", (3, 64, 64)))

Make = Callable[..., str]


@pytest.fixture(scope="module")
def teams(engine: Any, make_image: Make, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Four submission files; their images are not in the engine any more."""
    folder = tmp_path_factory.mktemp("teams")
    for team, script in TEAMS.items():
        made = make_image(f"{team}-made", script)
        pack(engine, made, team, folder, level=0)
        engine.images.remove(f"{team}:latest")
    yield folder
    for file in folder.glob("*.tar.gz"):
        file.unlink()  # over half a GB each


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for name, shape in CASES:
        write_case(folder / f"{name}.npz", make_phantom(name, shape, 1, 0))
    return folder


def start(teams: Path, cases: Path, out: Path) -> subprocess.Popen[str]:
    command = [Path(sys.executable).with_name("samedge"), "leaderboard", teams, "--cases", cases, "--truth", cases]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen([*map(str, command), "--out", str(out), "--time-limit", "60"], **options)


def wait_until_running(engine: Any, out: Path, team: str, process: subprocess.Popen[str]) -> None:
    """Until a container of the team runs."""
    label = f"{LABEL}={container_label(out / 'teams' / team)}"
    end = time.monotonic() + 120
    while not engine.containers.list(filters={"label": label}):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"no container of {team}"
        time.sleep(0.05)


def runs(out: Path) -> dict[str, int]:
    """When each finished run was written."""
    return {
        f"{path.parent.parent.name} {path.stem}": path.stat().st_mtime_ns for path in out.glob("teams/*/runs/*.json")
    }


def mean_rank(board: dict[str, Any], team: str) -> float:
    """The mean rank from the board's table of cases, counted out: who is better, and who is as good."""
    ranks = []
    for case in board["cases"]:
        (own,) = (row for row in case["teams"] if row["team"] == team)
        for metric, sign in (("dsc", -1), ("nsd_official", -1), ("wall_s", 1)):
            keys = [(not row["usable"], round(sign * row[metric], 4) * row["usable"]) for row in case["teams"]]
            key = (not own["usable"], round(sign * own[metric], 4) * own["usable"])
            ranks.append(1 + sum(other < key for other in keys) + (keys.count(key) - 1) / 2)
    return sum(ranks) / len(ranks)


def test_four_teams_a_kill_and_the_same_again(engine: Any, teams: Path, cases: Path, tmp_path: Path) -> None:
    """Killed with -9 while the slow team's container runs; started again it goes on, and the ranks are as they must be.

    `lb-exact` and `lb-slow` compute the same masks, so they share every rank in DSC and NSD. On two images the slow
    team is 4th in time; on the volume 3rd, behind which is only `lb-crashing`, which is last in everything there.
    """
    first = start(teams, cases, tmp_path)
    wait_until_running(engine, tmp_path, "lb-slow", first)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    done = runs(tmp_path)
    assert len(done) == 9 and not (tmp_path / "leaderboard.json").exists()

    second = start(teams, cases, tmp_path)
    _, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors
    assert len(errors.splitlines()) == 3  # a line for each new run
    after = runs(tmp_path)
    assert {name: after[name] for name in done} == done and len(after) == 12
    label = f"{LABEL}={container_label(tmp_path / 'teams' / 'lb-slow')}"
    assert engine.containers.list(all=True, filters={"label": label}) == []
    assert not [tag for image in engine.images.list() for tag in image.tags if tag in {f"{t}:latest" for t in TEAMS}]

    board = json.loads((tmp_path / "leaderboard.json").read_text())
    by_name = {team["team"]: team for team in board["teams"]}
    assert [by_name[team]["failed"] for team in sorted(TEAMS)] == [1, 0, 0, 0]
    assert by_name["lb-slow"]["metric_ranks"]["time_s"] == pytest.approx((4 + 4 + 3) / 3)
    for metric in ("dsc", "nsd_official"):
        assert by_name["lb-slow"]["metric_ranks"][metric] == by_name["lb-exact"]["metric_ranks"][metric]
    assert by_name["lb-exact"]["rank"] < by_name["lb-slow"]["rank"]
    (volume,) = (case for case in board["cases"] if case["case"] == "3DBox_CT_c")
    (crashed,) = (row for row in volume["teams"] if row["team"] == "lb-crashing")
    assert crashed["exit_code"] == 1 and crashed["dsc"] == 0 and not crashed["usable"]
    assert all(row["dsc"] > 0.5 for row in volume["teams"] if row["usable"])
    means = {team: mean_rank(board, team) for team in TEAMS}
    assert {team["team"]: team["mean_rank"] for team in board["teams"]} == pytest.approx(means)
    assert [team["team"] for team in board["teams"]] == sorted(TEAMS, key=lambda team: (round(means[team], 9), team))

    third = start(teams, cases, tmp_path)
    _, errors = third.communicate(timeout=120)
    again = json.loads((tmp_path / "leaderboard.json").read_text())
    assert (third.returncode, errors) == (0, "") and runs(tmp_path) == after
    assert {**again, "created": ""} == {**board, "created": ""}

    (tmp_path / "teams" / "lb-exact" / "segs" / "2DBox_US_a.npz").unlink()  # as somebody who clears up
    elsewhere = tmp_path / "teams" / "lb-quick" / "runs" / "2DBox_US_a.json"  # as a board that was begun elsewhere
    record = json.loads(elsewhere.read_text())
    record["key"]["machine"]["cpu"] = "another"
    elsewhere.write_text(json.dumps(record))
    fourth = start(teams, cases, tmp_path)
    _, errors = fourth.communicate(timeout=300)
    assert fourth.returncode == 0
    assert [line.split(":")[0] for line in errors.splitlines()] == ["lb-exact 2DBox_US_a", "lb-quick 2DBox_US_a"]
    mended = json.loads((tmp_path / "leaderboard.json").read_text())
    dsc = {team["team"]: team["mean"]["dsc"] for team in board["teams"]}
    assert {team["team"]: team["mean"]["dsc"] for team in mended["teams"]} == dsc
