"""Both engines behind one protocol: the same answers, owned by the caller, and errors in one line."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.data.files import file_hash
from edge.engines.model_folder import DESCRIPTION
from edge.engines.runtime import BACKENDS, Engine, load_engine
from edge.errors import ModelError, RunError
from edge.system.cores import available_cores

BOXES = np.array([[10, 20, 30, 40], [0, 0, 255, 255], [5, 6, 5, 6]], np.float32)
IMAGES = np.random.default_rng(0).random((2, 3, 256, 256), dtype=np.float32)


@pytest.fixture(scope="module", params=BACKENDS)
def engine(tiny_model: Path, request: pytest.FixtureRequest) -> Engine:
    return load_engine(tiny_model, backend=request.param, threads=2)


def test_an_engine_says_what_it_is(engine: Engine) -> None:
    """Backend with its version, precision and threads, as reports state them."""
    name, version = engine.backend.split(" ")
    assert name in BACKENDS and version[0].isdigit()
    assert (engine.precision, engine.threads, engine.description.name) == ("f32", 2, "box filler")


def test_encode_and_decode_by_hand(engine: Engine) -> None:
    """Means of 4 x 4 pixels per image, boxes filled one by one."""
    embeddings = engine.encode(IMAGES)
    expected = IMAGES.reshape(2, 3, 64, 4, 64, 4).mean(axis=(3, 5))
    np.testing.assert_allclose(embeddings, expected, atol=1e-6)
    logits = engine.decode(embeddings[:1], BOXES)
    assert logits.shape == (3, 256, 256) and logits.dtype == np.float32
    assert (logits > 0).sum(axis=(1, 2)).tolist() == [21 * 21, 256 * 256, 1]
    assert logits[2, 6, 5] == 1 and set(np.unique(logits)) == {-1, 1}


def test_a_batch_of_one_and_of_many_answer_alike(engine: Engine) -> None:
    """The graphs' batch is free, and each row stands for itself."""
    assert np.array_equal(np.concatenate([engine.encode(image[None]) for image in IMAGES]), engine.encode(IMAGES))
    embedding = engine.encode(IMAGES[:1])
    one_by_one = np.concatenate([engine.decode(embedding, box[None]) for box in BOXES])
    assert np.array_equal(one_by_one, engine.decode(embedding, BOXES))


def test_answers_are_owned_by_the_caller(engine: Engine) -> None:
    """A later call of the same shape leaves an earlier answer as it was, and it can be written to."""
    first = engine.encode(IMAGES[:1])
    logits = engine.decode(first, BOXES[:1])
    kept, kept_logits = first.copy(), logits.copy()
    engine.encode(IMAGES[1:])
    engine.decode(first, BOXES[2:])
    assert np.array_equal(first, kept) and np.array_equal(logits, kept_logits)
    assert first.flags.writeable and logits.flags.writeable
    logits[:] = 0
    assert np.array_equal(engine.decode(first, BOXES[:1]), kept_logits)


def test_inputs_need_not_lie_in_one_piece_and_are_left_alone(engine: Engine) -> None:
    """Views with strides, as slices of batches are; read-only arrays too."""
    strided = IMAGES[:, :, ::-1].copy()[:, :, ::-1]
    frozen = IMAGES.copy()
    frozen.setflags(write=False)
    assert np.array_equal(engine.encode(strided), engine.encode(frozen))
    wide = np.zeros((3, 8), np.float32)
    wide[:, ::2] = BOXES
    embedding = engine.encode(frozen[:1])
    assert np.array_equal(engine.decode(embedding, wide[:, ::2]), engine.decode(embedding, BOXES))


def test_engines_agree(tiny_model: Path) -> None:
    """To rounding on embeddings, to the bit on these logits."""
    openvino, onnxruntime = (load_engine(tiny_model, backend=backend) for backend in BACKENDS)
    embedding = openvino.encode(IMAGES[:1])
    np.testing.assert_allclose(embedding, onnxruntime.encode(IMAGES[:1]), atol=1e-6)
    assert np.array_equal(openvino.decode(embedding, BOXES), onnxruntime.decode(embedding, BOXES))


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_change_nothing(tiny_model: Path, backend: str) -> None:
    """One or two."""
    one, two = (load_engine(tiny_model, backend=backend, threads=threads) for threads in (1, 2))
    assert (one.threads, two.threads) == (1, 2)
    embedding = one.encode(IMAGES[:1])
    assert np.array_equal(embedding, two.encode(IMAGES[:1]))
    assert np.array_equal(one.decode(embedding, BOXES), two.decode(embedding, BOXES))


def test_threads_are_the_cores_of_this_process_unless_told(tiny_model: Path) -> None:
    """And that is at least one."""
    assert load_engine(tiny_model).threads == available_cores() >= 1


def test_a_cache_is_filled_and_answers_alike(tiny_model: Path, tmp_path: Path) -> None:
    """The second load reads what the first compiled."""
    first = load_engine(tiny_model, cache=tmp_path / "cache")
    embedding = first.encode(IMAGES[:1])
    assert len(list((tmp_path / "cache").iterdir())) == 2
    second = load_engine(tiny_model, cache=tmp_path / "cache")
    assert np.array_equal(embedding, second.encode(IMAGES[:1]))
    assert np.array_equal(first.decode(embedding, BOXES), second.decode(embedding, BOXES))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"backend": "tensorrt"}, "backend must be one of openvino, onnxruntime, got 'tensorrt'"),
        ({"precision": "int4"}, "precision must be one of auto, f32, bf16, int8, got 'int4'"),
        (
            {"backend": "onnxruntime", "precision": "bf16"},
            "precision bf16 needs --backend openvino; onnxruntime computes in f32 on a CPU",
        ),
    ],
)
def test_what_cannot_be_had_is_refused(tiny_model: Path, wrong: dict[str, str], message: str) -> None:
    """In the user's own words."""
    with pytest.raises(RunError) as caught:
        load_engine(tiny_model, **wrong)
    assert str(caught.value) == message


def test_auto_precision_says_what_it_took(tiny_model: Path) -> None:
    """bf16 only where the CPU computes in it; onnxruntime stays at f32."""
    assert load_engine(tiny_model, precision="auto").precision in ("f32", "bf16")
    assert load_engine(tiny_model, backend="onnxruntime", precision="auto").precision == "f32"


def test_bf16_runs_or_is_refused_with_the_cure(tiny_model: Path) -> None:
    """Depends on the CPU; never silently f32."""
    try:
        assert load_engine(tiny_model, precision="bf16").precision == "bf16"
    except RunError as error:
        assert str(error) == "precision bf16: this CPU does not compute in bfloat16; use --precision f32"


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_engine_that_is_not_installed_names_the_other(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Either may be absent, and the other still works."""
    other = BACKENDS[1 - BACKENDS.index(backend)]
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(RunError, match=f"{backend} is not installed: pip install {backend}, .* --backend {other}"):
        load_engine(tiny_model, backend=backend)
    assert load_engine(tiny_model, backend=other).backend.startswith(other)


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "model")


def redescribe(folder: Path, **changes: object) -> None:
    """Change `model.json` and state the files' hashes as they are now."""
    content = json.loads((folder / DESCRIPTION).read_text())
    hashes = {file: file_hash(folder / file) for file in content["sha256"]}
    (folder / DESCRIPTION).write_text(json.dumps({**content, "sha256": hashes, **changes}))


def refusal(folder: Path, backend: str) -> str:
    """What loading it, or using it for the first time, says."""
    with pytest.raises(ModelError) as caught:
        engine = load_engine(folder, backend=backend)
        side = engine.description.input_size
        engine.encode(np.zeros((1, 3, side, side), np.float32))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_shapes_that_do_not_fit_the_description_are_refused(folder: Path, backend: str) -> None:
    """Another input size, another embedding, another number of dimensions."""
    redescribe(folder, input_size=512)
    assert "encoder input images has shape" in refusal(folder, backend)
    assert "model.json says [1, 3, 512, 512]" in refusal(folder, backend)
    redescribe(folder, input_size=256, embedding_shape=[256, 64, 64])
    assert "3, 64, 64], model.json says [1, 256, 64, 64]" in refusal(folder, backend)
    redescribe(folder, embedding_shape=[3, 32, 32])
    assert "3, 64, 64], model.json says [1, 3, 32, 32]" in refusal(folder, backend)
    redescribe(folder, embedding_shape=[3, 64])
    assert "embedding_shape must be three numbers (C, h, w), got [3, 64]" in refusal(folder, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_that_cannot_be_used_says_so_each_time(folder: Path, backend: str) -> None:
    """To the encoder's caller and to the decoder's, whichever comes first, and to the next again."""
    redescribe(folder, embedding_shape=[256, 64, 64])
    engine = load_engine(folder, backend=backend)
    for use in (lambda: engine.encode(IMAGES[:1]), lambda: engine.decode(np.zeros((1, 3, 64, 64), np.float32), BOXES)):
        with pytest.raises(ModelError, match=r"encoder\.(xml|onnx): embedding has shape"):
            use()


@pytest.mark.parametrize("backend", BACKENDS)
def test_swapped_graphs_are_refused_by_their_names(folder: Path, backend: str) -> None:
    """The decoder in the encoder's place."""
    graphs = json.loads((folder / DESCRIPTION).read_text())["graphs"]
    encoder, decoder = graphs[backend]["encoder"], graphs[backend]["decoder"]
    redescribe(folder, graphs={backend: {"encoder": decoder, "decoder": encoder}})
    assert "encoder has inputs ['boxes', 'embedding'], expected ['images']" in refusal(folder, backend)


@pytest.mark.parametrize(("backend", "file"), [("openvino", "encoder.xml"), ("onnxruntime", "encoder.onnx")])
@pytest.mark.parametrize("content", [b"", b"not a graph at all"])
def test_a_graph_the_engine_cannot_read_is_one_line(folder: Path, backend: str, file: str, content: bytes) -> None:
    """Hash right, content wrong: the engine's complaint, shortened, with the file's name."""
    (folder / file).write_bytes(content)
    redescribe(folder)
    message = refusal(folder, backend)
    assert file in message and "cannot load it" in message and len(message) < 600
