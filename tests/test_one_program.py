"""Training and exporting from one Python program: torch, ONNX Runtime, OpenVINO and NNCF beside each other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("nncf")

ROOT = Path(__file__).parents[1]
PROGRAM = """
if __name__ == "__main__":  # nothing of it is imported once more by the processes that prepare data
    import signal, sys
    from pathlib import Path
    import numpy as np
    from export.int8.quantize import quantize_openvino
    from export.model_files import model
    from export.model_files.options import ExportOptions
    from train.networks import tiny_vit
    from train.networks.checkpoint import save_atomically
    from train.networks.litemedsam import LiteMedSAM
    from train.run import train

    tiny_vit.DEPTHS, tiny_vit.WIDTHS = (1, 1, 1, 1), (16, 32, 40, 80)  # it is about libraries, not about the network
    out = Path(sys.argv[1])
    base = out / "base.pth"
    save_atomically(LiteMedSAM().state_dict(), base)
    overrides = ["views={ 56 = 1 }", "walks={}", "precision=32-true", "validation_cases=1", "max_steps=1", "workers=1"]

    def trained(name):
        settings = {"base": base, "validation": out / "cases", "cache": out / "cache", "overrides": overrides}
        return train("litemedsam-lora", [out / "cases"], out / name, **settings)

    model.measure_speed = lambda *_: []
    model.export_model(base, out / "model", ExportOptions(adapter=trained("first").result))
    images = [np.random.default_rng(0).random((1, 3, 256, 256), dtype=np.float32)]
    quantize_openvino(out / "model" / "encoder.xml", out / "int8.xml", images)
    assert trained("second").steps == 1
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("done")
"""


@pytest.mark.slow
def test_a_program_trains_exports_quantizes_and_trains_again(tmp_path: Path) -> None:
    """To its end, where Ctrl-C is still Ctrl-C: nothing of one library is in another's way."""
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "2DBox_US_phantom.npz").symlink_to(ROOT / "cases" / "2DBox_US_phantom.npz")
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-X", "faulthandler", str(tmp_path / "program.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0 and run.stdout.splitlines()[-1] == "done", run.stderr[-2000:]
