"""nnInteractive's protocol, version 2, as 3D Slicer's extension and napari's plugin speak it.

Arrays are (C, D, H, W) in the client's own order of axes; a box is `[[d0, d1], [h0, h1], [w0, w1]]`, half-open. Answers
carry the part of the mask that changed, and `X-Meta` says where that lies.
"""

import json
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge.data.case import Case, make_case
from edge.data.extent import extent_of
from edge.data.intensity import SUV, to_greys
from edge.data.scan import Reading
from edge.errors import CaseError, in_one_line
from edge.memory import MIB
from edge.segmenter import Segmenter
from edge.serve.leases import LEASE, Lease, Leases
from edge.serve.session import Session
from edge.serve.wire import TYPES, announced, pack_array, unpack_array

META = "X-Meta"
LABEL = 1  # the protocol has one object at a time; a reset begins the next
MAX_SIDE = 2**24  # of what may be a box's place
UNSUPPORTED = ("point", "scribble", "initial_seg")


class Protocol:
    """The routes; each client's requests are answered in a thread, one after the other."""

    def __init__(self, segmenter: Segmenter, leases: Leases, reading: Reading) -> None:
        """Args: reading: modality and window of all images; what is None is guessed from the intensities."""
        self._segmenter, self._leases, self._reading = segmenter, leases, reading

    def routes(self) -> list[Route]:
        """All of them."""
        posts: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/claim": self._claim,
            "/release": self._release,
            "/heartbeat": self._heartbeat,
            "/set_image": self._acting(self._set_image),
            "/set_target_buffer": self._acting(self._set_target_buffer),
            "/reset_interactions": self._acting(self._reset),
            "/set_do_autozoom": self._acting(lambda lease, content, meta: JSONResponse({})),  # there is no zoom
            "/add_bbox_interaction": self._acting(self._add_bbox),
            "/add_lasso_interaction": self._acting(self._add_lasso),
            "/predict": self._acting(lambda lease, content, meta: self._change(lease)),
            "/undo": self._acting(self._undo),
            **{f"/add_{kind}_interaction": self._acting(_refuse_interaction) for kind in UNSUPPORTED},
        }
        gets = {"/healthz": _healthz, "/capabilities": self._capabilities, "/lease_status": self._lease_status}
        return [
            *(Route(path, endpoint, methods=["GET"]) for path, endpoint in gets.items()),
            *(Route(path, endpoint, methods=["POST"]) for path, endpoint in posts.items()),
        ]

    async def _capabilities(self, request: Request) -> Response:
        can = {"bbox2d": True, "bbox3d": True, "lasso": True, "points": False, "scribble": False}
        return JSONResponse(
            {
                "supported_interactions": can,
                "channel_mapping": {},
                "num_interaction_channels": 0,
                "supports_initial_label": False,
                "supports_zero_shot_label_refinement": False,
                "supports_undo": True,
                "preferred_scribble_thickness": [1, 1, 1],
                "interaction_decay": None,
                "do_autozoom": False,
                "inference_session_version": f"samedge {version('samedge')}",
                "license": self._segmenter.engine.description.licence or "!!MISSING!!",
            }
        )

    async def _claim(self, request: Request) -> Response:
        lease, limits = self._leases.claim(), self._leases.limits
        return JSONResponse(
            {
                "lease_token": lease.token,
                "idle_timeout_seconds": limits.idle_s,
                "liveness_timeout_seconds": limits.liveness_s,
                "max_sessions": limits.sessions,
            }
        )

    async def _release(self, request: Request) -> Response:
        self._leases.release(request.headers.get(LEASE))
        return JSONResponse({"released": True})

    async def _heartbeat(self, request: Request) -> Response:
        lease = self._leases.get(request.headers.get(LEASE), acts=False)
        return JSONResponse({"remaining_seconds": self._leases.remaining_s(lease)})

    async def _lease_status(self, request: Request) -> Response:
        remaining_s = self._leases.remaining_s(self._leases.peek(request.headers.get(LEASE)))
        return JSONResponse({"remaining_seconds": remaining_s, "idle_timeout_seconds": self._leases.limits.idle_s})

    def _acting(self, answer: Callable[[Lease, bytes, Any], Response]) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint: a user's action on a lease, with the request's body and what `X-Meta` or its JSON says."""

        async def endpoint(request: Request) -> Response:
            lease = self._leases.get(request.headers.get(LEASE))
            content = await request.body()
            is_json = request.headers.get("content-type", "").startswith("application/json")
            meta = read_json(content if is_json else request.headers.get(META, "{}"))
            return await run_in_threadpool(locked, lease, content, meta)

        def locked(lease: Lease, content: bytes, meta: dict[str, Any]) -> Response:
            with lease.lock:
                return answer(lease, content, meta)

        return endpoint

    def _set_image(self, lease: Lease, content: bytes, meta: dict[str, Any]) -> Response:
        shape, _, _ = announced(content)
        if len(shape) != 4 or shape[0] != 1:
            raise CaseError(f"image: must be (1, D, H, W), one channel of a volume, got shape {shape}")
        with self._unpacked(lease, content) as array:
            session = Session(self._segmenter, self._case(array[0], meta.get("image_properties")))
        lease.session, lease.shown = session, np.zeros(shape[1:], dtype=bool)
        return JSONResponse({"original_image_shape": list(shape)})

    def _set_target_buffer(self, lease: Lease, content: bytes, meta: dict[str, Any]) -> Response:
        expected, shape, name = _session(lease).case.shape, meta.get("shape"), meta.get("dtype")
        if shape != list(expected):
            raise CaseError(f"target buffer: must have the image's shape {expected}, got {str(shape)[:80]}")
        if name not in TYPES:
            raise CaseError(f"target buffer: its type must be one of {', '.join(TYPES)}, got {str(name)[:80]}")
        lease.dtype, lease.shown = np.dtype(name), np.zeros(expected, dtype=bool)
        return JSONResponse({})

    def _reset(self, lease: Lease, content: bytes, meta: dict[str, Any]) -> Response:
        session = _session(lease)
        session.reset()
        lease.shown = np.zeros(session.case.shape, dtype=bool)
        return JSONResponse({})

    def _add_bbox(self, lease: Lease, content: bytes, meta: dict[str, Any]) -> Response:
        return self._add(lease, meta.get("bbox_coords"), meta)

    def _add_lasso(self, lease: Lease, content: bytes, meta: dict[str, Any]) -> Response:
        """The box around what was encircled."""
        with self._unpacked(lease, content) as array:
            inside = array != 0
        if inside.ndim != 3 or not inside.any():
            raise CaseError(f"lasso: must be (D, H, W) and mark something, got shape {inside.shape}")
        corner = [first for first, _ in _box(meta.get("interaction_bbox") or [[0, 0]] * 3)]
        box = [[start + part.start, start + part.stop] for start, part in zip(corner, extent_of(inside), strict=True)]
        return self._add(lease, box, meta)

    def _add(self, lease: Lease, box: Any, meta: dict[str, Any]) -> Response:
        if not meta.get("include_interaction", True):
            raise CaseError("boxes say where an object is; one that says where it is not cannot be used")
        low, high = np.array(_box(box), np.float64).T[:, ::-1]
        _session(lease).add_box(LABEL, [*low, *(high - 1)])
        return self._change(lease) if meta.get("run_prediction", True) else _changed(False, None)

    def _undo(self, lease: Lease, content: bytes, meta: dict[str, Any]) -> Response:
        return self._change(lease) if _session(lease).undo() else _changed(False, None)

    def _change(self, lease: Lease) -> Response:
        """The part of the mask that the client has not yet, in its type."""
        mask = _session(lease).mask(LABEL)
        shown, lease.shown = lease.shown, mask
        differs = mask if shown is None else mask != shown
        extent = extent_of(differs)
        part = mask[extent].astype(lease.dtype)
        return _changed(True, [[part.start, part.stop] for part in extent], part) if part.size else _changed(True, None)

    @contextmanager
    def _unpacked(self, lease: Lease, content: bytes) -> Iterator[npt.NDArray]:
        """The array of a request, once there is memory for it and for what is made of it."""
        shape, dtype, _ = announced(content)
        nbytes, most = math.prod(shape) * dtype.itemsize, self._leases.limits.array_mib * MIB
        if nbytes > most:
            raise CaseError(f"array: {nbytes / MIB:.0f} MiB unpacked, the limit is {most / MIB:.0f}; crop the image")
        with self._leases.hold(max(2 * nbytes, nbytes + 3 * math.prod(shape)), lease):
            yield unpack_array(content)

    def _case(self, volume: npt.NDArray, properties: Any) -> Case:
        """Intensities as greys, as `samedge predict` makes them of a scan."""
        if volume.dtype.kind == "f" and not np.isfinite(volume).any():
            raise CaseError("image: holds no finite intensity")
        modality, window = self._reading.modality, self._reading.window
        if window == SUV:
            raise CaseError(f"image: --window {SUV} needs DICOM, which the page opens; a viewer sends no unit")
        greys, _ = to_greys(volume.view(np.uint8) if volume.dtype == bool else volume, 1.0, 0.0, modality, window)
        case = make_case("image", greys, np.zeros((0, 6)), shaped=3)
        return replace(case, spacing_mm=_spacing(properties), stated_modality=modality)


async def _healthz(request: Request) -> Response:
    return JSONResponse({"ok": True})


def _refuse_interaction(lease: Lease, content: bytes, meta: dict[str, Any]) -> Response:
    return JSONResponse({"detail": "samedge takes boxes; draw one around the object, in a slice or in 3D"}, 501)


def _changed(ran: bool, box: list[list[int]] | None, part: npt.NDArray | None = None) -> Response:
    meta: dict[str, Any] = {"ran_prediction": ran, "bbox": box}
    if part is not None:
        meta |= {"dtype": part.dtype.name, "shape": list(part.shape)}
    content = b"" if part is None else pack_array(part)
    return Response(content, media_type="application/octet-stream", headers={META: json.dumps(meta)})


def _session(lease: Lease) -> Session:
    if lease.session is None:
        raise CaseError("there is no image yet; set one first")
    return lease.session


def read_json(text: str | bytes) -> dict[str, Any]:
    """What a client says.

    Raises:
        CaseError: it is no JSON object.
    """
    try:
        content = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise CaseError(f"request: no JSON ({in_one_line(error)})") from None
    if not isinstance(content, dict):
        raise CaseError(f"request: must be a JSON object, got {type(content).__name__}")
    return content


def _box(box: Any) -> list[list[int]]:
    """The three half-open ranges of a box."""
    try:
        ranges = [[int(start), int(stop)] for start, stop in box]
    except (TypeError, ValueError, OverflowError):
        ranges = []
    if len(ranges) != 3 or max(abs(end) for pair in ranges for end in pair) > MAX_SIDE:
        raise CaseError(f"box: must be [[d0, d1], [h0, h1], [w0, w1]], got {str(box)[:80]}")
    return ranges


def _spacing(properties: Any) -> tuple[float, float, float] | None:
    """An image's spacing of D, H and W, in mm; None: it states none that can be used."""
    try:
        d, h, w = (float(side) for side in properties["spacing"])
    except (TypeError, KeyError, ValueError, OverflowError):
        return None
    return (d, h, w) if all(math.isfinite(side) and side > 0 for side in (d, h, w)) else None
