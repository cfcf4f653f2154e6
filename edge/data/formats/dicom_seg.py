"""DICOM Segmentation (extra `dicom`): a segment for each label, on the slices of the images it is of."""

import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.data.case import Case
from edge.data.files import write_whole
from edge.data.formats.dicom_series import quiet_pydicom
from edge.data.formats.dicom_source import DicomSource
from edge.errors import CaseError, in_one_line

MAKER = "samedge"
SERIES_NUMBER = 9001  # above those that scanners count
OTHER_WORDS = {"tumor": "neoplasm", "tumour": "neoplasm", "oesophagus": "esophagus", "mass": "mass", "lesion": "lesion"}
ABNORMAL = ("neoplasm", "mass", "lesion", "nodule", "edema", "hemorrhage", "cyst")


def write_seg(path: Path, case: Case, labels: npt.NDArray, source: DicomSource) -> None:
    """Write labels of a case as a binary segmentation; label k is segment k.

    Raises:
        CaseError: highdicom refuses the images.
        RunError: the file cannot be written.
    """
    with quiet_pydicom(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import highdicom
        from pydicom.uid import ExplicitVRLittleEndian

        try:
            segmentation = highdicom.seg.Segmentation(
                source_images=source.headers,
                pixel_array=source.slices(labels),
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[_segment(case, row) for row in range(len(case.boxes))],
                series_instance_uid=highdicom.UID(),
                series_number=SERIES_NUMBER,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer=MAKER,
                manufacturer_model_name=MAKER,
                software_versions=_version(),
                device_serial_number="0",
                series_description="samedge segmentation",
                content_label="SEGMENTATION",
                transfer_syntax_uid=ExplicitVRLittleEndian,
                omit_empty_frames=bool(labels.any()),
            )
            if "ImageOrientationPatient" not in source.headers[0] and "PatientOrientation" not in segmentation:
                segmentation.PatientOrientation = None  # type 2C of a picture that lies nowhere in the patient
            content = io.BytesIO()
            segmentation.save_as(content)
        except Exception as error:  # highdicom checks what others wrote, in words of the standard
            raise CaseError(
                f"{case.name}: no DICOM SEG of these images ({in_one_line(error)}); choose --format nifti"
            ) from None
    write_whole(path, content.getvalue())


def read_masks(path: Path, source: DicomSource) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """Number and mask (D, H, W) of each segment, on the images it is of; segments may overlap.

    Raises:
        CaseError: it is of other images, or holds shares of voxels.
    """
    with quiet_pydicom(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import highdicom

        try:
            segmentation = highdicom.seg.segread(path)
            instances = [str(header.SOPInstanceUID) for header in source.headers]
            if not {str(uids[-1]) for uids in segmentation.get_source_image_uids()} & set(instances):
                raise CaseError(f"{source.name}: {path.name} is a segmentation of other images")
            for number in segmentation.segment_numbers:
                wanted: dict[str, Any] = {
                    "segment_numbers": [number],
                    "assert_missing_frames_are_empty": True,
                }  # left out where empty
                read: Any
                if source.order is None:
                    read = segmentation.get_pixels_by_source_instance(instances, **wanted)[..., 0]
                else:
                    frames = [frame + 1 for frame in range(len(source.order))]
                    read = segmentation.get_pixels_by_source_frame(instances[0], frames, **wanted)[..., 0]
                    read = read[source.order]
                if read.dtype.kind == "f" and not ((read == 0) | (read == 1)).all():
                    raise CaseError(f"{source.name}: {path.name} holds shares of voxels; make it binary")
                yield int(number), source.geometry.to_volume(read.astype(bool).T)
        except CaseError:
            raise
        except Exception as error:
            raise CaseError(
                f"{source.name}: {path.name} is no segmentation of these images ({in_one_line(error)})"
            ) from None


def _segment(case: Case, row: int) -> Any:
    import highdicom

    named = case.label_names[row] if row < len(case.label_names) else ""
    label = f"box {row + 1}" if not named else (f"label {named}" if named.isdecimal() else named)
    category, kind = _codes(named)
    return highdicom.seg.SegmentDescription(
        segment_number=row + 1,
        segment_label=label[:64],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=MAKER, family=_family(), version=_version(), parameters={"prompt": "box"}
        ),
    )


def _codes(name: str) -> tuple[Any, Any]:
    """SNOMED codes of a name: its category and its type; where it is none that SNOMED has, an anatomical structure."""
    from pydicom.sr.codedict import codes

    words = [OTHER_WORDS.get(word, word) for word in re.findall(r"[a-z]+", name.lower())]
    orders = [words, words[1:] + words[:1], [word for word in words if word not in ("left", "right")]]
    found = next((code for order in orders if order and (code := _code("".join(map(str.capitalize, order))))), None)
    abnormal = bool(set(words) & set(ABNORMAL))
    category = codes.SCT.MorphologicallyAbnormalStructure if abnormal else codes.SCT.AnatomicalStructure
    return category, found or category


def _code(word: str) -> Any:
    from pydicom.sr.codedict import codes

    return getattr(codes.SCT, word, None) if word in dir(codes.SCT) else None


def _family() -> Any:
    from pydicom.sr.codedict import codes

    return codes.DCM.ArtificialIntelligence


def _version() -> str:
    from importlib import metadata

    return metadata.version("samedge")
