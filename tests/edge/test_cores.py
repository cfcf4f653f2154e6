"""How many cores there are for this process: CPU quotas of control groups, worked out by hand."""

import os
import re
from pathlib import Path

import pytest

from edge.system.cores import available_cores, cpu_quota

ALLOWED = set(range(8))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which this process may run on eight cores, with no control group yet."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: ALLOWED, raising=False)
    return tmp_path


def write(root: Path, file: str, text: str) -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("stated", "quota", "cores"),
    [
        ("50000 100000\n", 0.5, 1),  # docker --cpus 0.5
        ("1000 100000\n", 0.01, 1),
        ("100000 100000\n", 1, 1),
        ("110000 100000\n", 1.1, 2),
        ("25000 10000\n", 2.5, 3),
        ("300000 100000\n", 3, 3),
        ("1600000 100000\n", 16, 8),  # more than it may run on
        ("max 100000\n", None, 8),
        ("", None, 8),
    ],
)
def test_a_quota_of_version_2_is_rounded_up(root: Path, stated: str, quota: float | None, cores: int) -> None:
    """Of a container: its group is the mount, as `/proc` says too. At least one core, at most those allowed."""
    write(root, "proc/self/cgroup", "0::/\n")
    write(root, "sys/fs/cgroup/cpu.max", stated)
    assert (cpu_quota(root), available_cores(root)) == (quota, cores)


@pytest.mark.parametrize(
    ("quota_us", "period_us", "quota"),
    [("50000", "100000", 0.5), ("150000", "100000", 1.5), ("-1", "100000", None), ("0", "100000", None)],
)
@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_a_quota_of_version_1(root: Path, mount: str, quota_us: str, period_us: str, quota: float | None) -> None:
    """-1 is none. The controller is mounted with its sister, with a link of its own name or without."""
    write(root, "proc/self/cgroup", "9:memory:/other\n4:cpu,cpuacct:/docker/abc\n0::/\n")
    write(root, f"sys/fs/cgroup/{mount}/docker/abc/cpu.cfs_quota_us", f"{quota_us}\n")
    write(root, f"sys/fs/cgroup/{mount}/docker/abc/cpu.cfs_period_us", f"{period_us}\n")
    assert cpu_quota(root) == quota


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
def test_within_a_container_of_version_1_the_mount_is_the_group(root: Path, controllers: str) -> None:
    """The path that `/proc` names is the engine's and not mounted."""
    write(root, "proc/self/cgroup", f"4:{controllers}:/docker/abc\n")
    write(root, f"sys/fs/cgroup/{controllers}/cpu.cfs_quota_us", "200000\n")
    write(root, f"sys/fs/cgroup/{controllers}/cpu.cfs_period_us", "100000\n")
    assert available_cores(root) == 2


@pytest.mark.parametrize("place", ["pods", "pods/pod", "pods/pod/container"])
def test_the_smallest_quota_along_the_path_holds(root: Path, place: str) -> None:
    """Nested groups: one of them leaves half a core of a period of its own, the others three cores or no limit."""
    write(root, "proc/self/cgroup", "0::/pods/pod/container\n")
    write(root, "sys/fs/cgroup/pods/cpu.max", "max 100000\n")
    write(root, "sys/fs/cgroup/pods/pod/cpu.max", "300000 100000\n")
    write(root, "sys/fs/cgroup/pods/pod/container/cpu.max", "300000 100000\n")
    write(root, "sys/fs/cgroup/pods/other/cpu.max", "1000 100000\n")  # another pod's
    write(root, f"sys/fs/cgroup/{place}/cpu.max", "10000 20000\n")
    assert (cpu_quota(root), available_cores(root)) == (0.5, 1)


def test_without_a_quota_it_is_the_cores_this_process_may_run_on(root: Path) -> None:
    """No control groups at all, and another controller's limit."""
    assert (cpu_quota(root), available_cores(root)) == (None, 8)
    write(root, "proc/self/cgroup", "4:memory:/docker/abc\n")
    write(root, "sys/fs/cgroup/memory/docker/abc/cpu.cfs_quota_us", "50000\n")
    write(root, "sys/fs/cgroup/memory/docker/abc/cpu.cfs_period_us", "100000\n")
    assert (cpu_quota(root), available_cores(root)) == (None, 8)


def test_fewer_cores_than_the_quota_count(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`taskset` to one core of a container with three."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {5})
    write(root, "sys/fs/cgroup/cpu.max", "300000 100000\n")
    assert available_cores(root) == 1


def test_nothing_else_counts_cores() -> None:
    """Every default number of threads or processes is `available_cores`; reports also say what the machine has."""
    root = Path(__file__).parents[2]
    sources = [path for package in ("edge", "train", "export") for path in (root / package).rglob("*.py")]
    counting = [path for path in sources if re.search("cpu_count|sched_getaffinity", path.read_text())]
    names = sorted(path.relative_to(root).as_posix() for path in counting)
    assert names == ["edge/system/cores.py", "edge/system/machine.py"]
