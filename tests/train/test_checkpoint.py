"""A checkpoint loads whole or says exactly what differs; a file is whole or not there."""

from pathlib import Path

import pytest
import torch
from torch import nn

from edge.errors import ModelError, RunError
from train.networks.checkpoint import load_checkpoint, read_checkpoint, save_atomically


def small_network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


@pytest.mark.parametrize("wrap", ["bare", "model", "state_dict", "module."])
def test_every_public_wrapping_loads(tmp_path: Path, wrap: str) -> None:
    """Bare, `{"model": ...}`, `{"state_dict": ...}`, and keys with the `module.` of multi-GPU runs."""
    source, network = small_network(), small_network()
    state = source.state_dict()
    if wrap == "module.":
        state = {"model": {f"module.{key}": value for key, value in state.items()}}
    elif wrap != "bare":
        state = {wrap: state}
    torch.save(state, tmp_path / "weights.pth")
    load_checkpoint(network, tmp_path / "weights.pth")
    assert torch.equal(network[0].weight, source[0].weight)


def test_a_halved_checkpoint_comes_back_as_float32(tmp_path: Path) -> None:
    """Rounded to 11 bits, counters untouched; so its hash as a base is the network's."""
    state = {"a.weight": torch.tensor([1.0, 1 / 3]).half(), "a.num_batches_tracked": torch.tensor(70_000)}
    save_atomically({"model": state}, tmp_path / "half.pth")
    back = read_checkpoint(tmp_path / "half.pth")
    assert back["a.weight"].dtype == torch.float32
    torch.testing.assert_close(back["a.weight"], torch.tensor([1.0, 0.333251953125]), rtol=0, atol=0)
    assert back["a.num_batches_tracked"].item() == 70_000


def test_every_difference_is_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    """One key missing, one extra, one of another shape: all three in one line, the network as it was."""
    network = small_network()
    before = network[1].bias.clone()
    state = {key: value + 1 for key, value in network.state_dict().items()}
    del state["0.bias"]
    state["head.weight"] = torch.zeros(1)
    state["0.weight"] = torch.zeros(3, 5)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(ModelError) as caught:
        load_checkpoint(network, tmp_path / "weights.pth")
    message = str(caught.value)
    assert "1 missing: 0.bias" in message and "1 extra: head.weight" in message
    assert "1 of another shape: 0.weight (3, 5) for (3, 2)" in message
    assert "\n" not in message
    assert torch.equal(network[1].bias, before)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    """Pickled objects are never loaded."""
    torch.save({"model": Path("x")}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match="tensors alone"):
        read_checkpoint(tmp_path / "evil.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    """Empty, text and a cut archive alike."""
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_checkpoint(tmp_path / "bad.pth")
    assert "bad.pth" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    """And not something about zip archives."""
    with pytest.raises(ModelError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "nothing.pth")


def test_saving_replaces_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    """The second save takes the first's place; no partial file stays."""
    save_atomically({"a": torch.zeros(1)}, tmp_path / "run" / "last.pth")
    save_atomically({"a": torch.ones(1)}, tmp_path / "run" / "last.pth")
    assert read_checkpoint(tmp_path / "run" / "last.pth")["a"].item() == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["last.pth"]


def test_a_folder_that_cannot_be_written_is_a_run_error(tmp_path: Path) -> None:
    """The disk's trouble is told as such."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        save_atomically({}, tmp_path / "file" / "last.pth")
