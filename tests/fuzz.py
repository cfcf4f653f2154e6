"""Mutated files: `python tests/fuzz.py KIND COUNT` reads so many, each within 10 s of CPU and 1 GiB.

A file is read, or refused with one line that names it; whatever else comes out is printed, with the seed that makes the
file again, and the exit code is 1.
"""

import gzip
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

import cv2
import nibabel
import numpy as np

from edge.data.box_files import read_box_file
from edge.data.formats.registry import read_input
from edge.errors import SamedgeError

LIMIT_S, LIMIT_BYTES = 10, 2**30
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
VOLUME = RNG.integers(-100, 900, (5, 12, 10)).astype(np.int16)
EXTREMES = (
    b"\x00\x00",
    b"\xff\xff",
    b"\xff\x7f",
    b"\x00\x80",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\xc0\x7f",
)
BOXES = b"file,x_min,y_min,z_min,x_max,y_max,z_max,label,units\na,1,2,3,4,5,4,liver,voxels\nb,1,2,3,4,5,6,x,LPS\n"
JSON = b'{"units": "RAS", "boxes": {"a": [{"x_min": 1, "y_min": 2, "z_min": 3, "x_max": 4, "y_max": 5, "z_max": 6}]}}'


def originals(kind: str, folder: Path) -> list[tuple[str, bytes]]:
    """Names and bytes of whole files of a kind."""
    if kind == "nifti":
        image = nibabel.nifti1.Nifti1Image(VOLUME, np.diag([2, 1, -3, 1.0]))
        return [("a.nii", image.to_bytes()), ("a.nii.gz", image.to_bytes())]
    if kind == "dicom":
        from tests.edge.dicom_files import write_slice

        square = RNG.integers(-100, 900, (64, 64)).astype(np.int16)  # JPEG 2000 takes none that is much smaller
        grey = write_slice(folder / "grey.dcm", square, (1, 2, 3)).read_bytes()
        colours = write_slice(folder / "colours.dcm", PICTURE, None, Modality="US").read_bytes()
        return [("a.dcm", grey), ("a.dcm", colours), *_compressed(folder)]
    if kind == "picture":
        endings = (".png", ".jpg", ".bmp", ".tif", ".webp")
        deep = [(".png", PICTURE.astype(np.uint16) * 99), (".tif", PICTURE[..., 0].astype(np.float32))]
        encoded = [(ending, cv2.imencode(ending, PICTURE)[1]) for ending in endings]
        encoded += [(ending, cv2.imencode(ending, image)[1]) for ending, image in deep]
        return [(f"a{ending}", content.tobytes()) for ending, content in encoded]
    if kind == "npz":
        np.savez(folder / "a.npz", imgs=VOLUME.astype(np.uint8), boxes=[[1, 2, 1, 5, 6, 3]], spacing=[1.0, 1, 2])
        return [("a.npz", (folder / "a.npz").read_bytes())]
    if kind == "boxes":
        return [("a.csv", BOXES), ("a.json", JSON)]
    import SimpleITK

    for name in ("a.nrrd", "a.mha"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOLUME), str(folder / name))
    return [(name, (folder / name).read_bytes()) for name in ("a.nrrd", "a.mha")]


def _compressed(folder: Path) -> list[tuple[str, bytes]]:
    """A slice in JPEG 2000 and one in RLE."""
    import pydicom
    from pydicom.uid import JPEG2000Lossless, RLELossless

    found = []
    for syntax in (JPEG2000Lossless, RLELossless):
        data = pydicom.dcmread(folder / "grey.dcm")
        data.compress(syntax)
        data.save_as(folder / "compressed.dcm")
        found.append(("a.dcm", (folder / "compressed.dcm").read_bytes()))
    return found


def mutated(content: bytes, seed: int) -> bytes:
    """Some bytes changed, mostly near the beginning; extremes put in; cut short; a piece repeated."""
    rng = np.random.default_rng(seed)
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        place = int(rng.integers(0, min(len(changed), 600) if rng.random() < 0.7 else len(changed)))
        if rng.random() < 0.5:
            changed[place] = int(rng.integers(0, 256))
        else:
            extreme = EXTREMES[rng.integers(len(EXTREMES))]
            changed[place : place + len(extreme)] = extreme
    if rng.random() < 0.15:
        del changed[int(rng.integers(0, len(changed))) :]
    if changed and rng.random() < 0.1:
        start = int(rng.integers(0, len(changed)))
        changed[start:start] = changed[start : start + 64]
    return bytes(changed)


def read(path: Path) -> None:
    if path.suffix in (".csv", ".json"):
        read_box_file(path.with_suffix(".nii"), path, 3)
    else:
        read_input(path)


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {LIMIT_S} s")


def fuzz(kind: str, count: int, first_seed: int = 0) -> int:
    """How many of `count` files went wrong."""
    signal.signal(signal.SIGPROF, _too_long)  # of CPU time: a busy machine is no fault of a file
    wrong, refused, slowest = 0, 0, 0.0
    with tempfile.TemporaryDirectory() as made:
        whole = originals(kind, Path(made))
        for seed in range(first_seed, first_seed + count):
            name, content = whole[seed % len(whole)]
            changed = mutated(content, seed)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / name
                path.write_bytes(gzip.compress(changed) if name.endswith(".gz") and seed % 3 else changed)
                signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
                start = time.process_time()
                try:
                    read(path)
                except SamedgeError as error:
                    refused += 1
                    if "\n" in str(error) or not str(error).startswith("a: "):
                        wrong += 1
                        print(f"{kind} seed {seed} {name}: not one line that names the case: {error!r}", flush=True)
                except BaseException as error:
                    wrong += 1
                    print(f"{kind} seed {seed} {name}: {type(error).__name__}: {error}", flush=True)
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
                taken = time.process_time() - start
                if taken > LIMIT_S:  # a reader may take what ends it for a fault of the file
                    wrong += 1
                    print(f"{kind} seed {seed} {name}: took {taken:.1f} s", flush=True)
                slowest = max(slowest, taken)
    print(f"{kind}: {count} files, {refused} refused, {wrong} wrong, slowest {slowest:.2f} s", flush=True)
    return wrong


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent / "edge"))
    chosen, number = sys.argv[1], int(sys.argv[2])
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (in_use + LIMIT_BYTES + 2**29, resource.RLIM_INFINITY))  # and the libraries
    sys.exit(1 if fuzz(chosen, number, int(sys.argv[3]) if len(sys.argv) > 3 else 0) else 0)
