"""The inference forms compute the training network's function: in float64, where only a mistake can differ."""

import copy

import pytest
import torch

from export.graphs.decoder import InferenceDecoder
from export.graphs.encoder import InferenceEncoder
from tests.double_precision import double_precision
from train.networks.litemedsam import LiteMedSAM
from train.networks.sam_modeling import decode_tokens

TOLERANCE = 1e-9  # of the largest value; rounding of float64 stays near 1e-13


def same(own: torch.Tensor, theirs: torch.Tensor) -> bool:
    assert own.dtype == theirs.dtype == torch.float64 and own.shape == theirs.shape
    return bool((own - theirs).abs().max() <= TOLERANCE * theirs.abs().max())


def test_inference_encoder_is_the_training_encoder(network: LiteMedSAM) -> None:
    """Norms, scales, biases and the attention table folded; at 32 px every stage pads its windows, as at 256."""
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with double_precision(copy.deepcopy(network)) as double, torch.no_grad():
        assert same(InferenceEncoder(double.image_encoder)(images), double.image_encoder(images))


def test_inference_decoder_is_the_training_decoder(network: LiteMedSAM) -> None:
    """Two boxes at once, all cells and a few of the second's in any order, on an embedding of ordinary size."""
    embedding = torch.randn(1, 256, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    boxes = torch.tensor([[10.0, 20.0, 90.0, 120.0], [100.0, 0.0, 256.0, 255.0]], dtype=torch.float64)
    cells = torch.arange(2 * 64 * 64, dtype=torch.int32)
    few = torch.tensor([4096 + 64 * 63 + 5, 4096], dtype=torch.int32)  # row 63, column 5; row 0, column 0
    with double_precision(copy.deepcopy(network)) as double, torch.no_grad():
        expected = double.decode(embedding, boxes, torch.zeros(2, dtype=torch.long))[0]
        decoder = InferenceDecoder(double)
        patches = decoder(embedding, boxes, cells).view(2, 64, 64, 4, 4)
        assert same(patches.transpose(2, 3).reshape(2, 256, 256), expected)
        corner, first = decoder(embedding, boxes, few)
        assert same(corner, expected[1, 252:, 20:24]) and same(first, expected[1, :4, :4])


def by_hand(network: LiteMedSAM, embeddings: torch.Tensor, boxes: torch.Tensor, corner_px: int) -> torch.Tensor:
    """Logits of views at a corner of the frame: the places of their cells and of their boxes' corners written out."""
    prompts, count = network.prompt_encoder, embeddings.shape[-1]
    encoding = prompts.pe_layer._pe_encoding  # of points (x, y) in 0 to 1 of the frame
    centres = (corner_px + 4 * torch.arange(count, dtype=torch.float64) + 2) / 256
    x, y = centres.expand(count, count), centres[:, None].expand(count, count)
    position = encoding(torch.stack([x, y], dim=-1)).permute(2, 0, 1)[None]
    corners = encoding((boxes.reshape(-1, 2, 2) + corner_px + 0.5) / 256)
    kinds = torch.stack([prompts.point_embeddings[at].weight[0] for at in (2, 3)])  # upper left, lower right
    cells = embeddings + prompts.no_mask_embed.weight[..., None, None]
    return decode_tokens(network.mask_decoder, cells, position, corners + kinds, (0,))[0][:, 0]


@pytest.mark.parametrize(("size", "corner_px"), [(56, 100), (112, 72), (224, 16), (256, 0)])
def test_a_view_is_decoded_in_the_middle_of_the_frame(network: LiteMedSAM, size: int, corner_px: int) -> None:
    """(256 - 56) / 2 = 100: there its cells and prompt lie, in the network that trains and in the inference form."""
    cells, generator = size // 4, torch.Generator().manual_seed(3)
    embeddings = torch.randn(2, 256, cells, cells, dtype=torch.float64, generator=generator)
    boxes = (torch.tensor([[0.1, 0.2, 0.9, 0.7], [0.0, 0.5, 0.4, 1.0]], dtype=torch.float64) * size).round()
    every = torch.arange(2 * cells * cells, dtype=torch.int32)
    with double_precision(copy.deepcopy(network)) as double, torch.no_grad():
        expected = by_hand(double, embeddings, boxes, corner_px)
        assert same(double.decode_views(embeddings, boxes), expected)
        patches = InferenceDecoder(double)(embeddings, boxes, every).view(2, cells, cells, 4, 4)
        assert same(patches.transpose(2, 3).reshape(2, size, size), expected)
        if corner_px:  # the place counts: in the corner of the frame the answers are others
            assert not same(by_hand(double, embeddings, boxes, 0), expected)


def test_making_inference_forms_leaves_the_network_alone(network: LiteMedSAM) -> None:
    """A copy is folded, never the weights that training goes on with."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    InferenceEncoder(network.image_encoder)
    InferenceDecoder(network)
    after = network.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
