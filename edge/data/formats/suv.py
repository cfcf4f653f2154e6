"""Standardized uptake values of PET in DICOM, by body weight (g/ml), after QIBA's vendor-neutral pseudocode.

    SUV = Bq/ml * weight in g / (injected dose in Bq * 2 ** (-seconds from injection / half-life))

Seconds run to the moment that the stored activities are corrected to: the start of the scan (Decay Correction START),
or none where that is the injection (ADMIN). https://qibawiki.rsna.org/index.php/Standardized_Uptake_Value_(SUV)
"""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from edge.errors import CaseError

LEAST_DOSE_BQ = 1e5  # less is the dose in MBq
MOST_HALF_LIVES = 10  # from injection to scan; dates that were shifted apart in de-identifying give more
CURE = "leave --window out, or convert the series to SUV first"


def suv_factor(name: str, slices: Sequence[Any]) -> float:
    """What a PET series' intensities (stored value * slope + intercept) are multiplied by.

    Args:
        slices: their whole pydicom data sets.

    Raises:
        CaseError: names what the header lacks or what of it cannot be.
    """
    data = slices[0]
    units, kind = str(data.get("Units") or "missing"), str(data.get("SUVType") or "BW")
    if (units, kind) == ("GML", "BW"):
        return 1.0
    if units != "BQML":
        says = f"Units is {units}" + (f" with SUVType {kind}" if units == "GML" else "")
        raise _no_suv(name, f"{says}, expected BQML, or GML by body weight")
    corrected = data.get("CorrectedImage") or ()
    corrected = {corrected} if isinstance(corrected, str) else set(corrected)
    if missing := {"ATTN", "DECY"} - corrected:
        raise _no_suv(name, f"CorrectedImage lacks {' and '.join(sorted(missing))}")
    drug = (data.get("RadiopharmaceuticalInformationSequence") or [{}])[0]
    weight_kg = _positive(name, data, "PatientWeight")
    dose_bq = _positive(name, drug, "RadionuclideTotalDose")
    half_life_s = _positive(name, drug, "RadionuclideHalfLife")
    if dose_bq < LEAST_DOSE_BQ:
        raise _no_suv(name, f"RadionuclideTotalDose is {dose_bq:g}, expected Bq")
    elapsed_s = _decay_s(name, slices, drug, half_life_s)
    if not 0 <= elapsed_s <= MOST_HALF_LIVES * half_life_s:
        raise _no_suv(name, f"the scan began {elapsed_s / 3600:.1f} h after the injection, as its times say")
    return weight_kg * 1000 / (dose_bq * 2 ** (-elapsed_s / half_life_s))


def _decay_s(name: str, slices: Sequence[Any], drug: Any, half_life_s: float) -> float:
    """From injection to the moment that activities are corrected to."""
    correction = str(slices[0].get("DecayCorrection") or "missing")
    if correction == "ADMIN":
        return 0.0
    if correction != "START":
        raise _no_suv(name, f"DecayCorrection is {correction}, expected START or ADMIN")
    start = _start(name, slices, half_life_s)
    if drug.get("RadiopharmaceuticalStartDateTime"):
        injected = _parsed(drug.RadiopharmaceuticalStartDateTime)
    else:
        injected = _moment(name, start.strftime("%Y%m%d"), drug, "RadiopharmaceuticalStartTime")
        if injected > start:  # before midnight
            injected -= timedelta(days=1)
    return (start - injected).total_seconds()


def _start(name: str, slices: Sequence[Any], half_life_s: float) -> datetime:
    """When the scan began: its series' time, unless that is when the series was made of another later.

    Then from the earliest slice: Frame Reference Time (ms) is from the start to when activity was as in its mean.
    """
    series = _moment(name, slices[0].get("SeriesDate"), slices[0], "SeriesTime")
    times = [
        _moment(name, one.get("AcquisitionDate") or one.get("SeriesDate"), one, "AcquisitionTime") for one in slices
    ]
    acquired = min(times)
    if series <= acquired:
        return series
    first = slices[times.index(acquired)]
    reference_s = _positive(name, first, "FrameReferenceTime") / 1000
    decay = math.log(2) / half_life_s * _positive(name, first, "ActualFrameDuration") / 1000
    to_mean_s = math.log(decay / -math.expm1(-decay)) * half_life_s / math.log(2)
    return acquired - timedelta(seconds=reference_s - to_mean_s)


def _moment(name: str, date: Any, data: Any, time: str) -> datetime:
    if not date or not data.get(time):
        raise _no_suv(name, f"{time} or its date is missing")
    return _parsed(f"{date}{data.get(time)}")


def _parsed(moment: str) -> datetime:
    """A DICOM date and time, in the time of the place."""
    from pydicom.valuerep import DT

    return datetime.combine(DT(moment).date(), DT(moment).time())


def _positive(name: str, data: Any, key: str) -> float:
    value = data.get(key)
    if value in (None, "") or not 0 < float(value) < math.inf:
        raise _no_suv(name, f"{key} is {'missing' if value in (None, '') else value}")
    return float(value)


def _no_suv(name: str, why: str) -> CaseError:
    return CaseError(f"{name}: no SUV can be computed: {why}; {CURE}")
