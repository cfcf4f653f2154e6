"""HTML pages that stand alone: styles, scripts and pictures within, no address of anything outside."""

import base64
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.data.case import Case
from edge.data.files import write_whole
from edge.errors import RunError
from edge.masks.overlay import draw_overlay

NEEDED = "an HTML report needs jinja2: pip install 'samedge[html]'"
JPEG_QUALITY = 82
IMAGE_PX = 480  # longest side of an image's picture on a page
STRIP_PX = 1200  # width of a row of slices


def check_pages() -> None:
    """Whether pages can be written, before anything is done for one.

    Raises:
        RunError: jinja2 is not installed.
    """
    if find_spec("jinja2") is None:
        raise RunError(NEEDED)


def write_page(path: Path, template: str, values: dict[str, Any]) -> None:
    """Write a template of edge/reports/templates filled in; whatever text goes in is escaped.

    Raises:
        RunError: jinja2 is not installed, or the file cannot be written.
    """
    check_pages()
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("edge.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    write_whole(path, environment.get_template(template).render(values).encode(errors="backslashreplace"))


def number(value: float | None, digits: int = 3) -> str:
    """A number as a page shows it; a dash where there is none."""
    return "–" if value is None or value != value or value == float("inf") else f"{value:.{digits}f}"


def picture(title: str, case: Case, labels: npt.NDArray) -> dict[str, Any]:
    """`draw_overlay` for a page: title, address (data:), and whether it is a wide row of slices."""
    drawn = draw_overlay(case, labels)
    wide = drawn.shape[1] > 2 * drawn.shape[0]
    scale = min(1.0, (STRIP_PX if wide else IMAGE_PX) / max(drawn.shape[:2]))
    size = (max(1, round(drawn.shape[1] * scale)), max(1, round(drawn.shape[0] * scale)))
    small = cv2.resize(np.ascontiguousarray(drawn[..., ::-1]), size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    address = "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
    return {"title": title, "address": address, "wide": wide}
