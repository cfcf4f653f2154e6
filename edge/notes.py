"""What was assumed about a case: neither an error nor to be kept silent."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """One thing that was assumed; as a text, one line without the case's name."""

    what: str  # the key first; the same words for every case of this kind, so that a kind is told once
    got: str = ""  # what came in this case

    def __str__(self) -> str:
        return f"{self.what} ({self.got})" if self.got else self.what
