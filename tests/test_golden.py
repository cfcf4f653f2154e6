"""Boxes of the public program, and our network beside the program restated, with the random weights of `golden/`.

With random weights rounding alone moves logits, so masks are held with the real ones: `test_golden_real.py`. Here
rounding plays no part: whole pixels, and float64.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge.data.case import Case, read_case  # noqa: E402
from edge.engines.model_folder import ModelDescription  # noqa: E402
from edge.methods import Scene  # noqa: E402
from tests.double_precision import double_precision  # noqa: E402
from train.baseline import program as reference  # noqa: E402
from train.networks.checkpoint import load_checkpoint  # noqa: E402
from train.networks.litemedsam import LiteMedSAM  # noqa: E402

IMAGES = ("2DBox_Dermoscopy_0001", "2DBox_Microscopy_0001", "2DBox_US_0001")


@pytest.fixture(scope="module")
def folder() -> Path:
    found = Path(__file__).parents[1].parent / "shared" / "golden"
    if not found.is_dir():
        pytest.skip("needs ../shared/golden, which is not there")
    return found


def read_golden(folder: Path, name: str) -> tuple[Case, np.ndarray]:
    """A case, and the public program's boxes in the frame of 256 px."""
    with np.load(folder / "expected" / f"{name}.npz") as arrays:
        return read_case(folder / "cases" / f"{name}.npz"), arrays["boxes_256"]


@pytest.mark.parametrize("name", IMAGES)
def test_boxes_in_the_frame_are_the_golden_ones(folder: Path, name: str) -> None:
    """Cut to whole pixels, for the first four boxes of each image, as `--method baseline` prompts."""
    case, expected = read_golden(folder, name)
    description = ModelDescription("golden", 256, (256, 64, 64), {}, {})
    scene = Scene.of(replace(case, boxes=case.boxes[:4]), description, "baseline")
    (prompts,) = scene.source(0).rounds()
    (batch,) = scene.planner(description, block=4).batches(prompts)
    assert np.array_equal(batch.boxes(), expected)


def test_our_network_is_the_program_restated_in_float64(folder: Path, tmp_path: Path) -> None:
    """One function, two orders of operations: rounding of 1e-16, amplified, stays far under 1e-9.

    The encoder at 32 px, where the windows of every stage are padded as they are at 256.
    """
    checkpoint = tmp_path / "golden.pth"
    subprocess.run([sys.executable, str(folder / "make_state_dict.py"), str(checkpoint)], check=True)
    network = LiteMedSAM()
    load_checkpoint(network, checkpoint)
    network.eval()
    random = torch.Generator().manual_seed(1)
    images = torch.rand(1, 3, 32, 32, dtype=torch.float64, generator=random)
    embedding = torch.randn(1, 256, 64, 64, dtype=torch.float64, generator=random) / 10
    boxes = read_golden(folder, "2DBox_Microscopy_0001")[1][:2]
    with double_precision(network) as network, torch.no_grad():
        encoded, own_encoded = reference.encode(network, images), network.image_encoder(images)
        logits = torch.cat([reference.decode(network, embedding, box)[0] for box in boxes])
        own_logits, _ = network.decode(embedding, torch.from_numpy(boxes).double(), torch.zeros(2, dtype=torch.long))
    for own, theirs in ((own_encoded, encoded), (own_logits, logits)):
        assert own.dtype == torch.float64
        assert (own - theirs).abs().max() <= 1e-9 * theirs.abs().max()
