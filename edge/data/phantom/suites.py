"""Sets of phantoms: the one in `cases/`, and stand-ins for the challenge's published timing table."""

from collections.abc import Iterator
from pathlib import Path

from edge.data.case import write_case
from edge.data.files import make_folder
from edge.data.phantom.make import make_phantom
from edge.errors import RunError

SUITES: dict[str, dict[str, tuple[tuple[int, ...], int]]] = {  # case -> shape, objects
    "small": {
        "2DBox_CT_phantom": ((256, 256), 4),
        "2DBox_MR_phantom": ((240, 192), 2),
        "2DBox_X-Ray_phantom": ((224, 288), 5),
        "2DBox_US_phantom": ((200, 256), 1),
        "2DBox_Mammography_phantom": ((320, 200), 2),
        "2DBox_OCT_phantom": ((160, 320), 3),
        "2DBox_Endoscopy_phantom": ((192, 224), 1),
        "2DBox_Fundus_phantom": ((208, 208), 1),
        "2DBox_Dermoscopy_phantom": ((192, 256), 1),
        "2DBox_Microscopy_phantom": ((192, 192), 14),
        "2DBox_Microscopy_phantom-many": ((240, 320), 80),
        "3DBox_CT_phantom": ((16, 128, 128), 3),
        "3DBox_MR_phantom": ((12, 112, 96), 2),
        "3DBox_PET_phantom": ((20, 72, 72), 1),
    },
    "table4": {
        "3DBox_CT_0566": ((287, 512, 512), 6),
        "3DBox_CT_0888": ((237, 512, 512), 6),
        "3DBox_CT_0860": ((246, 512, 512), 1),
        "3DBox_MR_0621": ((115, 400, 400), 6),
        "3DBox_MR_0121": ((64, 290, 320), 6),
        "3DBox_MR_0179": ((84, 512, 512), 1),
        "3DBox_PET_0001": ((264, 200, 200), 1),
        "2DBox_US_0525": ((256, 256), 1),
        "2DBox_X-Ray_0053": ((320, 640), 34),
        "2DBox_Dermoscopy_0003": ((3024, 4032), 1),
        "2DBox_Endoscopy_0086": ((480, 560), 1),
        "2DBox_Fundus_0003": ((2048, 2048), 1),
        "2DBox_Microscope_0008": ((1536, 2040), 19),
        "2DBox_Microscope_0016": ((1920, 2560), 241),
    },
}


def make_suite(suite: str, out_dir: Path, seed: int, max_depth: int | None = None) -> Iterator[Path]:
    """Write the cases of a suite one by one; yields each file once it is there.

    Args:
        suite: a key of SUITES.
        max_depth: slices at most in a volume; None leaves the depths as they are.

    Raises:
        RunError: no such suite, or the folder cannot be written.
    """
    if suite not in SUITES:
        raise RunError(f"no suite {suite!r}; choose one of {', '.join(SUITES)}")
    make_folder(out_dir)
    for name, (shape, objects) in SUITES[suite].items():
        if len(shape) == 3 and max_depth is not None:
            shape = (min(shape[0], max_depth), *shape[1:])
        path = out_dir / f"{name}.npz"
        write_case(path, make_phantom(name, shape, objects, seed))
        yield path
