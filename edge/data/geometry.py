"""Where a scan's voxels lie: in its file, in the patient, and in the volume (D, H, W) that a model is shown.

A file's voxels are counted by three indices (i, j, k) in the order of the file; `affine` brings them to mm in RAS+, as
in nibabel. The volume is the same voxels in a radiologist's order, whatever order the file has, so that NIfTI and DICOM
of one scan are the same volume and boxes and label maps go there and back without a voxel being resampled:

    slices     D                     H rows        W columns
    axial      towards the head      to the back   to the left
    coronal    towards the back      to the feet   to the left
    sagittal   towards the left      to the feet   to the back

Slices are axial, except where voxels are much longer along another axis: then they are stacked along that one.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edge.errors import CaseError

THICK = 1.5  # times the next longer side of a voxel: slices are stacked along such an axis
SKEWED = 1e-2  # cosine between two axes from which on they are not at right angles
PLANES = {"axial": "SPL", "coronal": "PIL", "sagittal": "LIP"}  # plane -> where D, H and W go
LETTERS = ("RL", "AP", "SI")  # of an axis of RAS+: towards its end, towards its beginning

Affine = npt.NDArray[np.float64]  # (4, 4), voxel indices to mm
Indices = npt.NDArray[np.float64]  # (N, 3)


@dataclass(frozen=True)
class Geometry:
    """The way between a file's array, (I, J, K), and the volume."""

    affine: Affine  # (i, j, k) of the file -> mm in RAS+
    file_shape: tuple[int, int, int]
    axes: tuple[int, int, int]  # the file's axis that D, H and W run along
    flips: tuple[bool, bool, bool]  # whether D, H and W run against it
    plane: str  # of the slices, one of PLANES

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the volume, (D, H, W)."""
        depth, height, width = (self.file_shape[axis] for axis in self.axes)
        return depth, height, width

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Of the volume, (z, y, x)."""
        z, y, x = (float(np.linalg.norm(self.affine[:3, axis])) for axis in self.axes)
        return z, y, x

    @property
    def voxel_ml(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def is_as_read(self) -> bool:
        """Whether the slices are along the axis that `make_geometry` takes by itself."""
        return self.plane == _auto_plane(self.affine)

    @property
    def orientation(self) -> str:
        """Where the file's i, j and k go, such as RAS."""
        return "".join(_letters(self.affine))

    def to_volume(self, array: npt.NDArray) -> npt.NDArray:
        """The file's array (I, J, K) as the volume (D, H, W): a view."""
        return array.transpose(self.axes)[self._steps]

    def to_file(self, volume: npt.NDArray) -> npt.NDArray:
        """The volume (D, H, W), such as its label map, as the file's array (I, J, K): a view."""
        return volume[self._steps].transpose(np.argsort(self.axes))

    @cached_property
    def volume_affine(self) -> Affine:
        """Indices (x, y, z) of the volume -> mm in RAS+."""
        return self.affine @ self._to_file

    def volume_from_mm(self, points: Indices, frame: str) -> Indices:
        """Points (N, 3) in mm, in `frame` LPS or RAS, as indices (x, y, z) of the volume, fractions kept."""
        ras = points * ((-1, -1, 1) if frame == "LPS" else (1, 1, 1))
        return _apply(_inverse(self.volume_affine), ras)

    def mm_from_volume(self, indices: Indices, frame: str) -> Indices:
        """Indices (x, y, z) of the volume as points in mm, in `frame` LPS or RAS."""
        return _apply(self.volume_affine, indices) * ((-1, -1, 1) if frame == "LPS" else (1, 1, 1))

    def volume_from_file(self, indices: Indices) -> Indices:
        """Indices (i, j, k) of the file as indices (x, y, z) of the volume."""
        return _apply(_inverse(self._to_file), indices)

    def file_from_volume(self, indices: Indices) -> Indices:
        """Indices (x, y, z) of the volume as indices (i, j, k) of the file."""
        return _apply(self._to_file, indices)

    @property
    def _steps(self) -> tuple[slice, slice, slice]:
        first, second, third = (slice(None, None, -1 if flip else None) for flip in self.flips)
        return first, second, third

    @cached_property
    def _to_file(self) -> Affine:
        """Indices (x, y, z) of the volume -> (i, j, k) of the file."""
        matrix = np.eye(4)
        matrix[:3, :3] = 0
        for column, (axis, flip) in enumerate(zip(self.axes[::-1], self.flips[::-1], strict=True)):
            matrix[axis, column] = -1 if flip else 1
            matrix[axis, 3] = self.file_shape[axis] - 1 if flip else 0
        return matrix


def make_geometry(name: str, affine: npt.ArrayLike, file_shape: tuple[int, ...], plane: str = "auto") -> Geometry:
    """The geometry of a file's voxels.

    Args:
        affine: (4, 4), (i, j, k) to mm in RAS+.
        plane: one of PLANES, or auto; see the module.

    Raises:
        CaseError: the axes are no right angles, such as of a tilted gantry, or have no length.
    """
    matrix = np.asarray(affine, np.float64)
    columns = matrix[:3, :3] if matrix.shape == (4, 4) else np.full((3, 3), np.nan)
    lengths = np.linalg.norm(columns, axis=0)
    if not (np.isfinite(matrix).all() and (lengths > 0).all()):
        raise CaseError(f"{name}: its affine has no finite voxel size; mend its sform or qform")
    units = columns / lengths
    cosines = np.abs(units.T @ units - np.eye(3))
    if cosines.max() > SKEWED:
        degrees = float(np.degrees(np.arcsin(min(1.0, cosines.max()))))
        raise CaseError(
            f"{name}: its axes are {degrees:.1f} degrees off right angles (tilted gantry or sheared); resample it first"
        )
    letters = _letters(matrix)
    chosen = _auto_plane(matrix) if plane == "auto" else plane
    axes, flips = [], []
    for letter in PLANES[chosen]:
        pair = next(pair for pair in LETTERS if letter in pair)
        axis = next(index for index, one in enumerate(letters) if one in pair)
        axes.append(axis)
        flips.append(letters[axis] != letter)
    i, j, k = file_shape
    return Geometry(matrix, (i, j, k), (axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]), chosen)


def picture_geometry(height: int, width: int, spacing_yx_mm: tuple[float, float] = (1.0, 1.0)) -> Geometry:
    """Of a flat image (H, W) that lies nowhere in a patient: i to the left, j to the back, one slice."""
    affine = np.diag([-spacing_yx_mm[1], -spacing_yx_mm[0], 1.0, 1.0])
    return Geometry(affine, (width, height, 1), (2, 1, 0), (False, False, False), "axial")


def _letters(affine: Affine) -> list[str]:
    """Where i, j and k go: the order of axes that fits best as a whole, so that no two get the same."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    order = max(
        itertools.permutations(range(3)), key=lambda order: sum(abs(cosines[row, i]) for i, row in enumerate(order))
    )
    return [LETTERS[row][0] if cosines[row, i] > 0 else LETTERS[row][1] for i, row in enumerate(order)]


def _auto_plane(affine: Affine) -> str:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    shorter, longest = np.sort(lengths)[1:]
    if longest < THICK * shorter:
        return "axial"
    letter = _letters(affine)[int(np.argmax(lengths))]
    return {"R": "sagittal", "L": "sagittal", "A": "coronal", "P": "coronal"}.get(letter, "axial")


def _inverse(affine: Affine) -> Affine:
    return np.asarray(np.linalg.inv(affine), np.float64)


def _apply(affine: Affine, points: npt.NDArray) -> Indices:
    return points @ affine[:3, :3].T + affine[:3, 3]
