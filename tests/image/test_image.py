"""The image in real containers, called the way the README and the challenge call it; `make image-test` builds it."""

import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.image

ROOT = Path(__file__).parents[2]
CASES = sorted((ROOT / "cases").glob("*.npz"))
FEW = [case for case in CASES if "PET" in case.name or "US" in case.name]  # one volume, one image
IMAGE = os.environ.get("IMAGE", "samedge")
MAX_IMAGE_BYTES = 700e6
COMMON = ["--precision", "f32"]  # to both engines
HOSTILE = ["--read-only", "--network=none", "--user=12345:12345", "--cap-drop=ALL", "--security-opt=no-new-privileges"]


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    """Skips where no engine answers; a missing image is a failure."""
    if shutil.which("docker") is None or docker("info").returncode != 0:
        pytest.skip("no Docker engine answers; start one or set DOCKER_HOST")
    if docker("image", "inspect", IMAGE).returncode != 0:
        pytest.fail(f"there is no image {IMAGE}; run: make image-test")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this version writes for the cases outside of any container."""
    return predict_outside(tmp_path_factory.mktemp("expected"))


@pytest.fixture(scope="module")
def expected_f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in what both engines have: float32 and whole slices."""
    return predict_outside(tmp_path_factory.mktemp("expected_f32"), *COMMON)


def predict_outside(outputs: Path, *options: str) -> Path:
    samedge = Path(sys.executable).with_name("samedge")
    run = subprocess.run([samedge, "predict", ROOT / "cases", outputs, *options], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return outputs


def copy_cases(cases: list[Path], folder: Path) -> Path:
    folder.mkdir()
    for case in cases:
        shutil.copy(case, folder)
    return folder


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """An empty folder that the container's user may write, whoever it is."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def predict(inputs: Path, outputs: Path, *options: str, arguments: tuple[str, ...] = ()) -> tuple[int, str]:
    """Exit code and stderr of this project's own form of the command."""
    mounts = ["-v", f"{inputs}:/inputs", "-v", f"{outputs}:/outputs"]
    run = docker("run", "--rm", "-m", "8G", *mounts, *options, IMAGE, "/inputs", "/outputs", *arguments)
    return run.returncode, run.stderr


def check_same(outputs: Path, expected: Path, cases: list[Path], tipped: float = 0.001) -> None:
    """Every case has its labels; an engine of another version may tip a share of the foreground's pixels."""
    assert len(cases) > 0
    for case in cases:
        found, wanted = (np.load(folder / case.name)["segs"] for folder in (outputs, expected))
        assert found.shape == wanted.shape and found.dtype == wanted.dtype
        assert np.count_nonzero(found != wanted) <= tipped * np.count_nonzero(wanted), case.name


def test_inputs_and_outputs_as_arguments(tmp_path: Path, outputs: Path, expected: Path) -> None:
    """`docker run IMAGE /inputs /outputs` writes what the program writes outside of it."""
    code, errors = predict(copy_cases(CASES, tmp_path / "inputs"), outputs)
    assert code == 0, errors
    check_same(outputs, expected, CASES)


def test_the_challenges_command(tmp_path: Path, outputs: Path, expected: Path) -> None:
    """The organisers' command, word by word, with its `sh predict.sh`."""
    inputs = copy_cases(CASES, tmp_path / "inputs")
    run = docker(
        *("container", "run", "-m", "8G", "--name", f"samedge-test-{uuid.uuid4().hex[:8]}", "--rm"),
        *("-v", f"{inputs}/:/workspace/inputs/", "-v", f"{outputs}/:/workspace/outputs/"),
        *(IMAGE, "/bin/bash", "-c", "sh predict.sh"),
    )
    assert run.returncode == 0, run.stderr
    check_same(outputs, expected, CASES)


@pytest.mark.parametrize(("backend", "tipped"), [("openvino", 0.001), ("onnxruntime", 0.01)])
def test_a_locked_down_container(
    tmp_path: Path, outputs: Path, expected_f32: Path, backend: str, tipped: float
) -> None:
    """Read-only root, no network, an unknown user, no capabilities: fine with both engines."""
    inputs = copy_cases(FEW, tmp_path / "inputs")
    code, errors = predict(inputs, outputs, *HOSTILE, arguments=("--backend", backend, *COMMON))
    assert code == 0, errors
    assert "telemetry" not in errors and "Traceback" not in errors
    check_same(outputs, expected_f32, FEW, tipped)


def test_one_broken_case_does_not_stop_the_others(tmp_path: Path, outputs: Path, expected: Path) -> None:
    """Exit code 1, the broken case named on stderr and absent, all others written."""
    inputs = copy_cases(FEW, tmp_path / "inputs")
    (inputs / "2DBox_US_broken.npz").write_bytes(b"PK\x03\x04 cut short")
    code, errors = predict(inputs, outputs)
    assert code == 1
    assert "2DBox_US_broken" in errors and "Traceback" not in errors
    assert not (outputs / "2DBox_US_broken.npz").exists()
    check_same(outputs, expected, FEW)


def test_a_mistyped_folder_is_named(outputs: Path) -> None:
    """What is neither a command nor there reaches `samedge predict`, which says so."""
    run = docker("run", "--rm", "-v", f"{outputs}:/outputs", IMAGE, "/inputz", "/outputs")
    assert run.returncode in (1, 2)
    assert "/inputz" in run.stderr and "Traceback" not in run.stderr


def test_the_help_needs_no_torch() -> None:
    """A real command runs as it is, and the commands of the other packages are listed without loading them."""
    run = docker("run", "--rm", IMAGE, "samedge", "--help")
    assert run.returncode == 0, run.stderr
    assert "predict" in run.stdout and "weights" in run.stdout


def test_the_image_holds_the_runtime_only() -> None:
    """No torch, nothing of training or export."""
    names = ["torch", "onnx", "nncf", "scipy", "matplotlib", "pandas", "monai", "peft"]
    code = f"from importlib.util import find_spec; print(*[name for name in {names} if find_spec(name)])"
    run = docker("run", "--rm", IMAGE, "python", "-c", code)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def test_the_image_is_small_and_not_root() -> None:
    """Below 700 MB, and an unprivileged user by default."""
    inspected = docker("image", "inspect", "--format", "{{.Size}} {{.Config.User}}", IMAGE).stdout
    size, user = inspected.strip("\n").split(" ")
    assert int(size) < MAX_IMAGE_BYTES
    assert user == "1000:1000"
