"""What can go wrong, as one tree.

SamedgeError
  CaseError    a case file is not what it should be; the message names the case, the key and the cure
  ModelError   a model folder does not fit: missing file, wrong hash, name or shape
  RunError     the machine, an engine or an option stands in the way: no engine installed, disk full, offline

Every message is one line a user can act on. Anything else that escapes is a bug of ours. What was assumed, where a case
was done all the same, is told by a CaseWarning.
"""

LONGEST = 160  # characters of what another library says


class SamedgeError(Exception):
    """Base of every error that is meant for a user."""


class CaseError(SamedgeError):
    """A case cannot be read, used or scored."""


class CaseWarning(UserWarning):
    """Something was assumed about a case; the message names the case, the key and what was assumed."""


class ModelError(SamedgeError):
    """A model folder cannot be used."""


class RunError(SamedgeError):
    """The run itself cannot go on."""


def in_one_line(error: BaseException) -> str:
    """What another library says, as a part of a message: its first line, or its kind where it says nothing."""
    lines = str(error).split("\n")
    return next((line.strip()[:LONGEST] for line in lines if line.strip()), type(error).__name__)
