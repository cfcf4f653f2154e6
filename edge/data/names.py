"""What a file or a folder of one scan is called as a case."""

from pathlib import Path

DOUBLE = (".nii.gz",)  # endings of two words
TRUTH = "_gt"  # what a truth beside its image has after the case's name


def ending_of(path: Path) -> str:
    """`.nii.gz`, `.npz`, `.dcm` and so on, in lower case; of a name without one, nothing."""
    name = path.name.lower()
    return next((ending for ending in DOUBLE if name.endswith(ending)), path.suffix.lower())


def case_name(path: Path) -> str:
    """The name without its ending; of a folder, which has none but where it is called like an archive, all of it."""
    if path.is_dir() and path.suffix.lower() != ".npz":
        return path.resolve().name
    ending = ending_of(path)
    return path.name[: len(path.name) - len(ending)] if ending in DOUBLE else path.stem
