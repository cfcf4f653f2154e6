"""What a file or a folder of one scan is called as a case, and how the names of files end that are read."""

import re
from pathlib import Path

from edge.errors import RunError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
NIFTI = (".nii", ".nii.gz")
DICOM = (".dcm", ".dicom", ".ima")  # others are told by their content
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
VOLUMES = (*NIFTI, *ITK)
LABEL_MAPS = (*VOLUMES, ".png", ".tif", ".tiff", ".bmp")
INPUTS = (".npz", *PICTURES, *NIFTI, *DICOM, *ITK)
BOX_FILES = (".csv", ".json")  # beside a case, after its name
DOUBLE = (".nii.gz",)  # endings of two words
TRUTH = "_gt"  # what a truth beside its image has after the case's name

NNUNET_IMAGES = ("imagesTr", "imagesTs")
CHANNEL = re.compile(r"_\d{4}$")  # after a case's name in these folders
SCHEME = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+:")  # how the path of an address begins: s3: of s3://bucket


def ending_of(path: Path) -> str:
    """`.nii.gz`, `.npz`, `.dcm` and so on, in lower case; of a name without one, nothing."""
    name = path.name.lower()
    return next((ending for ending in DOUBLE if name.endswith(ending)), path.suffix.lower())


def without_ending(name: str) -> str:
    """A name without the ending of a kind of file that is read; what else follows a dot is part of it: `scan_0.5`."""
    ending = ending_of(Path(name))
    return name[: len(name) - len(ending)] if ending in INPUTS else name


def case_name(path: Path) -> str:
    """The name without its ending, of nnU-Net's images without their channel.

    A folder has no ending but where it is called like an archive; a UID, as DICOM files are called by, has none.
    """
    if is_folder(path) and path.suffix.lower() != ".npz":
        return path.resolve().name
    ending = ending_of(path)
    is_ending = ending in DOUBLE or not ending[1:].isdecimal()
    name = path.name[: len(path.name) - len(ending)] if is_ending else path.name
    return CHANNEL.sub("", name) if path.parent.name in NNUNET_IMAGES else name


def is_channel(path: Path) -> bool:
    """Whether a file is one channel of an image as nnU-Net lays it out, `imagesTr/<case>_0000.nii.gz`."""
    name = path.name[: len(path.name) - len(ending_of(path))]
    return path.parent.name in NNUNET_IMAGES and CHANNEL.search(name) is not None


def is_remote(path: Path) -> bool:
    """Whether a path is an address in an object store, such as `Path("s3://bucket/folder")`; see `edge.data.remote`.

    Raises:
        RunError: it is the address of a file on a disk, which is given as it is.
    """
    if path.parts and path.parts[0] in ("file:", "local:"):
        raise RunError(f"{path.parts[0]}//...: give a file on a disk by its path alone, /{'/'.join(path.parts[1:])}")
    return bool(path.parts) and SCHEME.fullmatch(path.parts[0]) is not None


def address_of(path: Path) -> str:
    """`s3://bucket/folder` of its path, which has one slash; of another path that as it is."""
    return f"{path.parts[0]}//{'/'.join(path.parts[1:])}" if is_remote(path) else str(path)


def is_folder(path: Path) -> bool:
    """Whether it is one on a disk; in an object store, all is a folder whose ending is not of a kind of file."""
    if not is_remote(path):
        return path.is_dir()
    return ending_of(path) not in INPUTS
