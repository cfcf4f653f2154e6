"""What the image runs: what it is given is predicted, commands run as they are."""

import os
import subprocess
from pathlib import Path

import pytest

ENTRYPOINT = Path(__file__).parents[1] / "docker" / "entrypoint.sh"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["/inputs", "/outputs"], "samedge predict /inputs /outputs"),
        (["{folder}/scan.nii.gz", "/outputs"], "samedge predict {folder}/scan.nii.gz /outputs"),
        (["{folder}/case.npz", "/outputs"], "samedge predict {folder}/case.npz /outputs"),
        (["--method", "tracked", "in", "out"], "samedge predict --method tracked in out"),
        (["samedge", "bench", "in"], "samedge bench in"),
        (["/bin/echo", "a"], "a"),
        (["/usr/share", "/outputs"], "samedge predict /usr/share /outputs"),
        (["/opt/data", "/outputs"], "samedge predict /opt/data /outputs"),
        (["echo", "a"], "a"),
        (["inputs", "outputs"], "samedge predict inputs outputs"),
    ],
)
def test_files_are_predicted_and_commands_run(tmp_path: Path, given: list[str], expected: str) -> None:
    """A file that is executable too, as on mounts that know no modes."""
    for name, content in (("samedge", '#!/bin/sh\necho samedge "$@"\n'), ("scan.nii.gz", "echo run"), ("case.npz", "")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "inputs").mkdir()
    arguments = [word.format(folder=tmp_path) for word in given]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = subprocess.run(
        ["sh", str(ENTRYPOINT), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == expected.format(folder=tmp_path)
