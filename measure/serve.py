"""How long `samedge serve` lets a user wait: `python -m measure.serve`, with nnInteractive's own client.

The server runs as a user starts it, in a process of its own; a time is that of the client's call. Ellipsoids of 40
slices in a noisy volume of 512 x 512 px, small and large: how large a view the model is shown depends on it.
"""

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.data.case import make_case
from edge.engines.model_folder import DEFAULT_MODEL
from edge.engines.runtime import describe_engine
from edge.errors import RunError
from edge.reports.report import now, print_rows, write_json
from edge.segmenter import Segmenter
from edge.serve.session import Session
from edge.system.home import engine_cache
from edge.system.machine import describe_machine

SIDE_PX, SLICES, DEPTH = 512, 64, 40  # of the volume, and slices of the object
WIDTHS_PX = (40, 160)  # of objects, which are shown in views of 56 and 224 px
ROUNDS = 7
PORT = 15270


def ellipsoid(width_px: int) -> tuple[npt.NDArray[np.uint8], list[list[int]], tuple[float, float, float]]:
    """A volume (SLICES, SIDE_PX, SIDE_PX), the half-open box of the object in it, and the spacing (z, y, x) in mm."""
    sizes, shape = np.array([DEPTH, width_px, width_px]), (SLICES, SIDE_PX, SIDE_PX)
    first = [(length - size) // 2 for length, size in zip(shape, sizes, strict=True)]
    axes = np.ogrid[tuple(slice(0, length) for length in shape)]
    far = sum(
        ((axis - start + 0.5 - size / 2) / (size / 2)) ** 2
        for axis, start, size in zip(axes, first, sizes, strict=True)
    )
    noise = np.random.default_rng(0).integers(0, 30, shape, np.uint8)
    box = [[start, start + int(size)] for start, size in zip(first, sizes, strict=True)]
    return np.where(far < 1, np.uint8(170), np.uint8(70)) + noise, box, (width_px / DEPTH, 1.0, 1.0)


def waits(url: str, key: str, width_px: int, rounds: int) -> dict[str, float]:
    """Median seconds of a client's calls, by what was drawn."""
    from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession

    volume, box, spacing_mm = ellipsoid(width_px)
    seconds: dict[str, list[float]] = {}

    def add(what: str, box: list[list[int]]) -> None:
        start = time.perf_counter()
        client.add_bbox_interaction(box, True)
        seconds.setdefault(what, []).append(time.perf_counter() - start)
        if not client.target_buffer.any():
            raise RunError(f"{what}: nothing was found")

    def begin(image: npt.NDArray[np.uint8]) -> None:
        client.set_image(image[None], {"spacing": spacing_mm})
        client.set_target_buffer(np.zeros(image.shape, np.uint8))

    with closing(nnInteractiveRemoteInferenceSession(url, api_key=key, read_timeout=600)) as client:
        for number in range(rounds):
            z, shift = SLICES // 2 + number - rounds // 2, number % 3
            begin(volume[z : z + 1])
            add("first box on a slice", [[0, 1], *box[1:]])
            add("next box on it", [[0, 1], *([start - 1 - shift, stop + 2] for start, stop in box[1:])])
            begin(volume)
            add(f"3D box of {DEPTH} slices", [box[0], *([start - shift, stop] for start, stop in box[1:])])
            begin(volume)
            add("box on one slice, followed to both ends", [[z, z + 1], *box[1:]])
    return {what: statistics.median(times) for what, times in seconds.items()}


def first_slice_s(segmenter: Segmenter, width_px: int, rounds: int) -> float:
    """Median seconds until the first slice of a 3D box is there to be shown, without a client."""
    volume, box, spacing_mm = ellipsoid(width_px)
    case = replace(make_case("3DBox_ellipsoid", volume, np.zeros((0, 6))), spacing_mm=spacing_mm)
    (z, z_end), (y, y_end), (x, x_end) = box
    times = []
    for number in range(rounds):
        session = Session(segmenter, case)
        session.add_box(1, [x - number, y, z, x_end - 1, y_end - 1, z_end - 1])
        start = time.perf_counter()
        try:
            session.mask(1, _stop)
        except InterruptedError:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def serve_table(report: Mapping[str, Any]) -> list[list[str]]:
    """Of what `main` writes: a row a drawing, a column a width."""
    widths = list(report["seconds"])
    rows = [["seconds from the client's call to its mask", *(f"object of {width} px" for width in widths)]]
    return rows + [
        [what, *(f"{report['seconds'][width][what]:.2f}" for width in widths)] for what in report["seconds"][widths[0]]
    ]


def main() -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(
        prog="python -m measure.serve", description="How long samedge serve lets a user wait."
    )
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="model folder")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="medians are of so many")
    parser.add_argument("--json", type=Path, help="write the seconds here")
    options = parser.parse_args()
    report: dict[str, Any] = {"created": now(), "machine": describe_machine(), "rounds": options.rounds, "seconds": {}}
    with _served(options.model) as (url, key):
        for width in WIDTHS_PX:
            report["seconds"][str(width)] = waits(url, key, width, options.rounds)
    segmenter = Segmenter(options.model, cache=engine_cache())
    report["engines"] = [describe_engine(segmenter.engine)]
    for width in WIDTHS_PX:
        report["seconds"][str(width)]["first slice of a 3D box, as the page shows it"] = first_slice_s(
            segmenter, width, options.rounds
        )
    print(f"{report['machine']['cpu']}, medians of {options.rounds}")
    print_rows(serve_table(report))
    if options.json:
        write_json(options.json, report)


@contextmanager
def _served(model: Path) -> Iterator[tuple[str, str]]:
    """Address and key of a server in a process of its own."""
    command = [sys.executable, "-m", "edge", "serve", "--port", str(PORT), "--model", str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout or ():
                if found := re.match(r"key: +(\S+)", line):
                    yield f"http://127.0.0.1:{PORT}", found[1]
                    return
            raise RunError("samedge serve has not started; what stands in its way is said above")
        finally:
            process.terminate()


def _stop(axis: int, answer: object) -> None:
    raise InterruptedError


if __name__ == "__main__":
    main()
