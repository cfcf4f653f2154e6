"""Notes on stderr as warnings, once for each kind."""

import sys
from collections import Counter
from collections.abc import Iterable

from edge.notes import Note


class Notes:
    """Tells each kind of note with the first case it came with, at once, and in the end of how many more."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._cases: Counter[str] = Counter()

    def tell(self, name: str, notes: Iterable[Note]) -> None:
        """Warn of what is told for the first time."""
        for note in notes:
            self._cases[note.what] += 1
            if self._cases[note.what] == 1 and not self._quiet:
                print(f"warning: {name}: {note}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Say how many more cases there were of each kind."""
        for what, cases in self._cases.items():
            if cases > 1 and not self._quiet:
                print(f"warning: {what}: {cases} cases in all", file=sys.stderr)
