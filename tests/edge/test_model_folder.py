"""A model folder that does not fit is refused in one line that says which file and why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.data.files import file_hash
from edge.engines.model_folder import (
    DESCRIPTION,
    SLICES,
    WALK,
    ModelDescription,
    graph_files,
    model_hash,
    read_description,
    write_description,
)
from edge.errors import ModelError
from edge.views.ladder import ViewLadder

VIEWS = {"sizes": [56, 112, 224], "box_share": 0.75, "least_scale": 1}


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / DESCRIPTION
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refusal(folder: Path, backend: str = "openvino") -> str:
    """The one line with which the folder is refused."""
    with pytest.raises(ModelError) as caught:
        graph_files(folder, read_description(folder), backend)
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message
    return message


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    """Every field comes back, but for tuples that JSON knows as lists."""
    description = ModelDescription(
        "one", 256, (1, 64, 64), {"openvino": {}}, {"a": "b"}, views=VIEWS, licence="MIT", weights="f16"
    )
    write_description(tmp_path, description)
    found = read_description(tmp_path)
    assert {**found.__dict__, "embedding_shape": tuple(found.embedding_shape)} == description.__dict__


def test_both_backends_graphs_are_found(folder: Path) -> None:
    """Stage to file; weights of OpenVINO lie beside and are checked along."""
    description = read_description(folder)
    assert graph_files(folder, description, "openvino")["decoder"] == folder / "decoder.xml"
    assert graph_files(folder, description, "onnxruntime")["encoder"] == folder / "encoder.onnx"


def test_hash_of_a_file_is_sha256(tmp_path: Path) -> None:
    """The standard's own example, and the empty file's."""
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_hash(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "empty").write_bytes(b"")
    assert file_hash(tmp_path / "empty").startswith("e3b0c44298fc1c14")


@pytest.mark.parametrize(
    ("file", "backend"),
    [("encoder.xml", "openvino"), ("decoder.bin", "openvino"), ("decoder.onnx", "onnxruntime")],
)
def test_one_changed_byte_is_refused_and_named(folder: Path, file: str, backend: str) -> None:
    """Graphs and weights alike; the other backend's files are not its business."""
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    message = refusal(folder, backend)
    assert file in message and "was changed" in message
    other = "onnxruntime" if backend == "openvino" else "openvino"
    assert graph_files(folder, read_description(folder), other)


@pytest.mark.parametrize("file", ["encoder.xml", "encoder.bin"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    """A half-copied folder."""
    (folder / file).unlink()
    assert f"{file}: missing from the model folder" in refusal(folder)


def test_a_file_without_a_hash_is_refused(folder: Path) -> None:
    """What is not vouched for is not loaded."""
    edit(folder, lambda content: content["sha256"].pop("encoder.xml"))
    assert "encoder.xml: model.json states no SHA-256" in refusal(folder)


def test_weights_are_checked_though_nothing_names_them(folder: Path) -> None:
    """OpenVINO reads those beside a graph."""
    edit(folder, lambda content: content["graphs"]["openvino"].update(encoder=["encoder.xml"]))
    assert graph_files(folder, read_description(folder), "openvino")
    with (folder / "encoder.bin").open("ab") as file:
        file.write(b"0")
    assert "encoder.bin: was changed" in refusal(folder)


def test_a_name_that_no_file_can_have_is_a_missing_file(folder: Path) -> None:
    """Longer than a file system takes."""
    edit(folder, lambda content: content["graphs"]["openvino"].update(encoder=["n" * 5000]))
    assert "missing from the model folder" in refusal(folder)


@pytest.mark.parametrize("place", ["../encoder.xml", "sub/encoder.xml", "/tmp/encoder.xml"])
def test_a_file_elsewhere_is_refused(folder: Path, place: str) -> None:
    """A description reaches no further than its folder, even with the right hash."""
    outside = folder / place
    if not place.startswith("/"):
        outside.parent.mkdir(exist_ok=True)
        shutil.copy(folder / "encoder.xml", outside)

    def point_outside(content: dict[str, Any]) -> None:
        content["graphs"]["openvino"]["encoder"] = [place]
        content["sha256"][place] = content["sha256"]["encoder.xml"]

    edit(folder, point_outside)
    with pytest.raises(ModelError, match="outside of its model folder"):
        graph_files(folder, read_description(folder), "openvino")


def test_a_backend_the_model_does_not_have_is_told_with_those_it_has(folder: Path) -> None:
    """No graphs at all, or one of the two stages only."""
    edit(folder, lambda content: content["graphs"].pop("openvino"))
    assert "no openvino graphs in this model, it has onnxruntime" in refusal(folder)
    edit(folder, lambda content: content["graphs"]["onnxruntime"].pop("decoder"))
    assert "no onnxruntime graphs" in refusal(folder, "onnxruntime")


@pytest.mark.parametrize("version", [0, 1, 3, None, "2"])
def test_another_format_version_is_refused(folder: Path, version: object) -> None:
    """Neither older nor newer is guessed at."""
    edit(folder, lambda content: content.update(format=version))
    message = refusal(folder)
    assert f"format {version}, this version reads format 2; export the model again" in message


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "\x00\xff", '"text"', "null", "[" * 10**5], ids=range(7))
def test_a_damaged_description_is_one_line(folder: Path, content: str) -> None:
    """Empty, cut, nested without end, or JSON of another kind."""
    (folder / DESCRIPTION).write_bytes(content.encode("latin1"))
    assert DESCRIPTION in refusal(folder)


@pytest.mark.parametrize("place", ["nowhere", "file", "empty"])
def test_no_model_folder_is_told_how_to_make_one(tmp_path: Path, place: str) -> None:
    """No folder, a file, a folder of something else."""
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"not a model folder.* samedge export"):
        read_description(tmp_path / place)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("name", None, "name"),
        ("surprise", 1, "surprise"),
        ("normalisation", "logarithm", "logarithm"),
        ("prompt", "text", "text"),
        ("graphs", ["encoder.xml"], "graphs must be of type dict"),
        ("graphs", {"openvino": "encoder.xml"}, "graphs of openvino must list the files"),
        ("graphs", {"openvino": {"encoder": [1], "decoder": []}}, "graphs of openvino must list the files"),
        ("sha256", None, "sha256"),
        ("sha256", {"encoder.xml": 5}, "sha256 must give the SHA-256 of each file"),
        ("normalisation", [], "normalisation must be of type str"),
        ("input_size", 0, "input_size must be at least 1, got 0"),
        ("input_size", "256", "input_size must be of type int, got '256'"),
        ("embedding_shape", 3, "embedding_shape must be of type list, got 3"),
        (
            "channels",
            ["slice", "mask", "neighbour"],
            "channels must be ['slice', 'slice', 'slice'] or [",
        ),
        ("channels", "slice", "channels must be"),
        ("channels", ["slice", "neighbour", "mask"], "need views"),
        ("methods", ["tracked"], "methods must give a DSC to methods of each modality, got ['tracked']"),
        ("methods", {"CT": "tracked"}, "methods must give a DSC"),
        ("methods", {"CT": {"guessed": 0.9}}, "methods must give a DSC"),
        ("methods", {"CT": {"auto": 0.9}}, "methods must give a DSC"),
        ("methods", {"CT": {"tracked": "good", "propagated": 0.7}}, "methods must give a DSC"),
        ("methods", {"CT": {"tracked": 73.1}}, "methods must give a DSC"),
        ("methods", {"CT": {"tracked": float("nan")}}, "methods must give a DSC"),
    ],
)
def test_a_key_that_is_missing_unknown_or_of_another_kind_is_named(
    folder: Path, key: str, value: object, said: str
) -> None:
    """None stands for: left out."""
    edit(folder, lambda content: content.pop(key) if value is None else content.update({key: value}))
    assert said in refusal(folder)


def test_the_ladder_of_views_and_the_stride_are_read(folder: Path) -> None:
    """256 px on 64 cells: 4 px each; a model without views has no ladder."""
    assert read_description(folder).ladder is None
    edit(folder, lambda content: content.update(views=VIEWS))
    description = read_description(folder)
    assert description.ladder == ViewLadder((56, 112, 224), box_share=0.75, least_scale=1)
    assert description.stride == 4


def test_channels_and_methods_are_read(folder: Path) -> None:
    """A slice thrice and tracking where nothing is said; else the best method of each modality."""
    description = read_description(folder)
    assert description.channels == SLICES and description.method_for("CT") == "tracked"
    methods = {"CT": {"tracked": 0.67, "propagated": 0.71}, "MR": {"tracked": 0.7, "propagated": 0.6}, "PET": {}}
    edit(folder, lambda content: content.update(views=VIEWS, channels=["slice", "neighbour", "mask"], methods=methods))
    description = read_description(folder)
    assert description.channels == WALK
    assert [description.method_for(modality) for modality in ("CT", "MR", "PET", "US", "Unknown")] == [
        "propagated", "tracked", "tracked", "tracked", "tracked",
    ]  # fmt: skip


def test_a_scan_of_a_modality_that_nobody_says_gets_what_is_best_in_the_mean(folder: Path) -> None:
    """Of methods that were validated on all: 0.7 and 0.75 in the mean, though CT alone would have it the other way."""
    methods = {"CT": {"tracked": 0.8, "propagated": 0.7}, "MR": {"propagated": 0.8, "tracked": 0.6, "baseline": 0.9}}
    edit(folder, lambda content: content.update(methods=methods))
    description = read_description(folder)
    assert [description.method_for(modality) for modality in ("CT", "MR", "Unknown", "US")] == [
        "tracked", "baseline", "propagated", "tracked",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sizes": [112, 56]}, "sizes (112, 56) must ascend"),
        ({"sizes": [56, 56]}, "sizes (56, 56) must ascend"),
        ({"sizes": [54, 112]}, "sizes (54, 112) must ascend and be multiples of 4"),
        ({"sizes": [-56, 56]}, "sizes (-56, 56) must ascend and be multiples of 4"),
        ({"sizes": [0, 56]}, "sizes (0, 56)"),
        ({"sizes": [56.5]}, "sizes (56.5,)"),
        ({"sizes": [56.0]}, "sizes (56.0,)"),
        ({"sizes": []}, "sizes () must be at least one"),
        ({"sizes": [56, 512]}, "sizes (56, 512) must be at least one, and below 256"),
        ({"sizes": [128, 256]}, "sizes (128, 256) must be at least one, and below 256"),
        ({"sizes": 56}, "views"),
        ({"sizes": ["56"]}, "views"),
        ({"box_share": 0}, "box_share 0"),
        ({"box_share": 1e-4}, "box_share 0.0001 must be 0.05 to 1"),
        ({"box_share": 1.01}, "box_share 1.01"),
        ({"box_share": float("nan")}, "box_share nan"),
        ({"box_share": "much"}, "views"),
        ({"least_scale": 0}, "least_scale 0"),
        ({"least_scale": -1}, "least_scale -1"),
        ({"least_scale": float("nan")}, "least_scale nan"),
        ({"least_scale": float("inf")}, "least_scale inf"),
        ({"least_scale": None}, "views"),
        ({"walk_size": 60}, "walk_size 60 must be one of (56, 112, 224)"),
        ({"walk_size": 0}, "walk_size 0"),
        ({"surprise": 1}, "surprise"),
    ],
    ids=str,
)
def test_views_that_cannot_be_are_refused(folder: Path, change: dict[str, Any], said: str) -> None:
    """Sizes that the graphs cannot take, boxes larger than their view, a scale that is none."""
    edit(folder, lambda content: content.update(views={**VIEWS, **change}))
    message = refusal(folder)
    assert "views cannot be used" in message and said in message and "export the model again" in message


@pytest.mark.parametrize("views", [{}, {"sizes": [56]}, {"box_share": 0.7, "least_scale": 1}, [56, 112], True, "all"])
def test_views_that_are_no_ladder_are_refused(folder: Path, views: object) -> None:
    """A key that is missing, or JSON of another kind."""
    edit(folder, lambda content: content.update(views=views))
    assert "views cannot be used" in refusal(folder)


@pytest.mark.parametrize("shape", [[3, 0, 0], [3, 512, 512], [3, 64, 32], [3, 60, 60], ["3", 64, 64], [3, 64.0, 64.0]])
def test_an_embedding_that_is_no_grid_of_cells_is_refused(folder: Path, shape: list[object]) -> None:
    """The stride would be nothing, or one of two, or no whole number."""
    edit(folder, lambda content: content.update(embedding_shape=shape))
    assert "embedding_shape must be" in refusal(folder)


def test_views_of_another_normalisation_are_refused(folder: Path) -> None:
    """`edge.views.view` stretches by minimum and maximum alone."""
    edit(folder, lambda content: content.update(views=VIEWS, normalisation="sam"))
    assert "views are min-max stretched, not sam" in refusal(folder)


def test_the_models_hash_names_its_files_and_what_it_is_shown(folder: Path) -> None:
    """The same files under another description are the same model; one other byte is another."""
    before = read_description(folder)
    edit(folder, lambda content: content.update(name="renamed", licence="none"))
    assert model_hash(read_description(folder)) == model_hash(before)
    edit(folder, lambda content: content["sha256"].update({"encoder.xml": "0" * 64}))
    assert model_hash(read_description(folder)) != model_hash(before)


@pytest.mark.parametrize(
    ("key", "value"),
    [("views", {**VIEWS, "walk_size": 112}), ("channels", WALK), ("methods", {"CT": {"tracked": 0.5}})],
    ids=["views", "channels", "methods"],
)
def test_a_model_that_gives_other_masks_has_another_hash(folder: Path, key: str, value: Any) -> None:
    """Whose files are the same."""
    edit(folder, lambda content: content.update(views=VIEWS))
    before = model_hash(read_description(folder))
    edit(folder, lambda content: content.update({key: value}))
    assert model_hash(read_description(folder)) != before
