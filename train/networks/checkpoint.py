"""Checkpoints in the public layout: strict loading that says what differs, and atomic saving."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge.data.files import whole_file
from edge.errors import ModelError, RunError, in_one_line

WRAPPERS = ("model", "state_dict")  # what training scripts put around the state dict
SHOWN = 5  # differing keys spelled out per kind; the count is always given


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state dict of a file, bare or wrapped in `model` or `state_dict`, without the `module.` of multi-GPU runs.

    Numbers that were halved for storage come back as float32.

    Raises:
        ModelError: no such file, not a checkpoint, or one that holds more than tensors.
    """
    content = read_tensors(path)
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise ModelError(f"{path}: expected a state dict, bare or under one of {', '.join(WRAPPERS)}")
    return {key.removeprefix("module."): _as(torch.float32, value) for key, value in content.items()}


def read_tensors(path: Path) -> Any:
    """What `torch.save` wrote: tensors, numbers, texts, and lists and dicts of them, never code.

    Raises:
        ModelError: no such file, damaged, or one that holds more than these.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such checkpoint") from None
    except pickle.UnpicklingError:
        raise ModelError(f"{path}: not a checkpoint of tensors alone, which is all that is ever loaded") from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as a checkpoint ({in_one_line(error)})") from None


def load_weights(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Fill `network` from `state`, every key or nothing.

    Args:
        source: what the message calls the state, usually its path.

    Raises:
        ModelError: lists the keys that are missing, extra or of another shape.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    reshaped = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    found = [("missing", missing), ("extra", extra), ("of another shape", reshaped)]
    if any(keys for _, keys in found):
        differences = "; ".join(f"{len(keys)} {kind}: {_list(keys)}" for kind, keys in found if keys)
        raise ModelError(f"{source}: does not fit {type(network).__name__}: {differences}")
    network.load_state_dict(state)


def load_checkpoint(network: nn.Module, path: Path) -> None:
    """Read a checkpoint file into `network`.

    Raises:
        ModelError: see `read_checkpoint` and `load_weights`.
    """
    load_weights(network, read_checkpoint(path), str(path))


def save_atomically(content: Any, path: Path) -> None:
    """`torch.save`, whole under its final name or not at all.

    Raises:
        RunError: the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch's own of a full disk is a RuntimeError
        raise RunError(f"{path}: cannot be written ({in_one_line(error)}); nothing was left behind") from None


def _as(dtype: torch.dtype, value: Tensor) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def _list(keys: list[str]) -> str:
    rest = len(keys) - SHOWN
    return ", ".join(keys[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
