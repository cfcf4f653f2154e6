"""Mutated files of every kind: no crash, no hang, no gigabyte; `make fuzz` reads ten times as many."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COUNT = 200
NEEDS = {"dicom": "pydicom", "itk": "SimpleITK"}


@pytest.mark.parametrize("kind", ["nifti", "dicom", "picture", "npz", "boxes", "itk"])
def test_mutated_files_are_read_or_refused(kind: str) -> None:
    """In a process of its own, whose end by a signal would be seen."""
    if kind in NEEDS and find_spec(NEEDS[kind]) is None:
        pytest.skip(f"needs {NEEDS[kind]}, which is not there")
    assert f"{kind}: {COUNT} files, " in fuzz(kind, COUNT)


@pytest.mark.parametrize(("kind", "seed"), [("dicom", 477), ("dicom", 492), ("picture", 1360)])
def test_files_that_once_went_wrong_are_refused_in_one_line(kind: str, seed: int) -> None:
    """Values of kinds that DICOM does not know, and what OpenCV says in two lines."""
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    assert f"{kind}: 1 files, 1 refused, 0 wrong" in fuzz(kind, 1, seed)


def fuzz(kind: str, count: int, first_seed: int = 0) -> str:
    """What is said of so many files."""
    command = [sys.executable, "tests/fuzz.py", kind, str(count), str(first_seed)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return run.stdout
