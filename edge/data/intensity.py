"""Intensities of a scan as the greys 0 to 255 that a model is shown; the same for training, prediction and scoring.

    CT          a window in HU: soft 40/400 (level/width) if none is asked for
    MR, PET     the 0.5 to 99.5 percentile of the voxels that are not 0 (PET in any unit: a factor changes nothing);
                `suv` shows PET from SUV 0 to 10
    others      8 bits as they are; more: the 0.5 to 99.5 percentile of all pixels

Scaling makes a float array of a slice at a time, never of the volume.
"""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.errors import RunError
from edge.notes import Note

WINDOWS = {"soft": (40.0, 400.0), "lung": (-160.0, 1500.0), "brain": (40.0, 80.0), "bone": (400.0, 1800.0)}  # HU
SUV = "suv"  # of PET by body weight, see `edge.data.formats.suv`
MOST_SUV = 10.0  # g/ml; brain and bladder have more, liver 2 to 3
PERCENTILES = (0.5, 99.5)
LEAST_OF_MR = -200  # HU: what is darker, where the modality is not stated, is CT
UNSTATED = "its modality is stated nowhere"


@dataclass(frozen=True)
class Window:
    """Intensities that become 0 and 255, and all between."""

    low: float
    high: float

    def greys(self, values: npt.NDArray, slope: float = 1.0, intercept: float = 0.0) -> npt.NDArray[np.uint8]:
        """Stored values of any shape as greys; NaN is 0."""
        scaled = values.astype(np.float64) * slope + intercept
        share = (np.clip(scaled, self.low, self.high) - self.low) / (self.high - self.low)
        return np.rint(np.nan_to_num(share) * 255).astype(np.uint8)


def parse_window(text: str) -> Window:
    """`soft`, `lung`, `brain`, `bone`, `suv`, or level and width such as `40,400`.

    Raises:
        RunError: something else.
    """
    if text == SUV:
        return Window(0, MOST_SUV)
    if text in WINDOWS:
        level, width = WINDOWS[text]
        return Window(level - width / 2, level + width / 2)
    found = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*[,/]\s*(\d+(?:\.\d+)?)\s*", text)
    if not found or not float(found[2]) > 0:
        raise RunError(f"--window must be {', '.join(WINDOWS)}, {SUV} or LEVEL,WIDTH such as 40,400, got {text!r}")
    level, width = float(found[1]), float(found[2])
    return Window(level - width / 2, level + width / 2)


def to_greys(
    volume: npt.NDArray,
    slope: float,
    intercept: float,
    modality: str | None,
    window: str | None = None,
) -> tuple[npt.NDArray[np.uint8], tuple[Note, ...]]:
    """Stored values (D, H, W) as greys, and what was assumed.

    Args:
        volume: of any real type; `slope` and `intercept` make intensities of it.
        modality: one of `edge.choices.MODALITIES`; None: nobody says.
        window: see `parse_window`; None: what the modality asks for.

    Raises:
        RunError: see `parse_window`.
    """
    chosen, notes = _window(volume, slope, intercept, modality, window)
    greys = np.zeros(volume.shape, np.uint8)
    if chosen is None:
        notes = (*notes, Note("its intensities are all the same, and shown black"))
    else:
        for z, plane in enumerate(volume):
            greys[z] = chosen.greys(plane, slope, intercept)
    return greys, notes


def _window(
    volume: npt.NDArray, slope: float, intercept: float, modality: str | None, window: str | None
) -> tuple[Window | None, tuple[Note, ...]]:
    if window is not None:
        return parse_window(window), ()
    if modality == "CT":
        return parse_window("soft"), ()
    if modality in ("MR", "PET"):
        return percentile_window(volume, slope, intercept), ()
    if modality is not None:
        if volume.dtype == np.uint8 and (slope, intercept) == (1, 0):
            return Window(0, 255), ()
        return percentile_window(volume, slope, intercept, leave_out_zero=False), ()
    least = min((end * slope + intercept for end in _extremes(volume)), default=0.0)
    if least < LEAST_OF_MR:
        note = Note(f"{UNSTATED}; taken for CT, windowed at 40/400; say --modality", f"its least value is {least:g}")
        return parse_window("soft"), (note,)
    note = Note(f"{UNSTATED}; scaled as MR is; say --modality", "CT has values below -200")
    return percentile_window(volume, slope, intercept), (note,)


def percentile_window(
    volume: npt.NDArray, slope: float = 1.0, intercept: float = 0.0, *, leave_out_zero: bool = True
) -> Window | None:
    """From the 0.5 to the 99.5 percentile, as `np.percentile` has them, or where these are the same from the least to
    the largest; None: there is nothing but one value.

    Args:
        leave_out_zero: of intensities that are not 0 only.
    """
    scale = (lambda values: values * slope + intercept) if (slope, intercept) != (1, 0) else (lambda values: values)
    if volume.dtype.kind in "ui" and volume.dtype.itemsize <= 2:
        ends = _counted_percentiles(volume, slope, intercept, leave_out_zero)
    else:
        values = scale(volume.ravel())
        values = values[np.isfinite(values) & ((values != 0) if leave_out_zero else True)]
        ends = np.percentile(values, PERCENTILES) if values.size else np.zeros(2)
    if ends[0] == ends[1]:  # nearly all have one value
        extremes = [float(scale(end)) for end in _extremes(volume)]
        ends = np.array([min(extremes), max(extremes)]) if extremes else np.zeros(2)
    low, high = float(ends[0]), float(ends[1])
    return Window(low, high) if low < high else None


def _extremes(volume: npt.NDArray) -> tuple[float, ...]:
    """The least and the largest number of a volume; nothing where none is finite."""
    if volume.dtype.kind in "ui":
        return volume.min(), volume.max()
    parts = (part for plane in volume if (part := plane[np.isfinite(plane)]).size)  # no copy of a whole volume
    ends = [end for part in parts for end in (part.min(), part.max())]
    return (min(ends), max(ends)) if ends else ()


def _counted_percentiles(
    volume: npt.NDArray, slope: float, intercept: float, leave_out_zero: bool
) -> npt.NDArray[np.float64]:
    """Percentiles of whole numbers of up to 16 bits from their counts: no copy, no sorting."""
    first = int(np.iinfo(volume.dtype).min)
    counts = np.zeros(int(np.iinfo(volume.dtype).max) - first + 1, np.int64)
    for plane in volume:
        counts += np.bincount((plane.ravel().astype(np.int64) - first), minlength=len(counts))
    intensities = (np.arange(len(counts)) + first) * slope + intercept
    kept = (counts > 0) & ((intensities != 0) if leave_out_zero else True)
    order = np.argsort(intensities[kept], kind="stable")
    values, up_to = intensities[kept][order], np.cumsum(counts[kept][order])
    if not len(values):
        return np.zeros(2)
    places = np.array(PERCENTILES) / 100 * (up_to[-1] - 1)
    below, share = np.floor(places).astype(np.int64), places - np.floor(places)
    low = values[np.searchsorted(up_to, below, side="right")]
    high = values[np.searchsorted(up_to, np.minimum(below + 1, up_to[-1] - 1), side="right")]
    return np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share))  # as NumPy, to the bit
