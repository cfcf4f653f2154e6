"""The table at the end of an export: a row per engine, what was not measured left empty."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch import Tensor

from edge.model_folder import ModelDescription
from export import drop, parity
from export.cli import _print_engines
from export.parity import Parity, with_dsc
from train.networks.litemedsam import LiteMedSAM

ROWS = [
    Parity("openvino f32", 0.002, 4.0, 0.01, 20.0, equal_pixels=0.99999, size_mib=18.5),
    Parity("openvino int8", 0.4, 4.0, 0.02, 20.0, equal_pixels=0.99, size_mib=13.25),
]


def test_each_engine_has_a_row_with_its_parity_size_and_speed(capsys: pytest.CaptureFixture[str]) -> None:
    """0.4 of 4 is 1.0e-01; torch, what all are compared with, has its speed only."""
    times = {"torch f32": (1200.0, 90.0), "openvino f32": (400.0, 20.0), "openvino int8": (100.0, 12.5)}
    engines = [{"engine": name, "ms_per_slice": a, "ms_per_box": {"1": b}} for name, (a, b) in times.items()]
    speed = {"cpu": "some CPU", "flags": ["avx2"], "engines": engines}
    _print_engines(ModelDescription("m", 256, (256, 64, 64), {}, {}, speed=speed), ROWS)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [
        "openvino",
        "int8",
        "4.0e-01",
        "1.0e-01",
        "2.0e-02",
        "1.0e-03",
        "99.0000%",
        "13.2",
        "100.0",
        "12.50",
    ] in lines
    assert ["torch", "f32", "1200.0", "90.00"] in lines


def test_what_an_engine_loses_is_counted_from_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.80 in torch, 0.80 and 0.79 in the engines: 0 and 1 points; modalities count alike, whatever their cases."""
    scores = {"CT": [[0.9, 0.9, 0.88], [0.7, 0.7, 0.7]], "US": [[0.8, 0.8, 0.79]]}
    monkeypatch.setattr(drop, "_scores", lambda _engines, _sources: scores)
    assert np.allclose(drop.mean_dsc([], [Path("any")]), [0.80, 0.80, 0.79])
    monkeypatch.setattr(parity, "TorchEngine", lambda _network, **_options: None)
    found = with_dsc(
        ROWS, LiteMedSAM(), {row.engine: SimpleNamespace(description=SimpleNamespace(crops=False)) for row in ROWS}, []
    )  # type: ignore[arg-type]
    assert np.allclose([row.dsc_drop for row in found if row.dsc_drop is not None], [0, 1])


@pytest.mark.parametrize(("frames", "crops"), [((0, 0.5), (0.2, 0)), ((0.2, 0.5), (0, 0)), ((0, 0), (0.2, 0.5))])
def test_parity_holds_on_frames_and_on_crops(
    monkeypatch: pytest.MonkeyPatch, frames: tuple[float, float], crops: tuple[float, float]
) -> None:
    """An engine that is off by so much in embeddings and logits of either: the larger of each is what its row says."""

    class Off:
        def encode(self, images: np.ndarray) -> np.ndarray:
            errors = frames if images.shape[-1] == 256 else crops
            return np.ones((len(images), 1), np.float32) + np.float32(errors[0])

        def decode(self, embeddings: np.ndarray, boxes: np.ndarray) -> np.ndarray:
            errors = crops if len(embeddings) == len(boxes) else frames
            return np.full((len(boxes), 1), 0.25 - errors[1], np.float32)

    def answers(_network: object, images: Tensor, boxes: Tensor, *, crops: bool) -> tuple[np.ndarray, ...]:
        ones = np.ones((len(images), 1), np.float32)
        return images.numpy(), boxes.numpy(), ones, np.full((len(boxes), 1), 0.25, np.float32)

    monkeypatch.setattr(parity, "_answers", answers)
    monkeypatch.setattr(parity, "_size_mib", lambda _folder, _title: 0.0)
    monkeypatch.setattr(parity, "read_description", lambda _folder: SimpleNamespace(crops=True))
    (row,) = parity.measure_parity(LiteMedSAM(), Path("any"), {"openvino f32": Off()})  # type: ignore[dict-item]
    assert (row.embedding_error, row.logits_error, row.equal_pixels) == pytest.approx((0.2, 0.5, 0))
