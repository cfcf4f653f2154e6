"""The golden label maps beside this file: `python -m tests.golden.make`, with the public checkpoint at hand.

By the public program restated (`train/baseline/program.py`), float32: `public/` with the public checkpoint, `shipped/`
with the base and adapter that the model that ships is made of. `model.txt` names that model; make them again with each.
"""

from pathlib import Path

import numpy as np

from edge.data.case import read_case
from edge.data.files import write_whole
from edge.data.npz import write_npz
from edge.engines.model_folder import DEFAULT_MODEL, model_hash, read_description
from train.baseline import program
from train.networks import weights
from train.networks.adapter import load_merged
from train.networks.checkpoint import load_weights, read_checkpoint
from train.networks.litemedsam import LiteMedSAM

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CASES = ("2DBox_US_phantom", "2DBox_Microscopy_phantom", "3DBox_PET_phantom")
THREADS = 2


def main() -> None:
    base = weights.resolve(Path("litemedsam"))
    (adapter,) = (ROOT / "weights").iterdir()
    states = {"public": read_checkpoint(base), "shipped": load_merged(base, adapter)}
    for folder, state in states.items():
        network = LiteMedSAM()
        load_weights(network, state, folder)
        (HERE / folder).mkdir(exist_ok=True)
        for name in CASES:
            case = read_case(ROOT / "cases" / f"{name}.npz")
            segment = program.segment_volume if case.is_volume else program.segment_image
            with program.torch_threads(THREADS):
                labels = segment(network.eval(), case.image, case.boxes).labels
            write_npz(HERE / folder / f"{name}.npz", {"segs": labels})
            print(folder, name, np.unique(labels, return_counts=True))
    write_whole(HERE / "model.txt", f"{model_hash(read_description(DEFAULT_MODEL))}\n".encode())


if __name__ == "__main__":
    main()
