"""The challenge's case: what is read, what is written, and every check of a user's input."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.errors import CaseError
from edge.npz import read_npz, write_npz

MODALITIES = (
    "CT", "MR", "PET", "X-Ray", "US", "Mammography", "OCT", "Endoscopy", "Fundus", "Dermoscopy", "Microscopy",
)  # fmt: skip
SPELLINGS = {  # modality -> words that name it, anywhere in a case's name
    "CT": "ct cta cbct", "MR": "mr mri mra mrt fmri", "PET": "pet", "X-Ray": "xray cxr",
    "US": "us usg ultrasound ultrasonography sonography", "Mammography": "mammography mammogram mammo", "OCT": "oct",
    "Endoscopy": "endoscopy endoscope endoscopic", "Fundus": "fundus",
    "Dermoscopy": "dermoscopy dermoscope dermoscopic dermatoscopy",
    "Microscopy": "microscopy microscope microscopic",
}  # fmt: skip
WORDS = {word: modality for modality, words in SPELLINGS.items() for word in words.split()}
CHALLENGE_WORDS = {**WORDS, "ultra": "US", "mamm": "Mammography"}  # right after 2DBox_ or 3DBox_
UNKNOWN = "Unknown"


@dataclass(frozen=True)
class Case:
    """One image or volume with its boxes, checked."""

    name: str  # file name without .npz, such as 3DBox_CT_0001
    image: npt.NDArray[np.uint8]  # (H, W, 3) image, or (D, H, W) volume
    boxes: npt.NDArray[np.float64]  # (N, 4) x_min y_min x_max y_max, or (N, 6) x y z min, x y z max; inclusive pixels
    spacing_mm: tuple[float, float, float] | None = None  # (z, y, x); None: not stated
    truth: npt.NDArray | None = None  # labels, (H, W) or (D, H, W); None: not known or not asked for

    @property
    def is_volume(self) -> bool:
        return self.boxes.shape[1] == 6

    @property
    def modality(self) -> str:
        return modality_of(self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the label map: (H, W) or (D, H, W)."""
        return self.image.shape if self.is_volume else self.image.shape[:2]


def modality_of(name: str) -> str:
    """One of MODALITIES for a case's name in any of the public spellings, or UNKNOWN.

    In the challenge's own names, `2DBox_<modality>_...`, that word decides. Elsewhere whole words do, a word being
    letters in a row (`CT01` is CT; `ctrl01`, `October`, `MRN00123` name nothing), unless they name several modalities.
    """
    plain = re.sub(r"(?<![^\W\d_])x[-_ ]?ray", "xray", name.lower())
    own = re.match(r"[23]dbox_([^\W\d_]+)", plain)
    if own and own[1] in CHALLENGE_WORDS:
        return CHALLENGE_WORDS[own[1]]
    named = {WORDS[word] for word in re.findall(r"[^\W\d_]+", plain) if word in WORDS}
    return named.pop() if len(named) == 1 else UNKNOWN


def find_cases(inputs: Path, types: Sequence[str] = (".npz",)) -> list[Path]:
    """The case files of a folder in name order, or the one file given.

    Args:
        types: ends of names that are looked for, in lower case.

    Raises:
        CaseError: nothing there, not readable, or nothing of these types among it.
    """
    try:
        if not inputs.exists():
            raise CaseError(f"{inputs}: no such file or folder")
        if not inputs.is_dir():
            return [inputs]
        found = sorted(path for path in inputs.iterdir() if path.suffix.lower() in types and path.name[0] != ".")
    except OSError as error:
        raise CaseError(f"{inputs}: cannot be read ({error.strerror or error})") from None
    if not found:
        raise CaseError(f"{inputs}: no {' or '.join(types)} case in this folder")
    return found


def read_case(path: Path, *, with_truth: bool = False) -> Case:
    """A checked case from a challenge `.npz`: keys `imgs`, `boxes`, optional `spacing` (file order x, y, z) and `gts`.

    Raises:
        CaseError: names the case, the key, what came, what was expected.
    """
    name = path.stem
    if path.suffix.lower() != ".npz":
        raise CaseError(f"{name}: {path.name} is not an .npz file; give one, or a folder of them")
    arrays = read_npz(path, ["imgs", "boxes", "spacing"] + (["gts"] if with_truth else []))
    for key in ("imgs", "boxes"):
        if key not in arrays:
            raise CaseError(f"{name}: key {key!r} is missing; a case needs 'imgs' and 'boxes'")
    return make_case(name, arrays["imgs"], arrays["boxes"], arrays.get("spacing"), arrays.get("gts"))


def make_case(
    name: str,
    image: npt.NDArray,
    boxes: npt.NDArray,
    spacing_xyz_mm: npt.NDArray | None = None,
    truth: npt.NDArray | None = None,
) -> Case:
    """A checked case from arrays.

    Args:
        name: decides 2D or 3D by its prefix `2DBox_` or `3DBox_`; without one, the number of box columns does.
        image: (H, W, 3) or (H, W) for 2D, (D, H, W) or (D, H, W, 1) for 3D, values 0 to 255.
        boxes: (N, 4) or (N, 6), any numeric type, corners in any order, pixels of `image`.
        spacing_xyz_mm: voxel size in the challenge's file order (x, y, z).
        truth: integer labels of the image's spatial shape; label k belongs to box k.

    Raises:
        CaseError: see `read_case`.
    """
    is_volume = _is_volume(name, image, boxes)
    checked_image = _check_image(name, image, is_volume)
    shape = checked_image.shape if is_volume else checked_image.shape[:2]
    checked_boxes = _check_boxes(name, boxes, shape)
    spacing_mm = None if spacing_xyz_mm is None else _check_spacing(name, spacing_xyz_mm)
    if truth is not None:
        truth = check_labels(name, "gts", truth, shape)
    return Case(name, checked_image, checked_boxes, spacing_mm, truth)


def write_case(path: Path, case: Case) -> None:
    """Write a case in the challenge's form; `gts` and `spacing` only where known."""
    boxes = case.boxes.astype(np.int64) if np.all(case.boxes == np.rint(case.boxes)) else case.boxes
    arrays = {"imgs": case.image, "boxes": boxes}
    if case.truth is not None:
        arrays["gts"] = case.truth
    if case.spacing_mm is not None:
        arrays["spacing"] = np.array(case.spacing_mm[::-1])
    write_npz(path, arrays)


def read_labels(path: Path, key: str) -> tuple[npt.NDArray, tuple[float, float, float] | None]:
    """A label map (`segs` or `gts`) and its spacing (z, y, x) in mm, if the file states one.

    Raises:
        CaseError: unreadable, key missing, or not a label map.
    """
    arrays = read_npz(path, [key, "spacing"])
    if key not in arrays:
        raise CaseError(f"{path.stem}: key {key!r} is missing")
    labels = check_labels(path.stem, key, arrays[key], arrays[key].shape)
    return labels, _check_spacing(path.stem, arrays["spacing"]) if "spacing" in arrays else None


def check_labels(name: str, key: str, labels: npt.NDArray, shape: tuple[int, ...]) -> npt.NDArray:
    """Labels as unsigned integers of `shape`.

    Raises:
        CaseError: another shape, not 2D or 3D, fractional or negative values.
    """
    if labels.ndim not in (2, 3) or labels.shape != shape:
        raise CaseError(f"{name}: {key} must have shape {shape}, got {labels.shape}")
    if labels.dtype.kind not in "uibf" or (labels.dtype.kind == "f" and not np.array_equal(labels, np.rint(labels))):
        raise CaseError(f"{name}: {key} must hold whole numbers, got {labels.dtype}")
    if labels.size and (labels.min() < 0 or labels.max() > np.iinfo(np.uint16).max):
        raise CaseError(f"{name}: {key} must hold labels 0 to 65535, got {labels.min()} to {labels.max()}")
    return labels if labels.dtype == np.uint8 else labels.astype(np.uint16)


def _is_volume(name: str, image: npt.NDArray, boxes: npt.NDArray) -> bool:
    if name.startswith("2DBox_"):
        return False
    if name.startswith("3DBox_"):
        return True
    if boxes.size:
        return boxes.shape[-1:] == (6,)
    return image.ndim == 3 and image.shape[-1] not in (1, 3, 4)


def _prefix_hint(kind: str) -> str:
    return f"a {kind} case's name starts with {kind}Box_"


def _check_image(name: str, image: npt.NDArray, is_volume: bool) -> npt.NDArray[np.uint8]:
    shape = image.shape
    if is_volume:
        if image.ndim == 4 and shape[-1] == 1:
            image = image[..., 0]
        if image.ndim != 3:
            raise CaseError(
                f"{name}: imgs must be (D, H, W) for a 3D case, got {shape}; a 2D case's name starts with 2DBox_"
            )
    else:
        if image.ndim == 3 and shape[-1] == 1:
            image = image[..., 0]
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=-1)
        if image.ndim != 3 or image.shape[-1] != 3:
            raise CaseError(
                f"{name}: imgs must be (H, W, 3) for a 2D case, got {shape}; a 3D case's name starts with 3DBox_"
            )
    if image.size == 0:
        raise CaseError(f"{name}: imgs is empty, shape {shape}")
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind not in "uibf":
        raise CaseError(f"{name}: imgs must be numeric, got {image.dtype}")
    low, high = image.min(), image.max()
    if not (low >= 0 and high <= 255):  # also when NaN
        raise CaseError(
            f"{name}: imgs must lie in 0 to 255, got {low} to {high}; window or scale the intensities first"
        )
    return np.rint(image).astype(np.uint8) if image.dtype.kind == "f" else image.astype(np.uint8)


def _check_boxes(name: str, boxes: npt.NDArray, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Boxes sorted (minimum corner first) and clipped to the image; `shape` is (H, W) or (D, H, W)."""
    columns = 2 * len(shape)
    if boxes.size == 0:
        return np.zeros((0, columns))
    if boxes.ndim == 1:
        boxes = boxes[None]
    if boxes.ndim != 2 or boxes.shape[1] != columns:
        kind, other = ("3D", "2D") if columns == 6 else ("2D", "3D")
        raise CaseError(
            f"{name}: boxes must be (N, {columns}) for a {kind} case, got {boxes.shape}; {_prefix_hint(other)}"
        )
    if boxes.dtype.kind not in "uif":
        raise CaseError(f"{name}: boxes must be real numbers, got {boxes.dtype}")
    if not np.all(np.isfinite(boxes)):
        raise CaseError(f"{name}: boxes must be finite, got NaN or infinity; leave out boxes that are not known")
    corners = np.sort(boxes.astype(np.float64).reshape(len(boxes), 2, -1), axis=1)
    size = np.array(shape[::-1], dtype=np.float64)  # (x, y) or (x, y, z)
    far = (corners < -size) | (corners > 2 * size)
    outside = (corners[:, 1] < 0) | (corners[:, 0] > size - 1)
    for wrong, what in ((far.any((1, 2)), "lies far outside"), (outside.any(1), "does not touch")):
        if wrong.any():
            row = int(np.argmax(wrong))
            values = " ".join(f"{v:g}" for v in boxes[row])
            raise CaseError(
                f"{name}: boxes row {row} ({values}) {what} the image of shape {shape}; boxes are in its pixels"
            )
    corners = np.clip(corners, 0, size)  # public cases use x_max = W for a box at the border
    if len(shape) == 3:
        corners[..., 2] = np.clip(corners[..., 2], 0, size[2] - 1)
    return corners.reshape(len(boxes), columns)


def _check_spacing(name: str, spacing_xyz: npt.NDArray) -> tuple[float, float, float]:
    """Spacing in array order (z, y, x) from the file's (x, y, z)."""
    if spacing_xyz.dtype.kind not in "uif" or spacing_xyz.size != 3:
        raise CaseError(f"{name}: spacing must be 3 numbers (x, y, z) in mm, got shape {spacing_xyz.shape}")
    values = spacing_xyz.astype(np.float64).ravel()
    if not np.all(np.isfinite(values)) or np.any(values <= 0):
        raise CaseError(f"{name}: spacing must be 3 positive numbers (x, y, z) in mm, got {values.tolist()}")
    x, y, z = values.tolist()
    return z, y, x
