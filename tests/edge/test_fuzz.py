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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nifti", "dicom", "picture", "npz", "boxes", "itk"])
def test_mutated_files_are_read_or_refused(kind: str) -> None:
    """In a process of its own, whose end by a signal would be seen."""
    if kind in NEEDS and find_spec(NEEDS[kind]) is None:
        pytest.skip(f"needs {NEEDS[kind]}, which is not there")
    command = [sys.executable, "tests/fuzz.py", kind, str(COUNT)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert f"{kind}: {COUNT} files, " in run.stdout
