"""Ranks as the FLARE challenges give them: rank the teams on each case and metric, then average the ranks.

On every case and for every metric the best team has rank 1; ties share the mean of their ranks; who has no valid output
is worse than everybody who has. A team's score is the mean of its ranks over all cases and metrics, its final rank the
rank of that score. How far that depends on which cases were drawn is told by drawing the cases again (bootstrap).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

METRICS = ("dsc", "nsd_official", "time_s")
SMALLER_IS_BETTER = ("time_s",)
DRAWS = 1000
INTERVAL = (2.5, 97.5)  # percentiles: 95 %

Ranks = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """One team's place."""

    team: str
    rank: float  # final, from 1; shared places are halves
    mean_rank: float  # over all cases and metrics
    metric_ranks: dict[str, float]  # the mean rank of each metric; NaN where no case could be ranked in it
    rank_interval: tuple[float, float]  # 95 % of the final ranks over the draws
    mean_rank_interval: tuple[float, float]
    rank_share: tuple[float, ...]  # the share of draws with final rank 1, 2, ... (halves rounded down)


def rank_cases(values: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_], *, smaller_is_better: bool) -> Ranks:
    """Ranks of the teams on every case for one metric.

    Args:
        values: (teams, cases).
        valid: (teams, cases); False where a team has no valid output, which is worse than any value.

    Returns:
        (teams, cases), 1 for the best, ties averaged. A case is NaN for all where a valid output's value is NaN: the
        metric has no meaning there.
    """
    keys = np.where(valid, values if smaller_is_better else -values, np.inf)
    undefined = (np.isnan(values) & valid).any(axis=0)
    better = (keys[:, None] > keys[None]).sum(axis=1)
    equal = (keys[:, None] == keys[None]).sum(axis=1)
    return np.where(undefined, np.nan, better + (equal + 1) / 2)


def standings(
    teams: Sequence[str],
    metrics: dict[str, npt.NDArray[np.float64]],
    valid: npt.NDArray[np.bool_],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> list[Standing]:
    """The teams from first to last.

    Args:
        metrics: for each of METRICS, values (teams, cases).
        valid: (teams, cases); see `rank_cases`.
        seed: of the draws.
        draws: how often the cases are drawn again, as many as there are, with replacement.
    """
    ranks = {
        name: rank_cases(values, valid, smaller_is_better=name in SMALLER_IS_BETTER) for name, values in metrics.items()
    }
    stacked = np.stack(list(ranks.values()))
    score = _mean(stacked)
    final = _rank(score)
    drawn = _draw(stacked, seed, draws)
    drawn_final = np.array([_rank(scores) for scores in drawn])
    found = [
        Standing(
            team,
            float(final[row]),
            float(score[row]),
            {name: float(_mean(values[None])[row]) for name, values in ranks.items()},
            _interval(drawn_final[:, row]),
            _interval(drawn[:, row]),
            tuple(float((np.floor(drawn_final[:, row]) == place).mean()) for place in range(1, len(teams) + 1)),
        )
        for row, team in enumerate(teams)
    ]
    return sorted(found, key=lambda standing: (standing.rank, standing.team))


def _draw(stacked: Ranks, seed: int, draws: int) -> npt.NDArray[np.float64]:
    """Mean ranks (draws, teams) of cases drawn anew; a draw in which nothing can be ranked counts as all alike."""
    cases = stacked.shape[2]
    random = np.random.default_rng(seed)
    chosen = (random.integers(0, cases, cases) for _ in range(draws))
    return np.array([_mean(stacked[:, :, picked]) for picked in chosen])


def _mean(stacked: Ranks) -> npt.NDArray[np.float64]:
    """Mean rank of each team over metrics and cases (metrics, teams, cases), NaN left out; NaN where all are."""
    counted = ~np.isnan(stacked)
    count = counted.sum(axis=(0, 2))
    total = np.where(counted, stacked, 0).sum(axis=(0, 2))
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def _rank(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Final ranks of mean ranks: rounded, so that sums in another order make no difference."""
    rounded = np.nan_to_num(scores, nan=np.inf).round(9).astype(np.float64)
    return rank_cases(rounded[:, None], np.ones((len(scores), 1), bool), smaller_is_better=True)[:, 0]


def _interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, INTERVAL)
    return float(low), float(high)
