"""A network in double precision, for tests that tell rounding from mistakes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from train.baseline.program import torch_threads
from train.networks.litemedsam import LiteMedSAM


@contextmanager
def double_precision(network: LiteMedSAM) -> Iterator[LiteMedSAM]:
    """The network in float64; SAM's positional encoding makes float32 coordinates, which whole boxes are exact in."""
    layer = network.prompt_encoder.pe_layer
    encoding = layer._pe_encoding
    layer._pe_encoding = lambda coordinates: encoding(coordinates.double())
    torch.set_default_dtype(torch.float64)
    try:
        with torch_threads(1):  # many small products: on busy cores two threads are ten times slower than one
            yield network.double()
    finally:
        torch.set_default_dtype(torch.float32)
        del layer._pe_encoding  # the instance's, the class's own is back
        network.float()
