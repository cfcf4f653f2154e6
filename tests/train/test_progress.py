"""What a run knows of its best validation."""

import warnings

import pytest

from train.records.state import Progress
from train.validation import CaseRow, summarize


def test_scores_of_other_cases_do_not_compare() -> None:
    """A resumed run that validates on others has its best yet to come; on the same, in another order, it goes on."""
    one, same, other = (
        summarize([CaseRow(name, "CT", {"dice": 0.5}) for name in names]).cases_hash for names in ("ab", "ba", "ac")
    )
    progress = Progress(best=0.9, validations_since_best=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        progress.begin_anew_on(one)
        progress.begin_anew_on(same)
        progress.begin_anew_on("")  # validation is switched off
    assert (progress.best, progress.validations_since_best, progress.validated_on) == (0.9, 2, one)
    with pytest.warns(UserWarning, match="validated on other cases than before"):
        progress.begin_anew_on(other)
    assert (progress.best, progress.validations_since_best) == (-1, 0)
