"""A checkpoint to a model folder: whole, within bounds, without a trace of the machine, or not at all."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from edge.data.files import file_hash
from edge.engines.cells import OUTSIDE
from edge.engines.model_folder import FORMAT, STAGES, ModelDescription, read_description
from edge.engines.runtime import BACKENDS, load_engine
from edge.errors import ModelError, RunError
from edge.views.ladder import ViewLadder
from edge.views.planners import widened
from export.checks import parity
from export.checks.parity import Bounds, Parity, check_parity
from export.checks.speed import Speed
from export.cli import app
from export.graphs import litemedsam as graphs
from export.graphs.share import share_weights
from export.model_files.model import BOUNDS, _with_measurements, export_model
from export.model_files.options import ExportOptions
from tests.rounding import ROUNDING_F32
from train.networks.litemedsam import LiteMedSAM

FILES = (
    "decoder.bin", "decoder.onnx", "decoder.xml", "encoder.bin", "encoder.onnx", "encoder.xml", "model.json",
)  # fmt: skip
LADDER = ViewLadder((56,), box_share=0.72, least_scale=0.85)  # of `exported`
SIZES = LADDER.sizes
FILES_OF_VIEWS = tuple(f"view{size}_{stage}.onnx" for size in SIZES for stage in STAGES)
IMAGE = np.random.default_rng(5).random((1, 3, 256, 256), dtype=np.float32)
BOXES = np.array([[20, 30, 120, 150], [0, 0, 256, 256], [200, 5, 202, 7], [1.5, 99, 90, 180.25]], np.float32)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small")]


@pytest.fixture
def traced_before(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing and measuring, a minute on a busy machine, are done once: copies of those graphs, and their numbers."""

    def copy_graphs(
        _network: LiteMedSAM, folder: Path, *, half_weights: bool, sizes: tuple[int, ...]
    ) -> dict[str, Path]:
        assert not sizes
        paths = {stage: folder / f"{stage}.onnx" for stage in ("encoder", "decoder")}
        for path in paths.values():
            onnx.save(onnx.load(exported.folder / path.name), path)  # its weights brought in from the shared file
            graphs.tidy(path, half_weights)
        return paths

    monkeypatch.setattr("export.model_files.model.write_onnx", copy_graphs)
    monkeypatch.setattr("export.model_files.model.available_engines", lambda _folder: {})
    monkeypatch.setattr("export.model_files.model.measure_parity", lambda *_arguments: exported.parity)
    monkeypatch.setattr("export.model_files.model.measure_speed", lambda *_arguments: [])


@pytest.fixture
def converted_before(exported: Any, traced_before: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO's files are copied, too."""

    def copy_graphs(_network: LiteMedSAM, folder: Path, *, half_weights: bool) -> dict[str, Path]:
        assert not half_weights
        for stage in STAGES:
            for suffix in (".xml", ".bin"):
                shutil.copy(exported.folder / f"{stage}{suffix}", folder)
        return {stage: folder / f"{stage}.xml" for stage in STAGES}

    monkeypatch.setattr("export.model_files.model.write_openvino", copy_graphs)


def test_the_folder_holds_both_engines_graphs_and_their_hashes(exported: Any) -> None:
    """Nothing else, and every file is vouched for."""
    assert tuple(sorted(path.name for path in exported.folder.iterdir())) == (*FILES, *sorted(FILES_OF_VIEWS))
    description = read_description(exported.folder)
    assert description.sha256 == {
        name: file_hash(exported.folder / name) for name in (*FILES, *FILES_OF_VIEWS) if name != "model.json"
    }
    assert [path.name for path in exported.folder.parent.iterdir() if path.name.startswith(".")] == []


def test_the_description_says_what_it_was_made_of(exported: Any) -> None:
    """Name, sizes, licence, the checkpoint's hash, versions and the parity measured."""
    description = read_description(exported.folder)
    assert (description.format, description.name, description.weights) == (FORMAT, "random", "f32")
    assert (description.input_size, list(description.embedding_shape)) == (256, [256, 64, 64])
    assert (description.licence, description.training_data) == ("Apache-2.0", "none, random weights")
    assert description.made_from["checkpoint"] == "random.pth"
    assert description.made_from["checkpoint_sha256"] == file_hash(exported.checkpoint)
    assert set(description.made_from["versions"]) >= {"samedge", "torch", "onnx", "openvino"}
    assert description.parity == [row.__dict__ for row in exported.parity]


def test_parity_is_measured_per_engine_and_far_inside_the_bounds(exported: Any) -> None:
    """Float32 rounding: under 1e-4 of the largest value, all but single pixels alike; bf16 rounds to 8 bits."""
    f32 = [row for row in exported.parity if row.engine.endswith("f32")]
    assert [row.engine for row in f32] == [f"{backend} f32" for backend in BACKENDS]
    for row in f32:
        assert 0 < row.embedding_error < 1e-4 * row.embedding_scale
        assert 0 < row.logits_error < 1e-4 * row.logits_scale
        assert row.equal_pixels > 0.9999
        assert row.within(BOUNDS["f32"])
        sizes = [path.stat().st_size for path in exported.folder.iterdir() if path.suffix == ".bin"]
        assert 0 < row.size_mib - sum(sizes) / 2**20 < 2  # and the graphs
    assert all(row.embedding_error > 1e-4 * row.embedding_scale for row in exported.parity if row not in f32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_out_of_reach_is_not_computed_and_the_rest_is_the_same(
    exported: Any, answers: tuple[np.ndarray, np.ndarray], backend: str
) -> None:
    """Within 5 px of its box every logit is that of the whole frame but for rounding; beyond the next cell OUTSIDE."""
    engine, boxes = load_engine(exported.folder, backend=backend), BOXES[[0, 2]]
    whole, near = engine.decode(answers[0], boxes), engine.decode(answers[0], boxes, widened(boxes, 5))
    assert np.abs(near - whole)[near != OUTSIDE].max() < ROUNDING_F32 * np.abs(whole).max()
    for logits, (left, top, right, bottom) in zip(near != OUTSIDE, boxes.astype(int), strict=True):
        assert logits[max(top - 5, 0) : bottom + 6, left - 5 : right + 6].all()
        assert logits.sum() <= (bottom - top + 20) * (right - left + 20)


@pytest.fixture(scope="module")
def answers(small_network: LiteMedSAM) -> tuple[np.ndarray, np.ndarray]:
    """The network's embedding (1, 256, 64, 64) of IMAGE and logits (4, 256, 256) of BOXES."""
    with torch.no_grad():
        embedding = small_network.image_encoder(torch.from_numpy(IMAGE))
        logits, _ = small_network.decode(embedding, torch.from_numpy(BOXES), torch.zeros(4, dtype=torch.long))
    return embedding.numpy(), logits.numpy()


@pytest.mark.parametrize("backend", BACKENDS)
def test_engines_answer_as_the_network_for_other_numbers_of_images_and_boxes(
    exported: Any, answers: tuple[np.ndarray, np.ndarray], backend: str
) -> None:
    """The graphs were traced with two images and three boxes: here one image, one and four boxes, some at the edge."""
    engine = load_engine(exported.folder, backend=backend)
    embedding, logits = answers
    assert np.abs(engine.encode(IMAGE) - embedding).max() < 1e-4 * np.abs(embedding).max()
    for count in (1, 4):
        found = engine.decode(embedding, BOXES[:count])
        assert np.abs(found - logits[:count]).max() < 1e-4 * np.abs(logits).max()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_box_is_decoded_in_its_own_view_as_the_network_does(
    exported: Any, small_network: LiteMedSAM, backend: str, size: int
) -> None:
    """Two views and their boxes at once, one alone, and only what is within reach of a box, the same numbers."""
    engine = load_engine(exported.folder, backend=backend)
    views = np.stack([IMAGE[0, :, at : at + size, at : at + size] for at in (0, 256 - size)])
    boxes = np.array([[0.1, 0.15, 0.9, 0.7], [0.35, 0.05, 0.55, 0.95]], np.float32) * size
    with torch.no_grad():
        embeddings = small_network.image_encoder(torch.from_numpy(views))
        expected = small_network.decode_views(embeddings, torch.from_numpy(boxes)).numpy()
    embeddings = embeddings.numpy()
    allowed = 1e-4 * np.abs(expected).max()
    assert np.abs(engine.encode(views) - embeddings).max() < 1e-4 * np.abs(embeddings).max()
    assert np.abs(engine.encode(views[:1]) - embeddings[:1]).max() < 1e-4 * np.abs(embeddings).max()
    whole = engine.decode(embeddings, boxes)
    assert whole.shape == (2, size, size)
    assert np.abs(whole - expected).max() < allowed
    assert np.abs(engine.decode(embeddings[1:], boxes[1:]) - expected[1:]).max() < allowed
    near = engine.decode(embeddings, boxes, widened(boxes, 2))
    for logits, right, (left, top, last, bottom) in zip(near, expected, widened(boxes, 2).astype(int), strict=True):
        rows, columns = slice(max(top, 0), bottom + 1), slice(left, last + 1)
        assert np.abs(logits[rows, columns] - right[rows, columns]).max() < allowed
        assert (logits != OUTSIDE).sum() <= (bottom - top + 8) * (last - left + 8)


def test_parity_is_of_frames_and_of_views_of_every_size(
    exported: Any, small_network: LiteMedSAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each engine is asked: two frames and their boxes on the first, three views of each size."""
    asked: list[tuple[int, ...]] = []

    def watched(_title: str, _engine: object, images: np.ndarray, boxes: np.ndarray, *_answers: np.ndarray) -> Parity:
        asked.append((len(images), len(boxes), *images.shape[2:]))
        return exported.parity[0]

    monkeypatch.setattr(parity, "compare", watched)
    parity.measure_parity(small_network, exported.folder, {"openvino f32": None})  # type: ignore[dict-item]
    assert asked == [(2, 3, 256, 256), *((3, 3, size, size) for size in SIZES)]


def test_the_folder_says_which_views_it_is_for(exported: Any) -> None:
    """As the ladder was given; the stride is the network's."""
    description = read_description(exported.folder)
    assert description.ladder == LADDER and description.stride == 4
    assert set(description.graphs["openvino"]) == set(STAGES)
    views = {f"view{size}_{stage}" for size in SIZES for stage in STAGES}
    assert set(description.graphs["onnxruntime"]) == {*STAGES, *views}


def test_graphs_are_written_of_frames_and_of_views_of_every_size(
    small_network: LiteMedSAM, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each by its prefix, traced with views of its size: what `exported` has of one size, of any number."""
    written: list[tuple[str, int]] = []

    def watched(folder: Path, prefix: str, *given: Any) -> dict[str, Path]:
        written.append((prefix, given[2][0].shape[-1]))
        return {f"{prefix}encoder": folder / f"{prefix}encoder.onnx"}

    monkeypatch.setattr(graphs, "_write_pair", watched)
    paths = graphs.write_onnx(small_network, tmp_path, half_weights=False, sizes=(56, 112))
    assert written == [("", 256), ("view56_", 56), ("view112_", 112)]
    assert list(paths) == ["encoder", "view56_encoder", "view112_encoder"]


def test_no_written_file_names_this_machine(exported: Any) -> None:
    """No path of the repository, of the home folder or of the Python that traced, in any byte."""
    repository = Path(__file__).parents[2]
    traces = {str(repository), str(Path.home()) + "/", str(exported.folder.parent), "site-packages", ".py"}
    for path in exported.folder.iterdir():
        if path.suffix != ".bin":
            content = path.read_bytes()
            assert [trace for trace in traces if trace.encode() in content] == [], path.name
            assert not re.search(rb"/(home|root|Users|tmp|work)/", content), path.name


def test_f16_halves_the_files_and_both_engines_load_them(
    exported: Any, traced_before: None, answers: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Weights are rounded to 11 bits, computing stays in float32: about a thousandth on the embedding."""
    out, options = tmp_path / "half", ExportOptions(name="half", weights="f16")
    export_model(exported.checkpoint, out, options)
    assert read_description(out).weights == "f16"
    for file in ("encoder.bin", "decoder.bin"):
        assert (out / file).stat().st_size < 0.6 * (exported.folder / file).stat().st_size
        assert (out / file).with_suffix(".onnx").stat().st_size < 200_000  # the weights are those of the .bin
    embedding, logits = answers
    for backend in BACKENDS:
        engine = load_engine(out, backend=backend)
        assert 1e-5 < np.abs(engine.encode(IMAGE) - embedding).max() / np.abs(embedding).max() < 0.02
        assert 1e-5 < np.abs(engine.decode(embedding, BOXES) - logits).max() / np.abs(logits).max() < 0.02


def test_out_of_bounds_is_refused_and_the_old_model_kept(exported: Any, converted_before: None, tmp_path: Path) -> None:
    """The message says by how much; nothing half-made stays beside."""
    out = shutil.copytree(exported.folder, tmp_path / "model")
    before = {path.name: file_hash(path) for path in out.iterdir()}
    with pytest.raises(ModelError, match=r"openvino f32 differs from torch: embedding by .* allowed are 0 of"):
        export_model(exported.checkpoint, out, ExportOptions(name="new", bounds=Bounds(0.0, 1.0)))
    assert {path.name: file_hash(path) for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_older_model_is_replaced_and_a_users_files_are_kept(
    exported: Any, converted_before: None, tmp_path: Path
) -> None:
    """Graphs that the new model does not have go, those for views too; a note stays."""
    out = shutil.copytree(exported.folder, tmp_path / "model")
    (out / "notes.txt").write_text("mine")
    (out / "old_encoder.xml").write_text("")
    export_model(exported.checkpoint, out, ExportOptions(name="second"))
    assert read_description(out).name == "second"
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "notes.txt"])


def test_tracing_twice_gives_the_same_bytes(
    small_network: LiteMedSAM, exported: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A checkpoint's ONNX graphs have one hash; shown with the decoder, the quicker one to trace."""

    class Pool(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.max_pool2d(images, 4)

    monkeypatch.setattr(graphs, "InferenceEncoder", lambda _encoder: Pool())
    traced = graphs.write_onnx(small_network, tmp_path, half_weights=False)["decoder"]
    graphs.write_openvino(small_network, tmp_path, half_weights=False)
    share_weights(traced, tmp_path / "decoder.bin")
    for file in ("decoder.onnx", "decoder.bin"):
        assert file_hash(tmp_path / file) == file_hash(exported.folder / file)


@pytest.mark.parametrize("kind", ["file", "other folder"])
def test_what_is_not_a_model_folder_is_never_written_to(tmp_path: Path, kind: str) -> None:
    """A mistyped path must not cost a user's files; refused before the checkpoint is even read."""
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="exists and is not a model folder with a model"):
        export_model(tmp_path / "none.pth", out, ExportOptions())
    assert (out if kind == "file" else out / "thesis.txt").read_text() == "mine"


def test_unknown_weights_and_missing_checkpoints_are_refused_at_once(tmp_path: Path) -> None:
    """Nothing is written."""
    with pytest.raises(RunError, match="weights must be one of f32, f16, got 'int8'"):
        export_model(tmp_path / "none.pth", tmp_path / "out", ExportOptions(weights="int8"))
    with pytest.raises(ModelError, match="no such checkpoint"):
        export_model(tmp_path / "none.pth", tmp_path / "out", ExportOptions())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("ladder", "said"),
    [
        (ViewLadder((57, 112), 0.72, 0.85), "sizes (57, 112) must ascend and be multiples of 4"),
        (ViewLadder((56, 56), 0.72, 0.85), "sizes (56, 56) must ascend"),
        (ViewLadder((56, 260), 0.72, 0.85), "below 256"),
        (ViewLadder((56,), 1.5, 0.85), "box_share 1.5"),
        (ViewLadder((56,), 0.72, 0), "least_scale 0"),
    ],
    ids=str,
)
def test_views_that_the_network_cannot_be_given_are_refused_at_once(
    tmp_path: Path, ladder: ViewLadder, said: str
) -> None:
    """Before the checkpoint is read, let alone traced."""
    with pytest.raises(RunError, match=re.escape(said)) as caught:
        export_model(tmp_path / "none.pth", tmp_path / "out", ExportOptions(views=ladder))
    assert str(caught.value).startswith("--views cannot be used: ") and not (tmp_path / "out").exists()


def test_views_on_the_command_line_are_numbers(samedge: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    """A wrong ladder, by a program of its own; wrong usage, and nothing wrong but the checkpoint."""
    run = samedge("export", "none.pth", "out", "--views", "56,57", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (1, "")
    assert "error: --views cannot be used: sizes (56, 57) must ascend and be multiples of 4" in run.stderr
    assert "Traceback" not in run.stderr
    checkpoint, out = tmp_path / "none.pth", tmp_path / "out"
    wrong = CliRunner().invoke(app, [str(checkpoint), str(out), "--views", "56,x"])
    assert wrong.exit_code == 2
    said = " ".join(wrong.output.replace("│", " ").split())  # what stands in a frame
    assert "--views must be numbers with commas between, such as 56,112,224; got 56,x" in said
    in_order = CliRunner().invoke(app, [str(checkpoint), str(out), "--views", "112,56"])
    assert isinstance(in_order.exception, ModelError) and "none.pth: no such checkpoint" in str(in_order.exception)
    assert list(tmp_path.iterdir()) == []


def test_each_number_of_parity_is_held() -> None:
    """Inside, then each of the three outside by itself."""
    bounds = Bounds(relative_error=0.01, equal_pixels=0.99)
    row = Parity("engine f32", 0.1, 10, 0.2, 20, equal_pixels=0.99)
    check_parity([row], bounds)
    for wrong in ({"embedding_error": 0.11}, {"logits_error": 0.21}, {"equal_pixels": 0.98}, {"logits_error": np.nan}):
        assert not replace(row, **wrong).within(bounds)
        with pytest.raises(ModelError, match="engine f32 differs from torch"):
            check_parity([row, replace(row, **wrong)], bounds)


def test_the_description_is_plain_json(exported: Any) -> None:
    """Readable by anything, no NaN in it."""
    json.loads((exported.folder / "model.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(("ms", "instructions", "told"), [(5, True, True), (15, True, False), (15, False, None)])
def test_whether_int8_is_faster_is_told_by_a_cpu_that_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, ms: float, instructions: bool, told: bool | None
) -> None:
    """Beside float graphs that take 10 ms; one without would keep INT8 from every other machine."""
    monkeypatch.setattr("export.model_files.model.has_int8_instructions", lambda: instructions)
    description = ModelDescription("m", 256, (1, 1, 1), {}, {}, int8={"openvino": {"dsc": []}})
    speeds = [Speed("openvino f32", 10, {}), Speed("openvino int8", ms, {}), Speed("onnxruntime f32", 1, {})]
    assert _with_measurements(description, [], speeds).int8 == {"openvino": {"dsc": [], "faster": told}}
