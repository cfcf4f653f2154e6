"""The table at the end of an export: a row per engine, what was not measured left empty."""

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from edge.engines.model_folder import ModelDescription
from edge.views.ladder import ViewLadder
from export.checks import parity
from export.checks.parity import Parity, with_dsc
from export.cli import _print_engines
from export.int8 import drop
from train.networks.litemedsam import LiteMedSAM

ROWS = [
    Parity("openvino f32", 0.002, 4.0, 0.01, 20.0, equal_pixels=0.99999, size_mib=18.5),
    Parity("openvino int8", 0.4, 4.0, 0.02, 20.0, equal_pixels=0.99, size_mib=13.25),
]


def test_each_engine_has_a_row_with_its_parity_size_and_speed(capsys: pytest.CaptureFixture[str]) -> None:
    """0.4 of 4 is 1.0e-01; torch, what all are compared with, has its speed only; a column for each size of view."""
    times = {"torch f32": (1200.0, 90.0, 9.5), "openvino f32": (400.0, 20.0, 2.5), "openvino int8": (100.0, 12.5, 1.0)}
    engines = [
        {"engine": name, "ms_per_slice": a, "ms_per_box": {"1": b}, "ms_per_view": {"56": c, "112": 4 * c}}
        for name, (a, b, c) in times.items()
    ]
    speed = {"cpu": "some CPU", "flags": ["avx2"], "engines": engines}
    views = asdict(ViewLadder((56, 112), 0.72, 0.85))
    _print_engines(ModelDescription("m", 256, (256, 64, 64), {}, {}, speed=speed, views=views), ROWS)
    text = capsys.readouterr().out
    lines = [line.split() for line in text.splitlines()]
    numbers = ["4.0e-01", "1.0e-01", "2.0e-02", "1.0e-03", "99.0000%", "13.2", "100.0", "12.50", "1.00", "4.00"]
    assert ["openvino", "int8", *numbers] in lines
    assert ["torch", "f32", "1200.0", "90.00", "9.50", "38.00"] in lines
    assert "view of 56 px and box" in text and "view of 112 px and box" in text


def test_what_an_engine_loses_is_counted_from_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.80 in torch, 0.80 and 0.79 in the engines: 0 and 1 points; modalities count alike, whatever their cases."""
    scores = {"CT": [[0.9, 0.9, 0.88], [0.7, 0.7, 0.7]], "US": [[0.8, 0.8, 0.79]]}
    monkeypatch.setattr(drop, "_scores", lambda _engines, _sources: scores)
    assert np.allclose(drop.mean_dsc([], [Path("any")]), [0.80, 0.80, 0.79])
    given: list[ViewLadder | None] = []
    monkeypatch.setattr(parity, "TorchEngine", lambda _network, ladder: given.append(ladder))
    ladder = ViewLadder((56, 112), 0.72, 0.85)
    engines: Any = {row.engine: SimpleNamespace(description=SimpleNamespace(ladder=ladder)) for row in ROWS}
    found = with_dsc(ROWS, LiteMedSAM(), engines, [])
    assert np.allclose([row.dsc_drop for row in found if row.dsc_drop is not None], [0, 1])
    assert given == [ladder]  # the network is given the views that the engines are


@pytest.mark.parametrize("worst", [(0.2, 0.5), (0.2, 0), (0, 0.5)])
@pytest.mark.parametrize("at", [56, 112, 256])
def test_parity_holds_on_frames_and_on_views_of_every_size(
    monkeypatch: pytest.MonkeyPatch, at: int, worst: tuple[float, float]
) -> None:
    """An engine off by so much in embeddings and logits of one size: that is what its row says."""
    own = {56: (0.01, 0.02), 112: (0.01, 0.02), 256: (0.01, 0.02), at: worst}

    class Off:
        def encode(self, images: np.ndarray) -> np.ndarray:
            return np.full((len(images), 1, images.shape[-1]), 1 + own[images.shape[-1]][0], np.float32)

        def decode(self, embeddings: np.ndarray, boxes: np.ndarray) -> np.ndarray:
            return np.full((len(boxes), 1), 0.25 - own[embeddings.shape[-1]][1], np.float32)

    def answers(_network: object, images: Tensor, boxes: Tensor, *, views: bool) -> tuple[np.ndarray, ...]:
        assert views == (images.shape[-1] < 256)
        ones = np.ones((len(images), 1, images.shape[-1]), np.float32)
        return images.numpy(), boxes.numpy(), ones, np.full((len(boxes), 1), 0.25, np.float32)

    monkeypatch.setattr(parity, "_answers", answers)
    monkeypatch.setattr(parity, "_size_mib", lambda _folder, _title: 0.0)
    description = SimpleNamespace(ladder=ViewLadder((56, 112), 0.72, 0.85))
    monkeypatch.setattr(parity, "read_description", lambda _folder: description)
    (row,) = parity.measure_parity(LiteMedSAM(), Path("any"), {"openvino f32": Off()})  # type: ignore[dict-item]
    expected = (max(worst[0], 0.01), max(worst[1], 0.02))
    assert (row.embedding_error, row.logits_error) == pytest.approx(expected)
    assert row.equal_pixels == (0 if worst[1] > 0.25 else 1)
