"""The public program's masks without a network: of our own cases with the model that ships, by `--method baseline`.

`tests/golden/make.py` writes the answers: the public program restated, in PyTorch, with the weights of that model.
"""

from pathlib import Path

import numpy as np
import pytest

from edge.data.case import read_case
from edge.engines.model_folder import DEFAULT_MODEL, model_hash, read_description
from edge.engines.runtime import BACKENDS, load_engine
from edge.pipeline import Options, segment

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
CASES = sorted(path.stem for path in (GOLDEN / "shipped").glob("*.npz"))
EQUAL_PIXELS = 0.9999  # at most 2 of 103,680 differ: weights are stored in float16


def test_the_answers_are_of_the_model_that_ships() -> None:
    """With a new model: `python -m tests.golden.make`."""
    assert (GOLDEN / "model.txt").read_text().strip() == model_hash(read_description(DEFAULT_MODEL))


@pytest.mark.parametrize(
    ("name", "backend"),
    # how a volume is walked through is the same for both
    [(name, backend) for name in CASES for backend in BACKENDS if backend == "openvino" or name.startswith("2D")],
)
def test_the_model_that_ships_gives_the_public_programs_masks(name: str, backend: str) -> None:
    """An image, one of many boxes, a volume walked through slice by slice; both engines, in f32."""
    engine = load_engine(DEFAULT_MODEL, backend=backend, precision="f32", threads=2)
    labels = segment(read_case(HERE.parent / "cases" / f"{name}.npz"), engine, Options(method="baseline")).labels
    with np.load(GOLDEN / "shipped" / f"{name}.npz") as answer:
        expected = answer["segs"]
    assert np.mean(labels == expected) >= EQUAL_PIXELS
    assert set(np.unique(labels)) == set(np.unique(expected))


def test_the_answers_are_worth_comparing_with() -> None:
    """Each is far from what the public checkpoint answers, and from the boxes filled: a wrong model or method shows."""
    assert len(CASES) == 3
    for name in CASES:
        with np.load(GOLDEN / "shipped" / f"{name}.npz") as ours, np.load(GOLDEN / "public" / f"{name}.npz") as theirs:
            assert np.mean(ours["segs"] != theirs["segs"]) > 2 * (1 - EQUAL_PIXELS)
