"""Torch's threads within what a container leaves."""

import torch

from edge.system.cores import available_cores


def keep_to_available_cores() -> None:
    """No more threads than `edge.system.cores.available_cores`: of a container's CPU quota torch knows nothing."""
    torch.set_num_threads(min(torch.get_num_threads(), available_cores()))
