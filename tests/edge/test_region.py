"""Regions of slices: where they lie, worked out by hand, and what comes of encoding them alone."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from conftest import Samedge

from edge.case import make_case
from edge.decode import SliceRanges
from edge.errors import RunError
from edge.model_folder import file_hash, read_description, write_description
from edge.pipeline import Options, part_encoded, segment
from edge.region import Region, encode_regions, region_around, regions_of_slices
from edge.runtime import load_engine

IMAGES = np.random.default_rng(0).random((3, 3, 256, 256), dtype=np.float32)


@pytest.mark.parametrize(
    ("boxes", "region"),
    [
        ([[100, 110, 130, 140]], Region(top=68, left=60, side=112)),  # middle 115, 125, less 56: 59, 69
        ([[100, 110, 130, 140], [60, 150, 80, 170]], Region(top=84, left=40, side=112)),  # 60 to 130, 110 to 170
        ([[0, 0, 30, 40]], Region(0, 0, 112)),  # no further than the frame
        ([[200, 230, 255, 255]], Region(144, 144, 112)),
        ([[50, 50, 142, 60]], Region(0, 40, 112)),  # 92 and twice the margin: just 112
        ([[50, 50, 143, 60]], Region(0, 12, 168)),
        ([[40, 40, 190, 60]], Region(0, 0, 256)),  # 170: the whole frame
        ([[0, 0, 157, 157]], Region(0, 0, 168)),  # beyond the frame no margin is needed
    ],
)
def test_the_smallest_square_around_the_boxes_and_a_margin(boxes: list[list[float]], region: Region) -> None:
    """112 or 168 px with the boxes in its middle, on a cell's corner, within the frame."""
    assert region_around(np.array(boxes, np.float32), 256) == region


def test_each_slice_has_the_region_of_the_boxes_on_it() -> None:
    """Slice 0 the first box, slice 1 both, slice 2 the second, which has moved by 100 px."""
    boxes = np.array([[20, 20, 0, 40, 40, 1], [220, 220, 1, 240, 240, 2]], float)
    flat = boxes[:, [0, 1, 3, 4]].astype(np.float32)
    moved = np.stack([flat, flat, flat - 100])
    regions = regions_of_slices(moved, SliceRanges.from_boxes(boxes), 256)
    assert regions == {0: Region(0, 0, 112), 1: Region(0, 0, 256), 2: Region(72, 72, 112)}


def test_cells_keep_their_place_and_the_others_get_the_mean() -> None:
    """28 x 28 of 64 x 64 cells, from row 17 and column 15 on."""
    embedding = np.arange(2 * 28 * 28, dtype=np.float32).reshape(1, 2, 28, 28)
    whole = Region(top=68, left=60, side=112).embed(embedding, 64)
    assert whole.shape == (1, 2, 64, 64)
    assert np.array_equal(whole[:, :, 17:45, 15:43], embedding)
    whole[:, :, 17:45, 15:43] = -1
    assert np.unique(whole[0, 0]).tolist() == [-1, 783 / 2]
    assert np.unique(whole[0, 1]).tolist() == [-1, 784 + 783 / 2]


def test_only_the_region_is_encoded_once_a_slice() -> None:
    """Slices 0 and 2, the first asked for twice; a region as large as the frame stays as it is."""
    seen = []

    def encode(images: np.ndarray) -> np.ndarray:
        seen.append(images.shape)
        return images.reshape(1, 3, images.shape[2] // 4, 4, -1, 4).mean(axis=(3, 5))

    regions = {0: Region(68, 60, 112), 2: Region(0, 0, 256)}
    found = encode_regions(encode, IMAGES.__getitem__, [0, 2, 0], regions=regions, cells=64, budget_bytes=2**30)
    expected = IMAGES.reshape(3, 3, 64, 4, 64, 4).mean(axis=(3, 5))
    for z, embedding in found:
        region = regions[z]
        rows, columns = (slice(start // 4, (start + region.side) // 4) for start in (region.top, region.left))
        np.testing.assert_allclose(embedding[0, :, rows, columns], expected[z][:, rows, columns], atol=1e-6)
        assert embedding.shape == (1, 3, 64, 64)
    assert seen == [(1, 3, 112, 112), (1, 3, 256, 256)]


@pytest.fixture
def engine(tiny_model: Path, tmp_path: Path) -> Any:
    """The box filler with an encoder that takes any side."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    graph = openvino.Core().read_model(tiny_model / "encoder.xml")
    graph.reshape([-1, 3, -1, -1])
    openvino.save_model(graph, folder / "encoder.xml", compress_to_fp16=False)
    description = read_description(folder)
    hashes = {name: file_hash(folder / name) for name in description.sha256}
    write_description(folder, replace(description, regions=True, sha256=hashes))
    return load_engine(folder, threads=1)


@pytest.mark.parametrize("policy", ["follow", "propagate", "fixed"])
def test_a_volume_goes_through_in_regions(engine: Any, policy: str) -> None:
    """The labels of a model that fills its box do not change; the encoder saw 112 px on each of four slices."""
    image = np.random.default_rng(0).integers(0, 256, (5, 256, 256), dtype=np.uint8)
    case = make_case("3DBox_CT_1", image, np.array([[100, 110, 0, 130, 140, 2], [90, 100, 2, 120, 140, 3]]))
    expected = segment(case, engine, Options(volume=policy, encode="slices")).labels
    sides = []
    encode = engine.encode
    engine.encode = lambda images: sides.append(images.shape) or encode(images)
    asked = "auto" if policy == "follow" else "regions"
    assert np.array_equal(segment(case, engine, Options(volume=policy, encode=asked)).labels, expected)
    assert set(sides) == {(1, 3, 112, 112)} and len(sides) == 4


def test_an_encoder_takes_each_side_it_is_asked_for(engine: Any) -> None:
    """112 px between two whole frames: the same means."""
    whole = engine.encode(IMAGES[:1])
    np.testing.assert_allclose(engine.encode(IMAGES[:1, :, 68:180, 60:172]), whole[:, :, 17:45, 15:43], atol=1e-6)
    assert np.array_equal(engine.encode(IMAGES[:1]), whole)


def test_an_image_is_encoded_whole(engine: Any) -> None:
    """What surrounds its boxes tells what they hold; one slice is soon done."""
    case = make_case("2DBox_CT_1", np.zeros((256, 256, 3), np.uint8), np.array([[100, 110, 130, 140]]))
    engine.takes_regions = False
    assert segment(case, engine, Options(encode="regions")).labels.any()


@pytest.mark.parametrize(
    ("asked", "bounded", "volume", "takes_regions", "crops", "expected"),
    [
        ("auto", True, True, True, False, "regions"),
        ("auto", True, True, False, False, "slices"),
        ("auto", False, True, True, True, "slices"),
        ("auto", True, False, True, False, "slices"),
        ("auto", True, True, True, True, "crops"),
        ("auto", True, False, False, True, "crops"),
        ("slices", True, True, True, True, "slices"),
        ("regions", False, True, True, True, "regions"),
        ("crops", True, False, False, True, "crops"),
    ],
)
def test_the_smallest_part_that_holds_all_that_is_looked_for_is_encoded(
    engine: Any, asked: str, bounded: bool, volume: bool, takes_regions: bool, crops: bool, expected: str
) -> None:
    """Crops for models trained on them, then regions, where boxes bound the labels; what is asked for, as asked."""
    engine.takes_regions, engine.description = takes_regions, replace(engine.description, crops=crops)
    assert part_encoded(Options(encode=asked), engine, bounded=bounded, volume=volume) == expected


def test_crops_are_refused_where_they_cannot_be(engine: Any) -> None:
    """A model that was not trained on them; masks that may lie anywhere."""
    with pytest.raises(RunError, match="box filler was not trained on crops; leave --encode out"):
        part_encoded(Options(encode="crops"), engine, bounded=True, volume=False)
    engine.description = replace(engine.description, crops=True)
    with pytest.raises(RunError, match="--mode fast and, in volumes, --volume follow"):
        part_encoded(Options(encode="crops"), engine, bounded=False, volume=True)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_model_for_whole_slices_is_refused_with_the_cure(tiny_model: Path, backend: str) -> None:
    """Also where the folder has regions but the engine has not."""
    case = make_case("3DBox_CT_1", np.zeros((3, 256, 256), np.uint8), np.array([[100, 110, 0, 130, 140, 2]]))
    with pytest.raises(RunError, match=f"encode regions: box filler in {backend} .* encodes whole slices only"):
        segment(case, load_engine(tiny_model, backend=backend), Options(encode="regions"))


def test_the_command_passes_it_on(samedge: Samedge, tiny_model: Path, tmp_path: Path) -> None:
    """`--encode` reaches the pipeline in predict, and in each process of bench."""
    boxes = [[100, 110, 0, 130, 140, 2]]
    np.savez(tmp_path / "3DBox_CT_1.npz", imgs=np.zeros((3, 256, 256), np.uint8), boxes=boxes)
    ours = ["predict", tmp_path, tmp_path / "out", "--encode", "regions"]
    compared = ["--process", "--compare", "f32:regions"]
    for command in (ours, ["bench", tmp_path, *compared]):
        run = samedge(*command, "--model", tiny_model)
        assert (run.returncode, "encodes whole slices only" in run.stderr) == (1, True)
    assert run.stderr.rstrip().endswith("[openvino f32 regions]")
