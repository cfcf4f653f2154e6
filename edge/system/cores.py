"""The cores this process may keep busy: what a default number of threads or processes is taken from."""

import math
import os
from pathlib import Path

from edge.system.cgroup import ROOT, own_groups


def available_cores(root: Path = ROOT) -> int:
    """Cores this process may run on, but no more than its CPU quota, rounded up; at least 1.

    Args:
        root: below which `/proc` and `/sys` lie.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return allowed if quota is None else min(allowed, math.ceil(quota))


def cpu_quota(root: Path = ROOT) -> float | None:
    """The lowest CPU quota of this process's control group and those above it, in cores; None: there is none.

    `docker --cpus 0.5` and Kubernetes' limits are such quotas: all cores can be seen, and a process that keeps more of
    them busy stands still for the rest of each period. More than 0.
    """
    stated = [_quota(folder) for folder in own_groups("cpu", root)]
    return min((quota for quota in stated if quota is not None), default=None)


def _quota(folder: Path) -> float | None:
    """A group's, which is `max` (version 2) or -1 (version 1) where it has none."""
    words = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
    if len(words) != 2 or not all(word.isdigit() and int(word) > 0 for word in words):
        return None
    quota_us, period_us = map(int, words)
    return quota_us / period_us


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
