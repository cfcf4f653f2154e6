"""What many measurements come to: ratios to the first configuration, a row for each group of cases."""

from dataclasses import replace
from statistics import fmean
from typing import Any

from edge.bench.run import Measurement

SCORES = ("dsc", "nsd_official", "nsd")


def with_ratios(measurements: list[Measurement]) -> list[Measurement]:
    """Each measurement with its total over that of the first configuration on the same case, where both succeeded."""
    title = measurements[0].configuration if measurements else None
    first = {m.name: m.total_s for m in measurements if m.configuration == title and not m.error}
    return [m if m.error or m.name not in first else replace(m, ratio=m.total_s / first[m.name]) for m in measurements]


def summarize(measurements: list[Measurement], by: str = "modality") -> list[dict[str, Any]]:
    """Per configuration: a row per group, then one over all; seconds are sums, scores means over cases.

    The last row's scores are the unweighted mean over modalities, as the challenge publishes them, whatever the groups.

    Args:
        by: modality or dataset; the key under which a row names its group.
    """
    rows = []
    for title in dict.fromkeys(m.configuration for m in measurements):
        done = [m for m in measurements if m.configuration == title and not m.error]
        rows += [_row(title, {by: name}, group, _means(group)) for name, group in _grouped(done, by).items()]
        per_modality = [_means(group) for group in _grouped(done, "modality").values()]
        overall = {key: _mean([means[key] for means in per_modality]) for key in SCORES}
        rows.append(_row(title, {by: "all"}, done, overall))
    return rows


def _grouped(measurements: list[Measurement], by: str) -> dict[str, list[Measurement]]:
    """Name of a group -> what belongs to it, in the order of the names."""
    names = sorted({getattr(m, by) for m in measurements})
    return {name: [m for m in measurements if getattr(m, by) == name] for name in names}


def _means(group: list[Measurement]) -> dict[str, float | None]:
    return {key: _mean([getattr(m, key) for m in group]) for key in SCORES}


def _row(
    title: str, group: dict[str, str], chosen: list[Measurement], scores: dict[str, float | None]
) -> dict[str, Any]:
    total_s = sum(m.total_s for m in chosen)
    peak_mib = max((m.peak_mib for m in chosen), default=0.0)
    compared = [m for m in chosen if m.ratio]
    first_s = sum(m.total_s / m.ratio for m in compared if m.ratio)
    return {
        "configuration": title,
        **group,
        "cases": len(chosen),
        "total_s": total_s,
        "cpu_s": sum(m.cpu_s for m in chosen),
        "ratio": sum(m.total_s for m in compared) / first_s if first_s else None,
        "peak_mib": peak_mib,
        **scores,
    }


def _mean(values: list[float | None]) -> float | None:
    """Mean of the values that are numbers; None where there are none."""
    numbers = [value for value in values if value is not None and value == value]
    return fmean(numbers) if numbers else None
