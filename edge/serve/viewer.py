"""An image as the page's viewer has it: intensities in NIfTI, voxels (I, J, K) counted to the right, front and head."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.data.case import Case
from edge.data.datasets import chosen_channel, dataset_modality
from edge.data.formats.registry import kind_of, read_input, read_scan
from edge.data.geometry import Geometry
from edge.data.names import is_channel
from edge.data.outputs import geometry_of
from edge.data.scan import Reading, Scan, case_of

SCANS = ("nifti", "dicom", "itk")
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Grid:
    """The way between the volume (D, H, W) and the viewer's voxels (I, J, K): axes exchanged and turned round."""

    axes: tuple[int, int, int]  # of the volume, that I, J and K run along
    flips: tuple[bool, bool, bool]  # whether I, J and K run against it
    shape: tuple[int, int, int]  # (I, J, K)
    affine: npt.NDArray[np.float64]  # (4, 4), (i, j, k) to mm in RAS+

    @classmethod
    def of(cls, geometry: Geometry) -> "Grid":
        """Of a volume's geometry."""
        import nibabel

        orientation = nibabel.orientations.io_orientation(geometry.volume_affine)  # of x, y, z
        sizes = geometry.shape[::-1]
        axes, flips = [0, 0, 0], [False, False, False]
        for index, (axis, direction) in enumerate(orientation):
            axes[int(axis)], flips[int(axis)] = 2 - index, direction < 0
        affine = geometry.volume_affine @ nibabel.orientations.inv_ornt_aff(orientation, sizes)
        i, j, k = (geometry.shape[axis] for axis in axes)
        return cls((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]), (i, j, k), affine)

    def shown(self, volume: npt.NDArray) -> npt.NDArray:
        """A volume (D, H, W) as (I, J, K): a view."""
        steps = tuple(slice(None, None, -1 if flip else None) for flip in self.flips)
        return volume.transpose(self.axes)[steps]

    def block(self, start: tuple[int, ...], sides: tuple[int, ...]) -> tuple[slice, slice, slice]:
        """Where a part of the volume lies in the viewer. Args: start, sides: along D, H, W."""
        slices = []
        for axis, flip, length in zip(self.axes, self.flips, self.shape, strict=True):
            first = length - start[axis] - sides[axis] if flip else start[axis]
            slices.append(slice(first, first + sides[axis]))
        return slices[0], slices[1], slices[2]

    def box_in_volume(self, box: npt.NDArray) -> npt.NDArray[np.float64]:
        """A box (6,) of inclusive voxels i, j, k minimum, then maximum, as the volume's x, y, z."""
        ends = np.asarray(box, np.float64).reshape(2, 3)
        sides = np.array(self.shape) - 1
        turned = np.where(self.flips, sides - ends, ends)
        in_volume = np.empty((2, 3))
        in_volume[:, list(self.axes)] = turned  # d, h, w
        return np.sort(in_volume, axis=0)[:, ::-1].ravel()

    def box_from_volume(self, box: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The other way round."""
        ends = np.asarray(box, np.float64).reshape(2, 3)[:, ::-1][:, list(self.axes)]
        turned = np.where(self.flips, np.array(self.shape) - 1 - ends, ends)
        return np.sort(turned, axis=0).ravel()


@dataclass(frozen=True, eq=False)
class Image:
    """A case, and what the viewer is shown of it."""

    path: Path
    case: Case
    grid: Grid
    has_intensities: bool  # the viewer is shown them as stored, such as HU; else greys


def read_image(path: Path, reading: Reading) -> tuple[Image, bytes]:
    """A case of any kind, and the NIfTI file that the viewer shows of it.

    Raises:
        CaseError, RunError: see `edge.data.formats.registry.read_input`.
    """
    scan = None
    if kind_of(path) in SCANS:
        reading = replace(reading, modality=reading.modality or dataset_modality(path))
        path = chosen_channel(path, reading.volume) if is_channel(path) else path
        scan = read_scan(path, reading)
    case = case_of(scan, reading) if scan else read_input(path, reading)
    grid = Grid.of(geometry_of(case))
    stored = scan is not None and scan.array.ndim == 3
    volume = _intensities(scan) if scan and stored else _greys(case)
    return Image(path, case, grid, stored), _nifti(grid, volume)


def _greys(case: Case) -> npt.NDArray:
    """(D, H, W), of colours as RGB."""
    if case.is_volume:
        return case.image
    return np.ascontiguousarray(case.image).view(RGB).reshape(1, *case.shape)


def _intensities(scan: Scan) -> npt.NDArray:
    """(D, H, W) int16 where that holds them, else float32."""
    stored, slope, intercept = scan.geometry.to_volume(scan.array), scan.slope, scan.intercept
    if stored.dtype.kind in "ui" and float(slope).is_integer() and float(intercept).is_integer():
        ends = [int(end) * int(slope) + int(intercept) for end in (stored.min(), stored.max())]
        if min(ends) >= INT16.min and max(ends) <= INT16.max:
            return (stored.astype(np.int32) * int(slope) + int(intercept)).astype(np.int16)
    return np.nan_to_num(stored * np.float32(slope) + np.float32(intercept)).astype(np.float32)


def _nifti(grid: Grid, volume: npt.NDArray) -> bytes:
    import nibabel

    image: Any = nibabel.nifti1.Nifti1Image(np.asfortranarray(grid.shown(volume)), grid.affine)
    image.header.set_xyzt_units("mm")
    return image.to_bytes()
