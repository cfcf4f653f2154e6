"""What real containers get done, under a quota and side by side."""

import os
from pathlib import Path
from typing import Any

import pytest

from edge.data.case import write_case
from edge.data.phantom import make_phantom
from measure.quota import Setup, measure

pytestmark = pytest.mark.image

IMAGE = os.environ.get("IMAGE", "samedge")


def test_a_fifth_of_a_core_does_less_than_one(engine: Any, tmp_path: Path) -> None:
    """Cases per second, all above zero; two containers at once are both counted."""
    tmp_path.chmod(0o755)  # the image's user is another
    write_case(tmp_path / "2DBox_US_a.npz", make_phantom("2DBox_US_a", (64, 64), 8, 0))
    wanted = [Setup(1, 0.2, None), Setup(1, 1.0, None), Setup(2, None, 1)]
    found = measure(engine, IMAGE, tmp_path, wanted, rounds=1)
    assert 0 < found[wanted[0]] < 0.6 * found[wanted[1]]
    assert found[wanted[2]] > 0
