"""The real client of nnInteractive's protocol against `samedge serve`."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from edge.data.formats.nifti import read_scan
from edge.data.formats.registry import read_input
from edge.data.scan import Reading
from edge.segmenter import Segmenter
from edge.serve.leases import Limits
from edge.serve.session import Session
from tests.edge.serve.conftest import KEY, Server, serving

Connect = Callable[[Server], Any]
BLANK = np.zeros((1, 12, 200, 256), np.uint8)


def begin(client: Any, image: np.ndarray = BLANK, dtype: type = np.uint8) -> np.ndarray:
    """An image with an empty target buffer."""
    client.set_image(image, {"spacing": np.array([2.0, 1.0, 1.0])})
    target = np.zeros(image.shape[1:], dtype)
    client.set_target_buffer(target)
    return target


def test_boxes_on_a_scan_give_the_masks_of_predict(shared: Path, shipped: Segmenter, connect: Connect) -> None:
    """A scan's intensities go over the wire; in 3D the mask is predict's, of a slice the session's walk."""
    path = shared / "data" / "nifti" / "MR_hippocampus001_image.nii.gz"
    scan, case = read_scan(path, Reading()), read_input(path, Reading())
    depth, height, width = case.shape
    box = np.array([width // 2 - 6, height // 2 - 6, depth // 2 - 4, width // 2 + 5, height // 2 + 5, depth // 2 + 4])
    image = np.ascontiguousarray(scan.geometry.to_volume(scan.array))[None]
    with serving(shipped, Reading(modality="MR")) as server:
        client = connect(server)
        client.set_image(image, {"spacing": case.spacing_mm})
        target = np.zeros(case.shape, np.uint8)
        client.set_target_buffer(target)
        client.add_bbox_interaction([[b, e + 1] for b, e in zip(box[2::-1], box[:2:-1], strict=True)], True)
        assert target.any() and np.array_equal(target, shipped.segment_arrays(case.image, box[None], case.name))
        client.reset_interactions()
        assert not target.any()
        z = int(box[2] + box[5]) // 2
        client.add_bbox_interaction([[z, z + 1], [box[1], box[4] + 1], [box[0], box[3] + 1]], True)
        session = Session(shipped, case)
        session.add_box(1, [*box[:2], z, *box[3:5], z])
        assert target[z - 3 : z + 4].any(axis=(1, 2)).all() and np.array_equal(target == 1, session.mask(1))


def test_undo_gives_back_what_was_before(server: Server, connect: Connect) -> None:
    """Also of a box that was added without a prediction; where nothing is left to undo it says so."""
    client = connect(server)
    target = begin(client)
    assert client.supports_undo and client.supported_interactions == {
        "bbox2d": True, "bbox3d": True, "lasso": True, "points": False, "scribble": False,
    }  # fmt: skip
    assert client.add_bbox_interaction([[4, 5], [20, 60], [30, 80]], True) is not None
    first = target.copy()
    client.add_bbox_interaction([[9, 10], [100, 150], [30, 80]], True, run_prediction=False)
    assert np.array_equal(target, first)
    changed = client._predict()
    assert not np.array_equal(target, first) and changed[1][1] == 150
    assert client.undo() and np.array_equal(target, first)
    assert client.undo() and not target.any()
    assert not client.undo()
    client.set_do_autozoom(True)
    assert client.ping() and client.lease_status()["remaining_seconds"] > 1000 and client.heartbeat() > 1000


def test_a_lasso_is_the_box_around_it(server: Server, connect: Connect) -> None:
    """As a whole mask, and cut to where it is; on any axis. The answer is of the target buffer's type."""
    client = connect(server)
    target = begin(client, dtype=np.float32)
    told: list[str] = []
    client._http.event_hooks["response"] = [lambda response: told.append(response.headers.get("X-Meta", ""))]
    client.add_bbox_interaction([[0, 12], [20, 60], [40, 41]], True)
    boxed = target.copy()
    assert set(np.unique(boxed)) == {0, 1} and '"dtype": "float32"' in told[-1]
    lasso = np.zeros(BLANK.shape[1:], np.uint8)
    lasso[0, 30:60, 40] = lasso[11, 20:50, 40] = 1
    for mask, box in ((lasso, None), (lasso[:, 10:70, 40:41], [[0, 12], [10, 70], [40, 41]])):
        client.reset_interactions()
        client.add_lasso_interaction(mask, True, interaction_bbox=box)
        assert np.array_equal(target, boxed)


def test_two_clients_do_not_see_each_other(server: Server, connect: Connect) -> None:
    """Each has its own image, boxes and undo; a third one's guess at a token is no way in."""
    one, other = connect(server), connect(server)
    targets = begin(one), begin(other, np.zeros((1, 5, 64, 64), np.int16))
    one.add_bbox_interaction([[2, 9], [20, 60], [30, 80]], True)
    assert targets[0].any() and not targets[1].any() and not other.undo()
    other.add_bbox_interaction([[0, 5], [5, 20], [5, 20]], True)
    assert targets[1].any() and one.undo() and not targets[0].any()
    headers = {"Authorization": f"Bearer {KEY}", "X-Lease-Token": one._lease_token[:-1] + "x"}
    assert httpx.post(f"{server.url}/undo", headers=headers, json={}).status_code == 410


def test_clients_that_ask_at_the_same_time_get_what_they_would_alone(server: Server, connect: Connect) -> None:
    """Each in its turn of the engine, with its own image's size."""

    def masks(size: int) -> list[np.ndarray]:
        client = connect(server)
        target = begin(client, np.zeros((1, 6, size, size), np.uint8))
        found = []
        for corner in range(5):
            client.reset_interactions()
            client.add_bbox_interaction([[0, 6], [corner, 30], [corner, 20 + corner]], True)
            found.append(target.copy())
        return found

    alone = [masks(size) for size in (64, 100)]
    with ThreadPoolExecutor(4) as pool:
        for size, found in zip((64, 100) * 2, pool.map(masks, (64, 100) * 2), strict=True):
            assert all(np.array_equal(*pair) for pair in zip(found, alone[size == 100], strict=True))


def test_a_client_that_dies_frees_its_lease(filler: Segmenter) -> None:
    """Killed, it sends no heartbeat; one that lives keeps its lease, and one that closes frees it at once."""
    from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession

    script = """
import sys, time
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession
session = nnInteractiveRemoteInferenceSession(sys.argv[1], api_key=sys.argv[2])
print("claimed", flush=True)
time.sleep(60)
"""
    with serving(filler, limits=Limits(sessions=1, liveness_s=1.5)) as server:
        with subprocess.Popen(
            [sys.executable, "-c", script, server.url, KEY], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None and process.stdout.readline() == "claimed\n"
            claimed = httpx.post(f"{server.url}/claim", headers={"Authorization": f"Bearer {KEY}"})
            assert claimed.status_code == 503 and "try again later" in claimed.json()["detail"]
            process.send_signal(signal.SIGKILL)
        time.sleep(3)
        assert not server.leases._leases  # without that anybody asked
        with nnInteractiveRemoteInferenceSession(server.url, api_key=KEY) as client:
            assert client.heartbeat() > 0
        assert not server.leases._leases


def test_what_cannot_be_done_is_said(server: Server, connect: Connect) -> None:
    """In one line, as an error of the client; the session goes on."""
    client = connect(server)

    def refused(status: int, words: str, call: Callable, *arguments: object, **named: object) -> None:
        with pytest.raises(httpx.HTTPStatusError) as error:
            call(*arguments, **named)
        assert error.value.response.status_code == status and words in error.value.response.json()["detail"]

    refused(400, "set one first", client.add_bbox_interaction, [[0, 5], [5, 20], [5, 20]], True)
    refused(400, "one channel", client.set_image, np.zeros((3, 4, 8, 8), np.uint8))
    refused(400, "no finite", client.set_image, np.full((1, 4, 8, 8), np.nan, np.float32))
    target = begin(client)
    refused(400, "the image's shape", client.set_target_buffer, np.zeros((4, 4, 4)))
    client.set_target_buffer(target)
    refused(400, "where it is not", client.add_bbox_interaction, [[0, 5], [5, 20], [5, 20]], False)
    refused(400, "outside the image", client.add_bbox_interaction, [[0, 5], [500, 520], [5, 20]], True)
    refused(400, "minimum above", client.add_bbox_interaction, [[0, 5], [20, 20], [5, 20]], True)
    refused(400, "box: must be", client.add_bbox_interaction, [[0, 5], [20, 40]], True)
    refused(501, "takes boxes", client.add_point_interaction, [1, 2, 3], True)
    refused(501, "takes boxes", client.add_scribble_interaction, BLANK[0], True)
    refused(501, "takes boxes", client.add_initial_seg_interaction, BLANK[0])
    client.add_bbox_interaction([[0, 12], [5, 20], [5, 20]], True)
    assert target.any()


def test_suv_are_not_guessed_from_numbers_without_a_unit(shipped: Segmenter, connect: Connect) -> None:
    """Becquerels for SUV would be a white image, and a mask of it."""
    with serving(shipped, Reading(window="suv")) as server, pytest.raises(httpx.HTTPStatusError) as error:
        connect(server).set_image(BLANK)
    assert error.value.response.status_code == 400 and "a viewer sends no unit" in error.value.response.json()["detail"]
