"""What the project claims of itself is worked out rightly."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from docs import plots
from docs.result_tables import trained_table
from edge.data.case import Case, make_case, write_case
from edge.errors import RunError
from edge.segmenter import Segmenter
from measure import runtime_claims, training_claims
from measure.claims import _mean_scores, difference, over_modalities
from measure.runtime_claims import (
    F32,
    INT8,
    LAST,
    NOISE,
    SIZES,
    _last_wins,
    _only_views_of,
    measured,
    noisy,
    only,
    runtime_pairs,
)  # fmt: skip
from measure.training_claims import BASE, SHIPS, WAYS, Settings, _few_boxes
from train.recipe import load_recipe, to_toml


def test_a_difference_is_paired_by_case_and_averaged_over_seeds() -> None:
    """Worked by hand: a gains 0.1 and 0.3, mean 0.2; b loses 0.1; c is not on both sides."""
    mine = [{"a": 0.6, "b": 0.5, "c": 1.0}, {"a": 0.8, "b": 0.5}]
    found = difference(mine, [{"a": 0.5, "b": 0.6, "d": 0.0}])
    assert found["cases"] == 2
    assert found["dsc"] == pytest.approx(0.6)
    assert found["other_dsc"] == pytest.approx(0.55)
    assert found["difference"] == pytest.approx(0.05)
    assert found["interval"] == pytest.approx([-0.1, 0.2])  # both draws a, or both b, are a quarter of all each


def test_an_interval_is_of_the_differences_not_of_the_scores() -> None:
    """Scores from 0 to 1, each 0.1 higher than the other's: nothing is left to chance."""
    theirs = {str(case): case / 10 for case in range(10)}
    found = difference([{name: dsc + 0.1 for name, dsc in theirs.items()}], [theirs])
    assert found["interval"] == pytest.approx([0.1, 0.1])


def test_a_mean_over_modalities_counts_each_alike() -> None:
    """Two cases of CT, 0.4 and 0.6, and one of MR, 0.9: 0.7, where the mean over cases is 0.633."""
    scores = {"2DBox_CT_A_1": 0.4, "2DBox_CT_A_2": 0.6, "3DBox_MR_B_1": 0.9}
    assert over_modalities(scores) == pytest.approx(0.7)
    told = _mean_scores({"trainable": 4321, "dsc": [scores, {**scores, "3DBox_MR_B_1": 0.3}]})
    assert told["dsc"] == pytest.approx([0.6333, 0.4333], abs=1e-4)
    assert told["dsc_of_modalities"] == pytest.approx([0.7, 0.4])
    rows = trained_table({"training": {"ways": {"a way": told}}})
    assert rows[1:] == [["a way", "4,321", "0.633, 0.433", "0.700, 0.400"]]


def test_ways_of_training_are_recipes_and_differ() -> None:
    """Each loads, none is as another."""
    recipes = [load_recipe("litemedsam-lora", overrides) for overrides in WAYS.values()]
    assert all(one != other for row, one in enumerate(recipes) for other in recipes[:row])
    assert recipes[list(WAYS).index(SHIPS)] == load_recipe("litemedsam-lora")


def test_a_run_that_is_done_is_taken_only_for_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not again for as many steps; refused for more, and for a way that the run was not of."""
    monkeypatch.setattr(training_claims.subprocess, "run", lambda *_, **__: pytest.fail("trained again"))
    settings = Settings(Path("data"), Path("val"), tmp_path, steps=20, seeds=1)
    here = ["views={56=16}", "walks={}", "max_steps=20", "warmup_steps=2", "ema=0.98", "validation_cases=0", "seed=0"]
    done = tmp_path / f"{list(WAYS).index('decoder only')}-0"
    (done / "adapter").mkdir(parents=True)
    (done / "recipe.toml").write_text(to_toml(load_recipe("litemedsam-lora", [*here, *WAYS["decoder only"]])))
    assert training_claims._run(settings, "decoder only", 0) == done
    with pytest.raises(RunError, match="holds a run by another recipe"):
        training_claims._run(replace(settings, steps=30), "decoder only", 0)
    done.rename(tmp_path / f"{list(WAYS).index('all weights')}-0")
    with pytest.raises(RunError, match="holds a run by another recipe"):
        training_claims._run(settings, "all weights", 0)


def test_the_plot_of_ranks_draws_means_of_seeds_and_what_the_other_ways_reach(tmp_path: Path) -> None:
    """In the order of ranks; the same bytes twice."""
    ways = {name: {"dsc": [0.7 + row / 100, 0.72 + row / 100]} for row, name in enumerate(reversed(WAYS))}
    report = {"training": {"ways": {BASE: {"dsc": [0.5]}, **ways}}}
    ranks, dsc = plots.rank_lines(report)
    assert ranks == [4, 16, 64] and dsc == pytest.approx([0.77, 0.76, 0.75])  # written with the largest first
    beside = {SHIPS: 0.78, "all weights": 0.73, "decoder only": 0.74}
    assert plots.beside_lines(report) == pytest.approx(beside)
    for name in ("one.svg", "two.svg"):
        plots.draw_ranks(report, tmp_path / name)
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    assert all(drawn.count(f"<!-- {name} -->") == 1 for name in beside)


def test_the_runtimes_ways_are_measured_on_the_cases_that_they_are_for(tmp_path) -> None:
    """A disc beside a disc, and a tube."""
    rows, columns = np.mgrid[:96, :96]
    two = [((rows - 48) ** 2 + (columns - x) ** 2 < 15**2) for x in (30, 66)]
    image = np.where(two[0] | two[1], 200, 40).astype(np.uint8)
    boxes = np.array([[15, 33, 45, 63], [51, 33, 81, 63]])
    truth = (two[0] + 2 * two[1]).astype(np.uint8)
    write_case(tmp_path / "2DBox_CT_two_1.npz", make_case("2DBox_CT_two_1", image, boxes, truth=truth))
    write_case(
        tmp_path / "2DBox_CT_one_1.npz", make_case("2DBox_CT_one_1", image, boxes[:1], truth=two[0].astype(np.uint8))
    )
    ball = np.broadcast_to(two[0], (3, 96, 96))
    box = np.array([[15, 33, 0, 45, 63, 2]])
    name = "3DBox_MR_tube_1"
    write_case(tmp_path / f"{name}.npz", make_case(name, image[None].repeat(3, 0), box, truth=ball.astype(np.uint8)))
    found = measured(tmp_path)
    pairs = runtime_pairs(found)
    assert all(dsc > 0.8 for scores in found.values() for dsc in scores.values())
    counted = {on: difference(mine, theirs)["cases"] for _, _, on, mine, theirs in pairs}
    few = {"images of at most 40 boxes": 2, "volumes": 1, "images of 2 to 40 boxes": 1}
    assert counted == {"val, volumes whole": 3, "CT": 2, "MR": 1, **few}


def test_each_precision_is_measured_by_its_own_segmenter(tmp_path, monkeypatch) -> None:
    """One that finds nothing, one that finds the truth."""
    truth = np.zeros((8, 8), np.uint8)
    truth[2:6, 2:6] = 1
    case = make_case("2DBox_CT_A_1", truth * np.uint8(200), [[2, 2, 5, 5]], truth=truth)
    write_case(tmp_path / f"{case.name}.npz", case)
    none, right = (
        SimpleNamespace(segment=lambda _, found=found: SimpleNamespace(labels=found)) for found in (0 * truth, truth)
    )
    monkeypatch.setattr(runtime_claims, "_segmenters", {"int8": none, "f32": right})
    monkeypatch.setattr(runtime_claims, "SIZES", ())
    _, found = runtime_claims._measure(tmp_path / f"{case.name}.npz")
    assert found == {INT8: 0.0, F32: 1.0, **dict.fromkeys(map(noisy, NOISE), 0.0)}


def test_training_is_scored_on_cases_of_few_boxes() -> None:
    """At most 40, as the rows on sloppy boxes."""
    boxes = np.tile([2.0, 2, 5, 5], (41, 1))
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    cases = {str(count): make_case(f"2DBox_US_A_{count}", image, boxes[:count]) for count in (1, 40, 41)}
    assert list(_few_boxes(cases)) == ["1", "40"]


def test_a_gain_is_that_of_the_way_that_is_named_first() -> None:
    """Made-up scores: INT8 0.8, everything else 0.7, boxes that are off 0.5."""
    ways = dict.fromkeys([F32, LAST, *map(only, SIZES)], 0.7) | dict.fromkeys(map(noisy, NOISE), 0.5) | {INT8: 0.8}
    scores = {way: dict.fromkeys(["2DBox_CT_A_1", "3DBox_CT_A_1"], dsc) for way, dsc in ways.items()}
    gains = {way: difference(mine, theirs)["difference"] for way, _, _, mine, theirs in runtime_pairs(scores)}
    assert gains == pytest.approx(
        {
            "INT8": 0.1,
            **dict.fromkeys(map(noisy, NOISE), -0.3),
            "as it ships": 0.1,
            "the likelier box wins (ships)": 0.1,
        }
    )


def test_the_last_of_overlapping_boxes_wins_where_that_is_measured() -> None:
    """Each is segmented by itself, and fills its box."""

    def fill(case: Case) -> SimpleNamespace:
        ((left, top, right, bottom),) = case.boxes.astype(int)
        labels = np.zeros(case.shape, np.uint8)
        labels[top : bottom + 1, left : right + 1] = 1
        return SimpleNamespace(labels=labels)

    case = make_case("2DBox_CT_1", np.arange(36, dtype=np.uint8).reshape(6, 6), [[0, 0, 3, 3], [2, 2, 5, 5]])
    labels = _last_wins(case, SimpleNamespace(segment=fill))
    assert labels[0].tolist() == [1, 1, 1, 1, 0, 0] and labels[3].tolist() == [1, 1, 2, 2, 2, 2]


def test_a_single_size_of_views_is_all_that_is_shown_and_only_while_it_is_asked_for() -> None:
    """The ladder of the engine."""
    segmenter = Segmenter()
    with _only_views_of(segmenter, SIZES[-1]):
        assert segmenter.engine.description.ladder.sizes == SIZES[-1:]
    assert segmenter.engine.description.ladder.sizes == SIZES
