"""What the page asks of the server: cases, images, boxes, files; without a browser."""

import base64
import errno
import io
import json
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import nibabel
import numpy as np
import pytest

from edge.data.formats.registry import read_input, read_label_map
from edge.errors import CaseError
from edge.segmenter import Segmenter
from edge.serve.changes import change
from edge.serve.leases import Lease, Limits
from edge.serve.uploads import Uploads
from edge.serve.viewer import Grid, _intensities
from tests.edge.dicom_files import write_series
from tests.edge.serve.conftest import KEY, Server, serving

SHAPE = (20, 24, 16)  # of the file, (I, J, K)


class Page:
    """What static/server.js does, and the label map that it would show."""

    def __init__(self, server: Server) -> None:
        self._url, self._token = server.url, ""
        self._token = json.loads(self.post("/claim")[0])["lease_token"]

    def post(self, path: str, body: bytes | None = None, meta: Any = None, **content: Any) -> tuple[bytes, Any]:
        """The answer's body, and what its X-Meta says."""
        data = json.dumps(content).encode() if body is None else body
        try:
            with self.ask(
                path, data, meta, "application/json" if body is None else "application/octet-stream"
            ) as answer:
                return answer.read(), json.loads(answer.headers.get("X-Meta", "{}"))
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{error.code} {json.loads(error.read())['detail']}") from None

    def ask(self, path: str, data: bytes, meta: Any = None, kind: str = "application/json") -> Any:
        """The answer, to be read and closed."""
        headers = {"Authorization": f"Bearer {KEY}", "X-Lease-Token": self._token, "X-Meta": json.dumps(meta or {})}
        request = urllib.request.Request(self._url + path, data, {**headers, "Content-Type": kind})
        return urllib.request.urlopen(request, timeout=60)

    def cases(self) -> list[str]:
        return json.loads(self.post("/page/cases")[0])["cases"]

    def open(self, name: str) -> tuple[np.ndarray, Any]:
        """The image (I, J, K) as the viewer has it, and what is told of it."""
        content, told = self.post("/page/open", case=name)
        image = nibabel.Nifti1Image.from_bytes(content)
        self.labels, self.affine = np.zeros(told["shape"], np.uint8), image.affine
        return np.asarray(image.dataobj), told

    def change(self, action: str, **content: Any) -> list[dict[str, Any]]:
        """The lines, their blocks put into the label map."""
        lines = [json.loads(line) for line in self.post(f"/page/{action}", **content)[0].splitlines()]
        for line in lines:
            if block := line.get("block"):
                part = np.frombuffer(zlib.decompress(base64.b64decode(block["data"])), np.uint8)
                place = tuple(slice(a, a + n) for a, n in zip(block["offset"], block["shape"], strict=True))
                self.labels[place] = part.reshape(block["shape"], order="F")
        return lines


def write_nifti(path: Path, orientation: str) -> np.ndarray:
    """A file with axes that go as said; returns what it holds in RAS order."""
    array = np.random.default_rng(0).integers(-100, 1000, SHAPE, dtype=np.int16)
    ornt = nibabel.orientations.axcodes2ornt(orientation)
    affine = np.diag([2.0, 1.0, 3.0, 1.0]) @ nibabel.orientations.inv_ornt_aff(ornt, SHAPE)
    affine[:3, 3] += (7, -9, 11)
    image = nibabel.Nifti1Image(array, affine)
    nibabel.save(image, path)
    return np.asarray(nibabel.as_closest_canonical(image).dataobj)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cases of several kinds, one in a folder of its own."""
    folder = tmp_path_factory.mktemp("cases")
    for orientation in ("RAS", "LPS", "PIR"):
        write_nifti(folder / f"MR_{orientation}.nii.gz", orientation)
    (folder / "inner").mkdir()
    write_nifti(folder / "inner" / "CT_one.nii", "LAS")
    cv2.imwrite(str(folder / "US_picture.png"), np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="module")
def offering(filler: Segmenter, folder: Path) -> Iterator[Server]:
    """A server that offers the folder; its model fills boxes."""
    with serving(filler, folder=folder) as running:
        yield running


def test_the_page_is_there_without_a_key_and_nothing_else_is(offering: Server) -> None:
    """Its files hold nothing of a user; the browser is told to load nothing from elsewhere."""
    with urllib.request.urlopen(f"{offering.url}/") as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert b"/static/page.js" in answer.read()
    with urllib.request.urlopen(f"{offering.url}/static/page.js") as answer:
        assert "javascript" in answer.headers["Content-Type"]
    for path, code in (("/page/cases", 401), ("/static/../page.py", 404), ("/static/%2e%2e/page.py", 404)):
        with pytest.raises(urllib.error.HTTPError, match=str(code)) as refused:
            urllib.request.urlopen(f"{offering.url}{path}")
        refused.value.close()


def test_the_folders_cases_are_offered_and_no_others(offering: Server) -> None:
    """Those of folders within it, too; a path out of it is no case."""
    page = Page(offering)
    assert sorted(page.cases()) == [
        "MR_LPS.nii.gz", "MR_PIR.nii.gz", "MR_RAS.nii.gz", "US_picture.png", "inner/CT_one.nii",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"400 \.\./cases: no such case"):
        page.open("../cases")
    with pytest.raises(ValueError, match="400 no image is open"):
        page.change("undo")


def test_what_is_done_to_another_image_than_the_last_one_opened_is_refused(offering: Server) -> None:
    """As by a page whose user chose a second case before the first had come."""
    page = Page(offering)
    page.open("MR_RAS.nii.gz")
    page.open("US_picture.png")
    for action in ("box", "undo", "redo", "remove", "refresh", "save"):
        with pytest.raises(
            ValueError, match=r"400 MR_RAS\.nii\.gz: US_picture\.png was opened after it; choose it again"
        ):
            page.post(f"/page/{action}", case="MR_RAS.nii.gz", label=1, box=[1, 1, 0, 9, 9, 0], format="npz")
    page.change("box", case="US_picture.png", label=1, box=[1, 1, 0, 9, 9, 0])
    assert page.labels.any()


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
def test_a_scan_is_shown_as_it_is_and_saved_as_predict_saves_it(
    offering: Server, filler: Segmenter, folder: Path, tmp_path: Path, orientation: str
) -> None:
    """However its axes go: stored intensities at their place, boxes back to the voxels they were drawn on, labels in
    the file's own order, equal to those of `segment` for the same boxes."""
    path, page = folder / f"MR_{orientation}.nii.gz", Page(offering)
    image, told = page.open(path.name)
    original = nibabel.load(path)
    assert np.array_equal(image, np.asarray(nibabel.as_closest_canonical(original).dataobj))
    assert np.allclose(page.affine, nibabel.as_closest_canonical(original).affine)
    assert told["has_intensities"] and told["modality"] == "MR" and told["formats"] == ["nifti", "npz"]
    case = read_input(path)
    grid = Grid.of(case.geometry)
    thick = grid.axes.index(0)  # the viewer's axis that slices are stacked along
    first, last = np.array([2, 3, 4]), np.array([6, 9, 8])
    flat_first, flat_last = np.array([10, 12, 2]), np.array([12, 14, 9])
    flat_last[thick] = flat_first[thick]
    boxes = [np.concatenate([first, last]), np.concatenate([flat_first, flat_last])]
    lines = page.change("box", label=1, box=boxes[0].tolist())
    assert sum("slice" in line for line in lines) == last[thick] - first[thick] + 1
    lines = page.change("box", label=2, box=boxes[1].tolist(), walk=False)
    assert [one["boxes"] for one in lines[-1]["objects"]] == [[box.tolist()] for box in boxes]
    expected = filler.segment(replace(case, boxes=np.stack([grid.box_in_volume(box) for box in boxes]))).labels
    assert set(np.unique(expected)) == {0, 1, 2}
    assert np.array_equal(page.labels, grid.shown(expected))
    content, _ = page.post("/page/save", format="nifti", names={"1": "one"})
    (tmp_path / "labels.nii.gz").write_bytes(content)
    assert np.array_equal(read_label_map(tmp_path / "labels.nii.gz").labels, expected)
    saved = nibabel.load(tmp_path / "labels.nii.gz")
    assert saved.shape == original.shape and np.allclose(saved.affine, original.affine)
    assert lines[-1]["objects"][0]["ml"] == pytest.approx(np.sum(expected == 1) * 0.006, abs=1e-3)


def test_undo_redo_and_removal_change_what_is_shown(offering: Server) -> None:
    """The label map on the page is that of the objects that are left."""
    page = Page(offering)
    page.open("MR_RAS.nii.gz")
    page.change("box", label=1, box=[2, 2, 2, 8, 8, 8])
    one = page.labels.copy()
    page.change("box", label=2, box=[12, 12, 2, 16, 16, 8])
    both = page.labels.copy()
    assert one.any() and (both == 2).any()
    assert [line["label"] for line in page.change("undo")[-1]["objects"]] == [1]
    assert np.array_equal(page.labels, one)
    page.change("redo")
    assert np.array_equal(page.labels, both)
    assert page.change("redo")[-1]["message"] == "there is nothing to redo"
    page.change("remove", label=1)
    assert not (page.labels == 1).any() and (page.labels == 2).any()
    page.labels[:] = 9  # as if a walk had been stopped in the middle
    page.change("refresh")
    assert set(np.unique(page.labels)) == {0, 2}


def test_who_stops_reading_takes_the_box_back(
    offering: Server, filler: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next slice, and before anything else is answered."""
    page, encode, encoded = Page(offering), filler.engine.encode, []

    def slowly(images: np.ndarray) -> np.ndarray:
        encoded.append(len(images))
        time.sleep(0.2)
        return encode(images)

    page.open("MR_LPS.nii.gz")
    page.change("box", label=1, box=[2, 2, 2, 4, 4, 3])
    before = page.labels.copy()
    monkeypatch.setattr(filler.engine, "encode", slowly)
    with page.ask("/page/box", json.dumps({"label": 2, "box": [1, 1, 0, 9, 9, 15]}).encode()) as answer:
        assert "slice" in json.loads(answer.readline())
    assert [one["label"] for one in page.change("refresh")[-1]["objects"]] == [1]
    assert len(encoded) < 12 and np.array_equal(page.labels, before)  # of 16


def test_a_picture_takes_flat_boxes(offering: Server, tmp_path: Path) -> None:
    """Its labels are written as a picture as well."""
    page = Page(offering)
    image, told = page.open("US_picture.png")
    assert image.shape == (60, 40, 1) and not told["is_volume"] and "png" in told["formats"]
    lines = page.change("box", label=1, box=[5, 6, 0, 20, 18, 0])
    assert lines[-1]["objects"][0]["voxels"] == np.count_nonzero(page.labels) > 100
    (tmp_path / "labels.png").write_bytes(page.post("/page/save", format="png", names={})[0])
    labels = cv2.imread(str(tmp_path / "labels.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(labels > 0, np.flip(page.labels[..., 0].T, (0, 1)) > 0)  # right is left in the viewer


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"label": 0, "box": [1, 1, 1, 2, 2, 2]}, "label: must be a whole number from 1 to 255"),
        ({"label": True, "box": [0] * 6}, "label: must be a whole number from 1 to 255, got True"),
        ({"label": 1, "box": [1, 2, 3]}, "box: must be six numbers"),
        ({"label": 1, "box": ["a"] * 6}, "box: must be six numbers"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(offering: Server, content: dict[str, Any], said: str) -> None:
    """And the session goes on."""
    page = Page(offering)
    page.open("MR_RAS.nii.gz")
    with pytest.raises(ValueError, match=f"400 {said}"):
        page.change("box", **content)
    with pytest.raises(ValueError, match="there is no mask yet; draw a box first"):
        page.post("/page/save", format="nifti")
    assert page.change("box", label=1, box=[2, 2, 2, 8, 8, 8])[-1]["objects"]
    for wanted in ({"format": "tiff"}, {}):
        with pytest.raises(ValueError, match="400 format: must be of npz, png, nifti, dicom-seg, rtstruct, got"):
            page.post("/page/save", **wanted)


def test_a_fault_while_a_mask_is_found_is_told_and_the_box_taken_back(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not an answer without an end; what is drawn next is answered."""
    write_nifti(tmp_path / "MR.nii", "RAS")
    segmenter = Segmenter(tiny_model)
    encode = segmenter.engine.encode
    with serving(segmenter, folder=tmp_path) as server:
        page = Page(server)
        page.open("MR.nii")

        def fails(images: np.ndarray) -> np.ndarray:
            raise MemoryError("no memory left")

        monkeypatch.setattr(segmenter.engine, "encode", fails)
        assert page.change("box", label=1, box=[2, 2, 2, 8, 8, 8]) == [{"error": "no memory left"}]
        monkeypatch.setattr(segmenter.engine, "encode", encode)
        assert page.change("refresh")[-1]["objects"] == []
        encoded = []

        def fails_later(images: np.ndarray) -> np.ndarray:
            encoded.append(1)
            return fails(images) if len(encoded) > 2 else encode(images)

        monkeypatch.setattr(segmenter.engine, "encode", fails_later)
        lines = page.change("box", label=1, box=[2, 2, 0, 8, 8, 15])
        assert "slice" in lines[0] and lines[-2]["objects"] == [] and lines[-1] == {"error": "no memory left"}
        assert not page.labels.any()  # what was shown of it is gone
        monkeypatch.setattr(segmenter.engine, "encode", encode)
        assert page.change("box", label=2, box=[2, 2, 2, 8, 8, 8])[-1]["objects"][0]["label"] == 2


def test_what_a_user_does_waits_for_what_is_being_found(filler: Segmenter) -> None:
    """So that stopping takes back what was stopped, and nothing that came after it."""
    lease, did = Lease("token", 0.0, 0.0), []
    opened: Any = SimpleNamespace(session=None, touched=[])

    def act() -> None:
        did.append(lease.lock.locked())
        raise CaseError("refused")

    assert list(change(lease, opened, act)) == [b'{"error": "refused"}\n'] and did == [True]


def test_a_zip_of_a_series_is_opened_and_saved_as_dicom_seg(filler: Segmenter, tmp_path: Path) -> None:
    """With the names that the user gave, of labels that are left after one is taken away."""
    import pydicom

    write_series(tmp_path / "series", np.random.default_rng(0).integers(0, 500, (6, 20, 24), dtype=np.int16))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted((tmp_path / "series").iterdir()):
            archive.write(file, f"study/../{file.name}")
    with serving(filler) as server:
        page = Page(server)
        assert page.cases() == []
        page.post("/page/upload", packed.getvalue(), {"name": "series.zip", "first": True})
        (name,) = page.cases()
        _, told = page.open(name)
        assert "dicom-seg" in told["formats"]
        i, j, k = told["shape"]
        for label in (1, 2, 3):
            page.change("box", label=label, box=[label, 1, 0, i - 2, j - 2, k - 1])
        page.change("remove", label=2)
        content, _ = page.post("/page/save", format="dicom-seg", names={"1": "liver", "3": "spleen"})
    found = pydicom.dcmread(io.BytesIO(content))
    assert found.Modality == "SEG"
    assert [segment.SegmentLabel for segment in found.SegmentSequence] == ["liver", "spleen"]


@pytest.mark.parametrize("wanted", ["nifti", "npz"])
def test_masks_are_saved_whatever_was_sent_since(filler: Segmenter, tmp_path: Path, wanted: str) -> None:
    """A file that is no image takes the place of what was sent, not of the image that is open, nor of its masks."""
    write_nifti(tmp_path / "MR.nii", "RAS")
    with serving(filler) as server:
        page = Page(server)
        page.post("/page/upload", (tmp_path / "MR.nii").read_bytes(), {"name": "MR.nii", "first": True})
        _, told = page.open("MR.nii")
        i, j, k = told["shape"]
        page.change("box", label=1, box=[1, 1, 0, i - 2, j - 2, k - 1])
        before, _ = page.post("/page/save", format=wanted)
        page.post("/page/upload", b"nothing", {"name": "letter.txt", "first": True})
        with pytest.raises(ValueError, match=r"letter\.txt: no image to open"):
            page.cases()
        assert page.post("/page/save", format=wanted)[0] == before


@pytest.mark.parametrize(("largest", "dtype"), [(33_791, np.int16), (33_792, np.float32)])
def test_intensities_are_whole_numbers_where_they_fit(largest: int, dtype: type) -> None:
    """After slope and intercept: HU from 12 and 16 bits stored without a sign."""
    stored = np.array([[[0, largest]]], np.uint16)
    scan: Any = SimpleNamespace(
        geometry=SimpleNamespace(to_volume=lambda array: array), array=stored, slope=1.0, intercept=-1024.0
    )
    shown = _intensities(scan)
    assert shown.dtype == dtype and shown.ravel().tolist() == [-1024, largest - 1024]


def test_what_is_sent_is_bounded_and_cannot_leave_its_folder(filler: Segmenter, tmp_path: Path) -> None:
    """A zip that unpacks to more than an array may, names with paths, what is no zip."""
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("big.nii", bytes(3 * 2**20))
    write_nifti(tmp_path / "MR.nii", "RAS")
    with serving(filler, limits=Limits(array_mib=2)) as server:
        page = Page(server)
        with pytest.raises(ValueError, match="400 more than 2 MiB were opened"):
            page.post("/page/upload", bomb.getvalue(), {"name": "bomb.zip", "first": True})
        with pytest.raises(ValueError, match=r"400 no\.zip: is a damaged or encrypted zip"):
            page.post("/page/upload", b"PK no", {"name": "no.zip", "first": True})
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("MR.nii", np.random.default_rng(0).bytes(2000))
        damaged = bytearray(packed.getvalue())
        damaged[60:600] = bytes(540)
        with pytest.raises(ValueError, match=r"400 lzma\.zip: is a damaged or encrypted zip"):
            page.post("/page/upload", bytes(damaged), {"name": "lzma.zip", "first": True})
        page.post("/page/upload", (tmp_path / "MR.nii").read_bytes(), {"name": "\u6b63" * 100 + ".nii", "first": True})
        assert page.cases()[0].endswith("\u6b63.nii")
        page.post("/page/upload", (tmp_path / "MR.nii").read_bytes(), {"name": "../../MR_x.nii", "first": True})
        assert page.cases() == ["MR_x.nii"]
        page.post("/page/upload", b"nothing", {"name": "letter.txt", "first": True})
        with pytest.raises(ValueError, match=r"400 letter\.txt: no image to open; take .*NIfTI"):
            page.cases()
        assert page.cases() == []  # what could not be read is forgotten


def test_a_full_disk_is_not_taken_for_a_damaged_zip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing it again would not help."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("MR.nii", b"voxels")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Uploads, "_unpack", full)
    with pytest.raises(OSError, match="No space left"):
        Uploads(1).add("series.zip", packed.getvalue())
