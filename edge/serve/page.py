"""The page at `/`: a case of a folder or of the user's, boxes drawn on it, masks as they come, files to keep."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

import numpy as np
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from edge.data.formats.finding import find_inputs
from edge.data.formats.registry import kind_of
from edge.data.outputs import DICOM_ONLY, ENDINGS, check_formats, output_files, write_labels
from edge.data.scan import Reading
from edge.errors import CaseError
from edge.segmenter import Segmenter
from edge.serve.changes import MAX_LABEL, Opened, change
from edge.serve.leases import Lease, Leases
from edge.serve.protocol import LEASE, META, read_json
from edge.serve.session import Session
from edge.serve.uploads import Uploads
from edge.serve.viewer import read_image

STATIC = Path(__file__).parent / "static"
POLICY = {  # for the browser: nothing from outside
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class Page:
    """The routes; a client's requests are answered in threads, one after the other."""

    def __init__(self, segmenter: Segmenter, folder: Path | None, reading: Reading | None) -> None:
        """Args: folder: of cases that are offered; None: none."""
        self._segmenter, self._folder, self._reading = segmenter, folder, reading or Reading()
        self._opened: WeakKeyDictionary[Lease, Opened] = WeakKeyDictionary()
        self._uploads: WeakKeyDictionary[Lease, Uploads] = WeakKeyDictionary()

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        posts = {
            "cases": self._cases, "open": self._open, "box": self._box, "undo": self._undo,
            "redo": self._redo, "remove": self._remove, "refresh": self._refresh, "save": self._save,
        }  # fmt: skip
        return [
            Route("/", _index),
            Route("/page/upload", self._acting(self._upload, reads=bytes), methods=["POST"]),
            *(Route(f"/page/{name}", self._acting(answer), methods=["POST"]) for name, answer in posts.items()),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]

    def _acting(
        self, answer: Callable[..., Response], reads: Callable[[bytes], Any] = read_json
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint: a user's action on a lease, with what the request's body says."""

        async def endpoint(request: Request) -> Response:
            leases: Leases = request.app.state.leases
            lease = leases.get(request.headers.get(LEASE))
            return await run_in_threadpool(answer, lease, reads(await request.body()), request)

        return endpoint

    def _cases(self, lease: Lease, content: Any, request: Request) -> Response:
        return JSONResponse({"cases": list(self._offered(lease))})

    def _offered(self, lease: Lease) -> dict[str, Path]:
        """Name on the page -> path; what the user sent first."""
        try:
            sent = self._uploads[lease].cases() if lease in self._uploads else []
        except CaseError:
            del self._uploads[lease]
            raise
        offered = {path.name: path for path in reversed(sent)}
        if self._folder is not None:
            root = self._folder if self._folder.is_dir() else self._folder.parent
            for path in find_inputs(self._folder, recursive=self._folder.is_dir()):
                offered.setdefault(str(path.relative_to(root)), path)
        return offered

    def _upload(self, lease: Lease, content: bytes, request: Request) -> Response:
        meta = read_json(request.headers.get(META, "{}"))
        if meta.get("first") or lease not in self._uploads:
            self._uploads[lease] = Uploads(request.app.state.leases.limits.array_mib)
        self._uploads[lease].add(str(meta.get("name", "")), content)
        return JSONResponse({})

    def _open(self, lease: Lease, content: dict[str, Any], request: Request) -> Response:
        name = str(content.get("case"))
        path = self._offered(lease).get(name)
        if path is None:
            raise CaseError(f"{name}: no such case in the folder; load the page again")
        with lease.lock:
            image, nifti = read_image(path, self._reading)
            with request.app.state.leases.hold(len(nifti) + image.case.image.nbytes, lease):
                session = Session(self._segmenter, image.case)
                lease.session = session
                self._opened[lease] = Opened(
                    name, image, session, np.zeros(image.grid.shape, np.uint8), self._uploads.get(lease)
                )
        case, kind = image.case, kind_of(path)
        formats = ["nifti", "npz", *(["dicom-seg"] if kind == "dicom" else []), *([] if case.is_volume else ["png"])]
        told = {
            "name": name,
            "shape": image.grid.shape,
            "is_volume": case.is_volume,
            "modality": case.modality,
            "has_intensities": image.has_intensities,
            "formats": formats,
            "notes": [str(note) for note in case.notes],
        }
        return Response(nifti, media_type="application/octet-stream", headers={META: json.dumps(told)})

    def _box(self, lease: Lease, content: dict[str, Any], request: Request) -> Response:
        opened, label = self._of(lease, content), _label(content)
        try:
            box = np.array(content.get("box"), np.float64).reshape(6)
        except (TypeError, ValueError):
            raise CaseError("box: must be six numbers i, j, k of the first and the last voxel") from None
        in_volume = opened.image.grid.box_in_volume(box)
        drawn = in_volume if opened.image.case.is_volume else in_volume[[0, 1, 3, 4]]
        walk = bool(content.get("walk", True))
        return _changing(lease, opened, lambda: opened.session.add_box(label, drawn, walk=walk), label)

    def _undo(self, lease: Lease, content: dict[str, Any], request: Request) -> Response:
        opened = self._of(lease, content)
        return _changing(lease, opened, lambda: None if opened.session.undo() else "there is nothing to undo")

    def _redo(self, lease: Lease, content: dict[str, Any], request: Request) -> Response:
        opened = self._of(lease, content)
        return _changing(lease, opened, lambda: None if opened.session.redo() else "there is nothing to redo")

    def _remove(self, lease: Lease, content: dict[str, Any], request: Request) -> Response:
        opened, label = self._of(lease, content), _label(content)
        return _changing(lease, opened, lambda: opened.session.remove(label))

    def _refresh(self, lease: Lease, content: dict[str, Any], request: Request) -> Response:
        opened = self._of(lease, content)
        return _changing(lease, opened, lambda: opened.touched.append((slice(None),) * 3))

    def _save(self, lease: Lease, content: dict[str, Any], request: Request) -> Response:
        opened, wanted = self._of(lease, content), str(content.get("format"))
        names = content.get("names") if isinstance(content.get("names"), dict) else {}
        with lease.lock:
            labels, image = opened.session.label_map(), opened.image
            drawn = sorted(opened.session.objects)
        if not drawn:
            raise CaseError(f"{image.case.name}: there is no mask yet; draw a box first")
        if wanted not in ENDINGS:
            raise CaseError(f"format: must be of {', '.join(ENDINGS)}, got {wanted!r}")
        rows: Sequence[int] = range(1, drawn[-1] + 1)
        if wanted in DICOM_ONLY:  # segment k is label k: none for numbers that nobody drew
            rows, numbers = drawn, np.zeros(drawn[-1] + 1, labels.dtype)
            numbers[drawn] = np.arange(1, len(drawn) + 1)
            labels = numbers[labels]
        case = replace(
            image.case,
            boxes=np.zeros((len(rows), image.case.boxes.shape[1])),
            label_names=tuple(str((names or {}).get(str(row)) or f"label {row}") for row in rows),
        )
        with TemporaryDirectory() as folder:
            check_formats(case, image.path, (wanted,))
            write_labels(case, labels, image.path, Path(folder), (wanted,))
            (file,) = output_files(image.path, Path(folder), (wanted,))
            body = file.read_bytes()
        disposition = f"attachment; filename*=utf-8''{quote(file.name)}"
        return Response(body, media_type="application/octet-stream", headers={"Content-Disposition": disposition})

    def _of(self, lease: Lease, content: dict[str, Any]) -> Opened:
        if lease not in self._opened or self._opened[lease].session is not lease.session:
            raise CaseError("no image is open; open one first")
        opened, shown = self._opened[lease], content.get("case")
        if shown not in (None, opened.name):
            raise CaseError(f"{shown}: {opened.name} was opened after it; choose it again")
        return opened


def _changing(
    lease: Lease, opened: Opened, act: Callable[[], str | None], label: int | None = None
) -> StreamingResponse:
    lines = change(lease, opened, act, label)
    return StreamingResponse(_as_long_as_read(lines), media_type="application/x-ndjson")


async def _as_long_as_read(lines: Generator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a generator, closed at once when the client has gone: left to itself it ends at some time later."""
    try:
        async for line in iterate_in_threadpool(lines):
            yield line
    finally:
        lines.close()


async def _index(request: Request) -> Response:
    return FileResponse(STATIC / "index.html", headers=POLICY)


def _label(content: dict[str, Any]) -> int:
    label = content.get("label")
    if type(label) is not int or not 1 <= label <= MAX_LABEL:
        raise CaseError(f"label: must be a whole number from 1 to {MAX_LABEL}, got {label!r}")
    return label
