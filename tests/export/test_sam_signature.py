"""Tools written for SAM's ONNX files get LiteMedSAM's own answers from ours."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from edge.errors import RunError
from edge.views.prepare import prepare
from export.cli import app
from export.graphs.sam_signature import DECODER_PORTS, SignatureDecoder, example, frame
from export.model_files.model import export_model
from export.model_files.options import ExportOptions
from export.model_files.sam_signature import POINT_FRAMES_PX
from tests.rounding import ROUNDING_F32, relative_difference
from train.baseline import program
from train.networks.litemedsam import FRAME_PX, LiteMedSAM

NO_MASK = (np.zeros((1, 1, 256, 256), np.float32), np.zeros(1, np.float32))


class Tool:
    """What an annotator does with SAM's two files."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(folder / f"{stage}.onnx", options) for stage in ("encoder", "decoder")
        )

    def encode(self, image: np.ndarray) -> np.ndarray:
        return self.encoder.run(None, {"input_image": image.astype(np.float32)})[0]

    def decode(self, *inputs: Any) -> list[np.ndarray]:
        arrays = [np.asarray(array, np.float32) for array in inputs]
        return self.decoder.run(None, dict(zip(DECODER_PORTS[0], arrays, strict=True)))


@pytest.fixture(scope="module")
def folder(small: None, small_network: LiteMedSAM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network exported by the command."""
    folder = tmp_path_factory.mktemp("sam")
    torch.save(small_network.state_dict(), folder / "random.pth")
    arguments = ["random.pth", "model", "--io", "sam", "--licence", "Apache-2.0"]
    places = [str(folder / word) if at < 2 else word for at, word in enumerate(arguments)]
    run = CliRunner().invoke(app, places)
    assert run.exit_code == 0, run.output
    assert "of pixels equal" in run.output
    return folder / "model"


def picture(height: int, width: int) -> np.ndarray:
    """(H, W, 3) of soft blobs."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    ("shape", "most_off"),
    [((512, 512), 0), ((1024, 768), 0), ((256, 256), 0), ((684, 1024), 0), ((1, 5), 0), ((701, 533), 1), ((90, 61), 1)],
)
def test_the_frame_is_the_one_that_samedge_shows(shape: tuple[int, int], most_off: int) -> None:
    """Resized by areas, stretched, then padded: to the bit at even factors; else a grey value may round otherwise."""
    image = picture(*shape)
    own, expected = frame(torch.from_numpy(image).float()).numpy(), prepare(image)
    low, high = (int(extreme) for extreme in (image.min(), image.max()))
    assert abs(own - expected).max() * (high - low) <= most_off * 1.5
    assert np.mean(own != expected) < 0.1
    assert ((own == 0).all(axis=(1, 2)) == (expected == 0).all(axis=(1, 2))).all()


def test_a_constant_image_is_black() -> None:
    """As everywhere in samedge: no division by zero."""
    assert not frame(torch.full((40, 30, 3), 7.0)).any()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(200, 256), (512, 384), (1100, 700)])
def test_a_box_gets_the_whole_frames_mask(folder: Path, small_network: LiteMedSAM, shape: tuple[int, int]) -> None:
    """From the image as it is to the mask at its size, as the public program answers the box with these weights."""
    image, tool = picture(*shape), Tool(folder)
    box = np.array([0.2, 0.3, 0.7, 0.8]) * [*shape[::-1], *shape[::-1]]
    expected = program.segment_image(small_network, image, box[None])
    corners = program.box_in_frame(box, *shape).reshape(1, 2, 2)
    masks, iou, low = tool.decode(tool.encode(image), corners, [[2, 3]], *NO_MASK, shape)
    assert masks.shape == (1, 1, *shape) and iou.shape == (1, 1) and low.shape == (1, 1, 256, 256)
    assert relative_difference(low[0, 0], expected.logits[0]) < ROUNDING_F32
    assert 0.01 < np.mean(expected.labels) < 0.99  # a mask that could be wrong
    assert np.mean((masks[0, 0] > 0) != (expected.labels > 0)) < 1e-4


@pytest.mark.slow
def test_points_padding_and_masks_are_prompts_as_segment_anything_embeds_them(
    folder: Path, small_network: LiteMedSAM
) -> None:
    """Its own prompt encoder and mask decoder are the reference: 0 outside, 1 inside, -1 padding; masks if told."""
    generator = torch.Generator().manual_seed(1)
    embedding = torch.rand(1, 256, 64, 64, generator=generator)
    points, labels = torch.tensor([[[40.0, 50.0], [200.0, 90.0]]]), torch.tensor([[1.0, 0.0]])
    mask = torch.randn(1, 1, 256, 256, generator=generator)
    encoder = small_network.prompt_encoder
    padded = np.concatenate([points.numpy(), np.zeros((1, 1, 2))], axis=1), [[1, 0, -1]]
    answers = []
    for given in (None, mask):
        with torch.no_grad():
            sparse, dense = encoder(points=(points, labels), boxes=None, masks=given)  # pads without a box
            expected, iou = small_network.mask_decoder(embedding, encoder.get_dense_pe(), sparse, dense, False)
        _, own_iou, low = Tool(folder).decode(embedding, *padded, mask, [given is not None], (256, 256))
        assert relative_difference(low, expected.numpy()) < ROUNDING_F32
        assert relative_difference(own_iou, iou.numpy()) < ROUNDING_F32
        answers.append(low)
    assert abs(answers[0] - answers[1]).max() > 0.01


def test_points_may_be_given_in_the_1024_px_of_sams_own_frame(small_network: LiteMedSAM) -> None:
    """As tools do that know no other frame (`--io sam-1024`)."""
    _, points, labels, mask, has_mask, size = example(FRAME_PX)
    embedding = torch.rand(1, 256, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, _, _ = SignatureDecoder(small_network, FRAME_PX)(embedding, points, labels, mask, has_mask, size)
        masks, _, _ = SignatureDecoder(small_network, 1024)(embedding, 4 * points, labels, mask, has_mask, size)
    assert torch.equal(masks, expected) and POINT_FRAMES_PX == {"sam": 256, "sam-1024": 1024}


@pytest.mark.slow
def test_ports_are_named_as_sams(folder: Path) -> None:
    """Names, shapes and types that tools feed blindly; what they may show of it stands in the files."""
    ports = {
        stage: {port.name: port.shape for port in [*session.get_inputs(), *session.get_outputs()]}
        for stage, session in vars(Tool(folder)).items()
    }
    assert ports == {
        "encoder": {"input_image": ["image_height", "image_width", 3], "image_embeddings": [1, 256, 64, 64]},
        "decoder": {
            "image_embeddings": [1, 256, 64, 64],
            "point_coords": [1, "num_points", 2],
            "point_labels": [1, "num_points"],
            "mask_input": [1, 1, 256, 256],
            "has_mask_input": [1],
            "orig_im_size": [2],
            "masks": [1, 1, "height", "width"],
            "iou_predictions": [1, 1],
            "low_res_masks": [1, 1, 256, 256],
        },
    }
    facts = {entry.key: entry.value for entry in onnx.load(folder / "decoder.onnx").metadata_props}
    assert facts["licence"] == "Apache-2.0" and facts["name"] == "random"


@pytest.mark.slow
def test_what_sams_ports_do_not_have_is_refused(folder: Path, tmp_path: Path) -> None:
    """Before anything is computed; a model folder of the other kind is not overwritten."""
    with pytest.raises(RunError, match="SAM's ports show whole frames and no INT8 graphs; leave --methods-on out"):
        export_model(folder.parent / "random.pth", tmp_path / "new", ExportOptions(io="sam", methods_on=tmp_path))
    with pytest.raises(RunError, match=r"is not a model folder with a model\.json"):
        export_model(folder.parent / "random.pth", folder, ExportOptions())


ORT_WEB = Path(__file__).parents[2] / "build" / "npm" / "onnxruntime-web" / "dist"
IN_BROWSER = """async ([height, width, corners]) => {
    const ort = await import("/ort.wasm.min.mjs");
    ort.env.wasm.numThreads = 1;
    const [encoder, decoder] = await Promise.all(
        ["encoder", "decoder"].map((stage) => ort.InferenceSession.create(`/${stage}.onnx`)));
    const image = new Float32Array(await (await fetch("/image.bin")).arrayBuffer());
    const tensor = (data, dims) => new ort.Tensor("float32", Float32Array.from(data), dims);
    const { image_embeddings } = await encoder.run({ input_image: tensor(image, [height, width, 3]) });
    const { masks } = await decoder.run({
        image_embeddings, point_coords: tensor(corners, [1, 2, 2]), point_labels: tensor([2, 3], [1, 2]),
        mask_input: tensor(new Float32Array(256 * 256), [1, 1, 256, 256]), has_mask_input: tensor([0], [1]),
        orig_im_size: tensor([height, width], [2]),
    });
    return { dims: masks.dims, inside: Array.from(masks.data, (logit) => Number(logit > 0)) };
}"""


@pytest.mark.browser
def test_onnxruntime_web_in_chromium_gives_the_same_mask(folder: Path, chromium: Any) -> None:
    """Both files in WebAssembly on one image and box: the mask that ONNX Runtime here gives, but for rounding."""
    if not ORT_WEB.is_dir():
        pytest.skip("needs onnxruntime-web, which is not there: make browser-test fetches it")
    shape, corners = (200, 256), [50.0, 60.0, 180.0, 160.0]
    image, tool = picture(*shape).astype(np.float32), Tool(folder)

    def answer(route: Any) -> None:
        name = route.request.url.rsplit("/", 1)[-1]
        file = (folder if name.endswith(".onnx") else ORT_WEB) / name
        body = {"": b"<html></html>", "image.bin": image.tobytes()}.get(name)
        kind = {"mjs": "text/javascript", "wasm": "application/wasm", "": "text/html"}.get(name.rpartition(".")[2])
        route.fulfill(body=file.read_bytes() if body is None else body, content_type=kind or "application/octet-stream")

    page = chromium.new_page()
    page.route("**/*", answer)
    page.goto("http://localhost/")
    found = page.evaluate(IN_BROWSER, [*shape, corners])
    masks = tool.decode(tool.encode(image), np.reshape(corners, (1, 2, 2)), [[2, 3]], *NO_MASK, shape)[0]
    assert tuple(found["dims"]) == masks.shape
    assert np.mean(np.reshape(found["inside"], masks.shape) != (masks > 0)) < 1e-4
