"""What a file or a folder of one scan is called as a case."""

import re
from pathlib import Path

DOUBLE = (".nii.gz",)  # endings of two words
TRUTH = "_gt"  # what a truth beside its image has after the case's name

NNUNET_IMAGES = ("imagesTr", "imagesTs")
CHANNEL = re.compile(r"_\d{4}$")  # after a case's name in these folders


def ending_of(path: Path) -> str:
    """`.nii.gz`, `.npz`, `.dcm` and so on, in lower case; of a name without one, nothing."""
    name = path.name.lower()
    return next((ending for ending in DOUBLE if name.endswith(ending)), path.suffix.lower())


def case_name(path: Path) -> str:
    """The name without its ending, of nnU-Net's images without their channel.

    A folder has no ending but where it is called like an archive.
    """
    if path.is_dir() and path.suffix.lower() != ".npz":
        return path.resolve().name
    ending = ending_of(path)
    name = path.name[: len(path.name) - len(ending)] if ending in DOUBLE else path.stem
    return CHANNEL.sub("", name) if path.parent.name in NNUNET_IMAGES else name


def is_channel(path: Path) -> bool:
    """Whether a file is one channel of an image as nnU-Net lays it out, `imagesTr/<case>_0000.nii.gz`."""
    name = path.name[: len(path.name) - len(ending_of(path))]
    return path.parent.name in NNUNET_IMAGES and CHANNEL.search(name) is not None
