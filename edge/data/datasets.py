"""Data sets in folders as others lay them out, so that one is an input as it is.

    nnU-Net  imagesTr/ imagesTs/  <case>_0000.nii.gz, a file for each channel; labelsTr/ <case>.nii.gz; dataset.json
    BIDS     sub-*/[ses-*/]anat|pet|ct/ *.nii.gz; derivatives/<pipeline>/, label maps of the same subjects

What lies in them may also be given by its folder or file: a path says where it belongs.
"""

import re
from pathlib import Path
from typing import Any

from edge.data.files import read_json
from edge.data.folders import folders_within
from edge.data.modality import UNKNOWN, modality_of
from edge.data.names import LABEL_MAPS, NNUNET_IMAGES, VOLUMES, case_name, ending_of, is_channel
from edge.errors import CaseError

BIDS_TYPES = {"anat": "MR", "pet": "PET", "ct": "CT"}  # folder -> modality
BIDS_LABELS = ("dseg", "seg", "mask", "label", "lesion")  # ends of the last word of a label map's name
MR_WORDS = {
    "t1", "t1w", "t1c", "t1ce", "t1gd", "t1n", "t2", "t2w", "t2f", "t2starw", "flair", "pd", "pdw", "adc", "dwi", "swi",
    "bold", "unit1",
}  # fmt: skip


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a data set of nnU-Net or BIDS."""
    return _is_nnunet(folder) or _is_bids(folder)


def dataset_images(folder: Path) -> list[Path]:
    """The images of a data set, of several channels the first file, in name order.

    Raises:
        CaseError: a folder cannot be read.
    """
    if _is_nnunet(folder):
        places = [folder / name for name in NNUNET_IMAGES if (folder / name).is_dir()]
        return [path for place in places for path in first_channels(_files(place, LABEL_MAPS))]
    places = [place for place in folders_within(folder) if _is_bids_folder(place, folder)]
    return [path for place in sorted(places) for path in _files(place, VOLUMES) if not _is_bids_label(path)]


def first_channels(paths: list[Path]) -> list[Path]:
    """The paths, of an nnU-Net case the first of its channels only."""
    first: dict[tuple[Path, str], Path] = {}
    for path in sorted(paths):
        first.setdefault((path.parent, case_name(path) if is_channel(path) else path.name), path)
    return sorted(first.values())


def channels_of(path: Path) -> list[Path]:
    """The files of all channels of an nnU-Net image, in order; none of another file."""
    if not is_channel(path):
        return []
    ending = path.name[len(path.name) - len(ending_of(path)) :]
    return sorted(file for file in path.parent.glob(f"{_globbed(case_name(path))}_????{ending}") if is_channel(file))


def channel_number(path: Path) -> int | None:
    """Which channel of its case an nnU-Net image is; None of another file."""
    return int(path.name[: len(path.name) - len(ending_of(path))][-4:]) if is_channel(path) else None


def chosen_channel(path: Path, number: int | None) -> Path:
    """The file of an nnU-Net image's channel.

    Args: number: of the channel; None: there must be one, or another than the first is given.

    Raises:
        CaseError: none was chosen of several, or there is no such channel.
    """
    files = channels_of(path)
    if len(files) < 2 or (number is None and path != files[0]):
        return path
    numbers = {channel_number(file): file for file in files}
    if number in numbers:
        return numbers[number]
    names = _dataset(path).get("channel_names") or _dataset(path).get("modality") or {}
    named = ", ".join(f"{one} {names.get(str(one), '')}".strip() for one in numbers)
    raise CaseError(f"{case_name(path)}: has {len(files)} channels ({named}); choose one with --volume")


def dataset_truth(path: Path) -> Path | None:
    """The label map of an image in a data set; None: there is none.

    Raises:
        CaseError: there are several.
    """
    if path.parent.name in NNUNET_IMAGES:
        stem = path.parent.parent / path.parent.name.replace("images", "labels") / case_name(path)
        return next((file for ending in LABEL_MAPS if (file := Path(f"{stem}{ending}")).is_file()), None)
    root = _bids_root(path)
    derivatives = root / "derivatives" if root else None
    if root is None or derivatives is None or not derivatives.is_dir():
        return None
    pipelines = [derivatives, *(one for one in sorted(derivatives.iterdir()) if one.is_dir())]
    places = [place for one in pipelines if (place := one / path.parent.relative_to(root)).is_dir()]
    found = [file for place in places for file in _files(place, VOLUMES) if _is_bids_label_of(file, path)]
    others = [one for one in _files(path.parent, VOLUMES) if _words(one) > _words(path)]
    found = [file for file in found if not any(_is_bids_label_of(file, one) for one in others)]
    if len(found) > 1:
        names = ", ".join(file.relative_to(root).as_posix() for file in found[:3])
        raise CaseError(f"{case_name(path)}: has {len(found)} label maps ({names}); name theirs with --boxes-from")
    return found[0] if found else None


def dataset_modality(path: Path) -> str | None:
    """What a data set says of the modality of an image or label map in it; None: nothing."""
    if path.parent.name.startswith(("images", "labels")):
        names = _dataset(path).get("channel_names") or _dataset(path).get("modality")
        if not isinstance(names, dict):
            return None
        number = channel_number(path)
        said = {_modality(str(name)) for key, name in names.items() if number is None or key == str(number)}
        return said.pop() if len(said) == 1 else None
    return BIDS_TYPES.get(path.parent.name) if _bids_root(path) else None


def label_names(path: Path) -> dict[int, str]:
    """What nnU-Net's dataset.json calls the numbers of a label map; empty where there is none."""
    if not path.parent.name.startswith("labels"):
        return {}
    labels = _dataset(path).get("labels")
    pairs = labels.items() if isinstance(labels, dict) else ()
    new_form = [(number, name) for name, number in pairs if isinstance(number, int)]
    old_form = [(int(number), name) for number, name in pairs if isinstance(name, str) and number.isdecimal()]
    return {number: str(name) for number, name in [*new_form, *old_form]}


def _is_nnunet(folder: Path) -> bool:
    return (folder / "dataset.json").is_file() and any((folder / name).is_dir() for name in NNUNET_IMAGES)


def _is_bids(folder: Path) -> bool:
    return (folder / "dataset_description.json").is_file() and any(folder.glob("sub-*/"))


def _is_bids_folder(place: Path, root: Path) -> bool:
    words = place.relative_to(root).parts
    return words[0].startswith("sub-") and len(words) in (2, 3) and words[-1] in BIDS_TYPES


def _bids_root(path: Path) -> Path | None:
    """The data set that a file of sub-*/[ses-*/]<type>/ lies in."""
    if path.parent.name not in BIDS_TYPES:
        return None
    subject = next((place for place in list(path.parents)[1:3] if place.name.startswith("sub-")), None)
    return subject.parent if subject else None


def _is_bids_label(path: Path) -> bool:
    return case_name(path).rpartition("_")[2].lower().endswith(BIDS_LABELS)


def _is_bids_label_of(file: Path, image: Path) -> bool:
    """By its name: that of the image and more, or the image's entities and more of these, without its suffix."""
    name, whole = case_name(file), case_name(image)
    entities = whole.rpartition("_")[0]
    if not _is_bids_label(file) or not name.startswith(f"{entities}_"):
        return False
    between = name.removeprefix(f"{entities}_").split("_")[:-1]
    return name.startswith(f"{whole}_") or all("-" in word for word in between)


def _words(path: Path) -> set[str]:
    """The entities in a name."""
    return set(case_name(path).split("_")[:-1])


def _modality(channel: str) -> str | None:
    named = modality_of(channel)
    if named != UNKNOWN:
        return named
    return "MR" if set(re.findall(r"[a-z0-9]+", channel.lower())) & MR_WORDS else None


def _dataset(path: Path) -> dict[str, Any]:
    """dataset.json of the data set that a file of imagesTr/, labelsTr/ and so on lies in; empty where it is not one."""
    try:
        found = read_json(path.parent.parent / "dataset.json")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name[0] != "." and ending_of(path) in endings)
    except OSError as error:
        raise CaseError(f"{folder}: cannot be read ({error.strerror or error})") from None


def _globbed(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
