"""From how a container ended to what there is to fix."""

import pytest

from edge.challenge.submission.check import findings, verdict
from edge.challenge.submission.container import ContainerRun, Limits
from edge.challenge.submission.mounts import Output
from edge.challenge.submission.trial import Trial, problem_of

LIMITS = Limits(memory_mib=8192, time_s=60)
NO_OUTPUT = Output(problem="no output: a.npz is not in outputs")


def run(exit_code: int | None = 0, *, oom: bool = False, stopped: str | None = None, log: str = "") -> ContainerRun:
    return ContainerRun(exit_code, 1.0, oom, stopped, 100.0, "control group", log)


@pytest.mark.parametrize(
    ("ended", "output", "expected"),
    [
        (run(), Output(), None),
        (run(), NO_OUTPUT, "no output"),
        (run(None, stopped="time"), NO_OUTPUT, "no end after 60 s"),
        (run(None, stopped="time"), Output(), "no end after 60 s"),
        (run(137, oom=True), NO_OUTPUT, "out of memory: killed by the kernel at 8192 MiB"),
        (run(0, oom=True), Output(), "out of memory"),
        (run(1, log="Traceback\n  File x\nValueError: no\n"), NO_OUTPUT, "exit code 1: ValueError: no"),
        (run(3), NO_OUTPUT, "exit code 3: it said nothing"),
        (run(1, log="bye"), Output(), "exit code 1 although the output is there: bye"),
        (run(127, log="/bin/bash: no such file"), NO_OUTPUT, "cannot start"),
    ],
)
def test_the_cause_is_told_before_its_consequences(ended: ContainerRun, output: Output, expected: str | None) -> None:
    """A killed program writes nothing either; the kill is what to fix."""
    problem = problem_of(ended, output, LIMITS)
    assert problem is None if expected is None else str(problem).startswith(expected)


def trial(case: str, problem: str | None = None, round_name: str = "cold") -> Trial:
    return Trial(case, "CT", round_name, problem)


def test_all_well_is_ready() -> None:
    """Two cases in three rounds."""
    found = [trial(case, None, name) for name in ("cold", "warm", "hostile") for case in ("2D_a", "3D_b")]
    assert verdict(found) == "ready: 2 cases, nothing to fix"
    assert findings(found) == []


def test_a_problem_of_many_cases_is_one_thing_to_fix() -> None:
    """The case's own name in the text makes no difference; nor does the same problem in a later round."""
    cases = ["2D_a", "3D_b", "3D_c"]
    found = [trial(case, f"no output: {case}.npz", name) for name in ("cold", "warm") for case in cases]
    (finding,) = findings(found)
    assert finding.line(cases) == "every case [cold]: no output: CASE.npz"
    assert verdict(found) == "not ready: one thing to fix"


def test_what_fails_on_volumes_only_is_said_so() -> None:
    """Every 3D case, and no 2D case."""
    cases = ["2D_a", "3D_b", "3D_c"]
    (finding,) = findings([trial("2D_a"), trial("3D_b", "bad"), trial("3D_c", "bad")])
    assert finding.line(cases) == "every 3D case [cold]: bad"
    (finding,) = findings([trial("2D_a", "bad"), trial("3D_b", "bad"), trial("3D_c")])
    assert finding.line(cases) == "2D_a and 1 more [cold]: bad"


def test_hostile_problems_alone_leave_the_official_run_ready() -> None:
    """An image that needs a writable root runs in the challenge, and the verdict says both."""
    found = [trial("2D_a"), trial("2D_a", "exit code 1: read-only", "hostile")]
    assert verdict(found) == "ready for the official run; under hostile conditions one thing to fix"


def test_another_problem_of_a_case_in_a_later_round_is_told() -> None:
    """Of the same case; the same problem again is not. A case's name is taken out of a text where it is a word."""
    found = [trial("a", "exit code 3 of a, although the output is there"), trial("a", "out of memory", "hostile")]
    assert [finding.problem for finding in findings(found)] == [
        "exit code 3 of CASE, although the output is there",
        "out of memory",
    ]
    assert len(findings([trial("a", "bad"), trial("a", "bad", "hostile")])) == 1
