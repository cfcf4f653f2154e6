"""The memory guard: what limit it finds, and what it lowers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.data.case import make_case
from edge.engines.model_folder import ModelDescription
from edge.errors import CaseError
from edge.memory import MemoryGuard, memory_limit_mib
from edge.pipeline import Options, segment
from edge.segmenter import Segmenter
from edge.serve.leases import Leases, Limits
from edge.system.machine import describe_machine

GIB = 2**30
LADDER = {"sizes": [64, 128], "box_share": 0.5, "least_scale": 1}
SLICES = ModelDescription("whole slices", 256, (1, 64, 64), {}, {})
VIEWS = ModelDescription("views", 256, (1, 64, 64), {}, {}, views=LADDER)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_version_2_takes_the_lowest_limit_from_the_group_upwards(tmp_path: Path) -> None:
    """A parent's limit of 1 GiB holds for a group that allows itself 3 GiB."""
    write(tmp_path / "sys/fs/cgroup/a/memory.max", f"{GIB}\n")
    write(tmp_path / "sys/fs/cgroup/a/b/memory.max", f"{3 * GIB}\n")
    write(tmp_path / "proc/self/cgroup", "0::/a/b\n")
    assert memory_limit_mib(tmp_path) == 1024


def test_version_1_reads_the_memory_controllers_group(tmp_path: Path) -> None:
    """The limits of another controller's path are not taken."""
    write(tmp_path / "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", f"{2 * GIB}\n")
    write(tmp_path / "sys/fs/cgroup/memory/other/memory.limit_in_bytes", f"{GIB}\n")
    write(tmp_path / "proc/self/cgroup", "5:cpu,cpuacct:/other\n4:memory:/docker/abc\n")
    assert memory_limit_mib(tmp_path) == 2048


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_within_a_container_the_mount_is_the_group(tmp_path: Path, file: str) -> None:
    """The path that /proc names is the engine's and not mounted; the mount's own limit counts."""
    write(tmp_path / "sys/fs/cgroup" / file, f"{GIB}\n")
    write(tmp_path / "proc/self/cgroup", "4:memory:/docker/abc\n0::/docker/abc\n")
    assert memory_limit_mib(tmp_path) == 1024


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n"])
def test_no_limit_is_none(tmp_path: Path, text: str) -> None:
    """`max`, or version 1's largest number, above what the machine has."""
    write(tmp_path / "sys/fs/cgroup/memory.max", text)
    write(tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes", text)
    assert memory_limit_mib(tmp_path) is None


def test_a_machine_that_does_not_say_its_memory_has_limits_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows has no sysconf."""
    monkeypatch.delattr("os.sysconf")
    assert memory_limit_mib(tmp_path) is None and describe_machine()["memory_mib"] is None
    assert Leases(Limits()).claim().token


def test_without_a_limit_options_stay_as_they_are() -> None:
    """No guard where nothing limits."""
    case = make_case("3DBox_CT_a", np.zeros((4, 8, 8), np.uint8), np.array([[0, 0, 0, 7, 7, 3]]))
    assert MemoryGuard(None, 500).fit(Options(block=7), case, SLICES) == Options(block=7)


def test_a_large_limit_lowers_nothing_and_raises_nothing() -> None:
    """Options are an upper bound."""
    case = make_case("2DBox_US_a", np.zeros((8, 8, 3), np.uint8), np.array([[0, 0, 7, 7]]))
    options = Options(block=3, embedding_budget_mib=50)
    assert MemoryGuard(64 * 1024, 200).fit(options, case, SLICES) == options


def test_what_is_left_is_shared_between_boxes_and_embeddings() -> None:
    """1100 MiB x 0.9 - 200 - 110 graphs - 280 encoder - (64 image + 64 labels) = 272: 3 boxes (120), 152 of embeddings.

    The box is 4 x 4 x 4 voxels of a 1024-px slice, whose logits in the model frame take next to nothing.
    """
    image = np.zeros((64, 1024, 1024), np.uint8)
    case = make_case("3DBox_CT_a", image, np.array([[0, 0, 0, 3, 3, 3]]))
    given = Options(method="tracked", box_margin_px=1, block=8, embedding_budget_mib=512)
    fitted = MemoryGuard(1100, 200).fit(given, case, SLICES)
    assert fitted.block == 3
    assert 150 <= fitted.embedding_budget_mib <= 152
    assert fitted == replace(given, block=3, embedding_budget_mib=fitted.embedding_budget_mib)


def test_views_are_reckoned_by_their_pixels() -> None:
    """745 MiB x 0.9 - 200 - 2 x 110 - 280 / 4 for encoding 128 px - 128 = 52: of 64 px, 40 / 16 each, 10 fit in half.

    The baseline sees whole slices of the same model, and nothing is left for it; nor for `auto` where it comes to that.
    """
    case = make_case("3DBox_CT_a", np.zeros((64, 1024, 1024), np.uint8), np.array([[0, 0, 0, 3, 3, 3]]))
    guard, many = MemoryGuard(745, 200), Options(block=99, embedding_budget_mib=999)
    for method in ("auto", "tracked", "propagated", "fixed"):
        assert guard.fit(replace(many, method=method), case, VIEWS).block == 10
    assert guard.fit(replace(many, method="baseline"), case, VIEWS).block == 1
    by_modality = replace(VIEWS, methods={"CT": {"baseline": 0.9, "tracked": 0.8}})
    assert guard.fit(many, case, by_modality).block == 1
    assert guard.fit(many, replace(case, name="3DBox_MR_a"), by_modality).block == 10


def test_logits_that_wait_are_reckoned_at_the_size_of_their_views() -> None:
    """Boxes of 64 px on 100 slices of 1024 px, 200 of them: 312.5 MiB in views of 128 px, a sixteenth in whole slices.

    Of 2000 MiB x 0.9 are taken: 200 for image and labels, 220 or 110 for graphs, 70 or 280 for encoding, half of the
    rest for boxes at most.
    """
    boxes = np.tile([0, 0, 0, 63, 63, 99], (200, 1))
    case = make_case("3DBox_CT_a", np.zeros((100, 1024, 1024), np.uint8), boxes)
    many = Options(block=99, embedding_budget_mib=9999)
    rest, shown = 0.9 * 2000 - 200, (64 / 0.5) ** 2 / 2**20
    assert MemoryGuard(2000, 0).fit(many, case, VIEWS).embedding_budget_mib == int(
        rest - shown - 220 - 70 - 312.5 - 99 * 2.5
    )
    assert MemoryGuard(2000, 0).fit(many, case, SLICES).embedding_budget_mib == int(
        rest - 110 - 280 - 19.53125 - 14 * 40
    )


def test_what_a_long_box_shows_is_reckoned() -> None:
    """A box of 9000 px in a strip of 100: a square of 18,000 px in colours is cut out for it, 927 MiB."""
    case = make_case("2DBox_X-Ray_a", np.zeros((100, 9000, 3), np.uint8), np.array([[0, 0, 8999, 99]]))
    many = Options(block=99, embedding_budget_mib=9999)
    taken = 18_000**2 * 3 / 2**20 + 100 * 9000 * 4 / 2**20 + 220 + 70 + 99 * 2.5
    assert MemoryGuard(2000, 0).fit(many, case, VIEWS).embedding_budget_mib == int(0.9 * 2000 - taken)
    deep = make_case("3DBox_CT_a", np.zeros((400, 64, 64), np.uint8), np.tile([0, 0, 0, 63, 63, 399], (250, 1)))
    assert MemoryGuard(600, 0).fit(many, deep, VIEWS).block == 1  # logits that wait at the most are no certainty
    with pytest.raises(CaseError, match=r"^2DBox_X-Ray_a: needs 930 MiB and more, the limit is 900 MiB; crop it"):
        MemoryGuard(900, 0).fit(many, case, VIEWS)


def test_where_nothing_is_left_it_goes_on_with_the_least() -> None:
    """One box at a time, no embedding kept: the kernel may still refuse, the guard does not."""
    case = make_case("2DBox_US_a", np.zeros((8, 8, 3), np.uint8), np.array([[0, 0, 7, 7]]))
    fitted = MemoryGuard(100, 200).fit(Options(), case, SLICES)
    assert (fitted.block, fitted.embedding_budget_mib) == (1, 0)


def test_the_segmenter_keeps_to_its_guard_and_masks_stay_the_same(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three boxes one by one instead of together: `segment` gets the lowered options, the labels are equal."""
    given = []
    monkeypatch.setattr(
        "edge.segmenter.segment", lambda case, engine, options: given.append(options) or segment(case, engine, options)
    )
    volume = np.random.default_rng(0).integers(0, 255, (4, 64, 64), np.uint8)
    case = make_case(
        "3DBox_CT_a", volume, np.array([[5, 5, 0, 20, 20, 3], [30, 8, 1, 50, 30, 3], [8, 40, 0, 30, 60, 2]])
    )
    segmenter = Segmenter(tiny_model)
    segmenter.guard = MemoryGuard(None, 0)
    free = segmenter.segment(case).labels
    segmenter.guard = MemoryGuard(100, 200)
    assert np.array_equal(segmenter.segment(case).labels, free) and free.max() == 3
    assert [(options.block, options.embedding_budget_mib) for options in given] == [(8, 512), (1, 0)]


def test_what_the_machine_cannot_hold_is_refused_without_a_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel would end the process."""
    monkeypatch.setattr("edge.memory.machine_memory_mib", lambda: 8)
    case = make_case("2DBox_CT_large", np.zeros((4000, 4000), np.uint8), [[0, 0, 3999, 0]])
    with pytest.raises(CaseError, match=r"needs \d+ MiB and more, the limit is 8 MiB"):
        MemoryGuard(None, 0).fit(Options(), case, SLICES)
