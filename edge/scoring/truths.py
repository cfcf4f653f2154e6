"""The truths that `evaluate` scores: where they lie, what their cases are called, how many boxes these have."""

from pathlib import Path

from edge.data.box_files import read_box_file
from edge.data.case import find_cases
from edge.data.datasets import dataset_images, dataset_truth, is_dataset
from edge.data.folders import label_of
from edge.data.formats.registry import is_truth, kind_of
from edge.data.labels import count_boxes
from edge.data.names import LABEL_MAPS, TRUTH, VOLUMES, case_name, ending_of, is_folder
from edge.data.prompting import box_file_beside
from edge.data.sidecar import count_labels
from edge.errors import CaseError

WITH_LABELS = (".npz", *VOLUMES)  # files that hold a truth whatever they are called
TRUTHS = (*WITH_LABELS, *(f"{TRUTH}{ending}" for ending in LABEL_MAPS))


def truth_files(truths: Path, *, recursive: bool = False) -> dict[str, Path]:
    """The truths that `evaluate` scores, by what their cases are called.

    Raises:
        CaseError: there is none, or two are of one case.
    """
    paths, found = _find_truths(truths, recursive), dict[str, Path]()
    for label, path in zip(labels_of(paths, truths), paths, strict=True):
        if (other := found.setdefault(label, path)) != path:
            raise CaseError(f"{label}: {other.name} and {path.name} are both its truth; keep one of them in {truths}")
    return found


def labels_of(truths: list[Path], root: Path) -> list[str]:
    """What the cases are called: the places of their truths below a folder, in a data set those of its images."""
    if is_dataset(root):
        return [label_of(image, root) for image in dataset_images(root) if dataset_truth(image)]
    labels = [label_of(path, root) for path in truths]
    return [one.removesuffix(TRUTH) if is_truth(path) else one for one, path in zip(labels, truths, strict=True)]


def _find_truths(truths: Path, recursive: bool) -> list[Path]:
    """The label maps of a folder or data set: an image beside a file with its truth is none."""
    if is_dataset(truths):
        labelled_images = [truth for image in dataset_images(truths) if (truth := dataset_truth(image))]
        if not labelled_images:
            raise CaseError(f"{truths}: a data set without label maps; expected labelsTr/ or derivatives/")
        return labelled_images
    try:
        found = find_cases(truths, TRUTHS, recursive=recursive)
    except CaseError:  # pictures that are called like no truth, but there is nothing else
        found = find_cases(truths, (*TRUTHS, *LABEL_MAPS), recursive=recursive)
    if not is_folder(truths):
        return found
    separate = {(path.parent, case_name(path).removesuffix(TRUTH)) for path in found if is_truth(path)}
    return [path for path in found if is_truth(path) or (path.parent, case_name(path)) not in separate]


def count_boxes_of(truth: Path, said: Path, axes: int) -> int:
    """How many boxes a case has, as its `.npz`, predict's sidecar or the file of boxes beside it says; 0: none does."""
    if kind_of(truth) == "npz":
        return count_boxes(truth)
    image = truth.with_name(f"{case_name(truth).removesuffix(TRUTH)}{ending_of(truth)}")
    if (boxes := count_labels(said)) or not (file := box_file_beside(image)).is_file():
        return boxes
    try:
        found = read_box_file(image, file, axes)
        return len(found.rows if found.lines is None else found.lines)
    except CaseError:  # which is said where the boxes are used
        return 0
