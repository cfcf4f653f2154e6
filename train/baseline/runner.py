"""The public baseline as a program for one case, with its own cost, to compare others with.

`python -m train.baseline.runner CASE OUTPUTS`: PyTorch in float32, the encoder again for every box of every
slice, box by box. `samedge bench CASES --process --compare openvino:f32,public-program` measures it (entry point
`samedge.baselines`). It imports less than the public program, which loads matplotlib and others, too.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge.data.npz import read_npz
from edge.errors import SamedgeError
from train.baseline.program import segment_image, segment_volume
from train.networks import weights
from train.networks.checkpoint import load_checkpoint
from train.networks.litemedsam import LiteMedSAM
from train.threads import keep_to_available_cores


def segment_file(case: Path, outputs: Path, checkpoint: Path | None) -> None:
    """Segment a challenge file as the baseline does and save it as the baseline does."""
    torch.manual_seed(0)
    network = LiteMedSAM()
    if checkpoint is not None:
        load_checkpoint(network, weights.resolve(checkpoint))
    network.eval()
    arrays = read_npz(case, ["imgs", "boxes"])
    image, boxes = arrays["imgs"], arrays["boxes"]
    if case.name.startswith("3D"):
        labels = segment_volume(network, image, boxes, encode_again=True).labels
    else:
        labels = segment_image(network, image, boxes).labels
    np.savez_compressed(outputs / case.name, segs=labels)


def command(case: Path, outputs: Path, configuration: Any) -> list[str]:
    """The command line that segments `case` into `outputs` (entry point `samedge.baselines`).

    Args:
        configuration: `edge.bench.run.Configuration`, of which `checkpoint` counts; without one the weights are random,
            which costs the same time and gives meaningless masks.
    """
    checkpoint = [] if configuration.checkpoint is None else ["--checkpoint", str(configuration.checkpoint)]
    return [sys.executable, "-m", "train.baseline.runner", str(case), str(outputs), *checkpoint]


def main() -> None:
    """Segment one case."""
    parser = argparse.ArgumentParser(
        prog="python -m train.baseline.runner", description="The public baseline on one case."
    )
    parser.add_argument("case", type=Path, help="challenge file (.npz)")
    parser.add_argument("outputs", type=Path, help="folder for the result")
    parser.add_argument("--checkpoint", type=Path, help="in the public layout; random weights if not given")
    arguments = parser.parse_args()
    keep_to_available_cores()
    try:
        segment_file(arguments.case, arguments.outputs, arguments.checkpoint)
    except SamedgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
