"""Convolutions as matrix products answer as torch's own, forwards and backwards."""

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from train.networks.convolutions import double, pointwise, three_by_three  # noqa: E402
from train.networks.tiny_vit import ConvBN  # noqa: E402

PAIRS = (
    (nn.Conv2d(5, 7, 1), lambda x, layer: pointwise(x, layer.weight, layer.bias)),
    (nn.Conv2d(5, 7, 3, padding=1), lambda x, layer: three_by_three(x, layer.weight, layer.bias)),
    (nn.Conv2d(5, 7, 3, padding=1, bias=False), lambda x, layer: three_by_three(x, layer.weight, layer.bias)),
    (nn.ConvTranspose2d(5, 7, 2, stride=2), lambda x, layer: double(x, layer.weight, layer.bias)),
)


@pytest.mark.parametrize(("layer", "ours"), PAIRS)
def test_products_are_the_convolution(layer: nn.Module, ours) -> None:
    """In float64, of an image that is not square; also the gradients of image and weight."""
    layer = layer.double()
    image = torch.randn(2, 5, 4, 6, dtype=torch.float64, requires_grad=True)
    answers, gradients = [], []
    for answer in (layer(image), ours(image, layer)):
        answers.append(answer)
        weighed = (answer * torch.arange(answer.numel(), dtype=torch.float64).view(answer.shape)).sum()
        gradients.append(torch.autograd.grad(weighed, (image, layer.weight)))
    assert torch.allclose(*answers, rtol=0, atol=1e-12 * float(answers[0].detach().abs().max()))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12 * float(one.abs().max()))


@pytest.mark.parametrize("groups", [1, 6])
def test_a_frozen_norm_is_folded_into_its_convolution(groups: int) -> None:
    """As the convolution and the norm one after the other, with statistics that are not 0 and 1."""
    layer = ConvBN(6, 6, 3, groups=groups).double().eval()
    for tensor in (layer.bn.weight, layer.bn.bias, layer.bn.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(layer.bn.running_var, 0.5, 2)
    image = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    expected = layer.bn(layer.c(image))
    assert torch.allclose(layer.folded(image), expected, rtol=0, atol=1e-12 * float(expected.detach().abs().max()))
