"""Whether this machine can do what is asked of it: one line for each thing that may stand in the way."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from edge.errors import SamedgeError, in_one_line
from edge.memory import memory_limit_mib
from edge.system.cores import available_cores, cpu_quota
from edge.system.home import home
from edge.system.machine import describe_machine

READERS = {
    "NIfTI": ("nibabel", "pip install nibabel"),
    "DICOM": ("pydicom", "pip install 'samedge[dicom]'"),
    "JPEG 2000 in DICOM": ("pylibjpeg-openjpeg", "pip install 'samedge[dicom]'"),
    "JPEG and JPEG-LS in DICOM": ("pylibjpeg-libjpeg", "pip install 'samedge[dicom]'"),
    "DICOM SEG": ("highdicom", "pip install 'samedge[dicom]'"),
    "NRRD, MetaImage": ("simpleitk", "pip install 'samedge[itk]'"),
}
ENGINES = ("openvino", "onnxruntime")
LEAST_MIB = 1024  # a 2D case takes a third of it
LEAST_DICE = 0.6  # of a phantom that the model that ships has 0.9 of
PHANTOM = ("2DBox_CT_doctor", (256, 256), 2, 7)  # name, shape, objects, seed


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "note", "bad"]  # note: something is not there that only some need; bad: predict will fail
    said: str


def examine(model: Path | None = None) -> Iterator[Check]:
    """Look at machine, limits, engines, readers, folders and model, the quick things first."""
    machine = describe_machine()
    yield Check("CPU", "ok", f"{machine['cpu']}, {machine['cores']} cores, {', '.join(machine['flags']) or 'no AVX2'}")
    quota = cpu_quota()
    yield Check("threads", "ok", f"{available_cores()}" + (f", CPU quota {quota:g} cores" if quota else ""))
    limit = memory_limit_mib()
    memory = f"{machine['memory_mib']} MiB" + (f", limit of the container {limit:.0f} MiB" if limit else "")
    yield Check("memory", "ok" if min(limit or 2**30, machine["memory_mib"]) >= LEAST_MIB else "bad", memory)
    engines = {name: _version(name) for name in ENGINES}
    there = ", ".join(f"{name} {version}" for name, version in engines.items() if version)
    yield Check("engines", "ok" if there else "bad", there or "none; pip install openvino")
    for what, (package, cure) in READERS.items():
        version = _version(package)
        yield Check(what, "ok" if version else "note", f"{package} {version}" if version else f"not there; {cure}")
    yield _folder("cache", lambda: home() / "openvino", "each start takes longer; set SAMEDGE_HOME")
    yield _folder("this folder", Path.cwd, "give predict another folder for its outputs")
    yield from _model(model)


def _model(model: Path | None) -> Iterator[Check]:
    from edge.data.phantom import make_phantom
    from edge.engines.model_folder import DEFAULT_MODEL, model_hash
    from edge.scoring.score import mean_dice
    from edge.segmenter import Segmenter

    try:
        segmenter = Segmenter(model or DEFAULT_MODEL)
    except SamedgeError as error:
        yield Check("model", "bad", str(error))
        return
    engine = segmenter.engine
    described = f"{engine.description.name} {model_hash(engine.description)[:12]}, {engine.backend}, {engine.precision}"
    yield Check("model", "ok", f"{described}, loaded in {segmenter.load_s:.2f} s")
    case, start = make_phantom(*PHANTOM), time.perf_counter()
    try:
        labels = segmenter.segment(case).labels
    except Exception as error:  # whatever an engine does on a machine it was not made for
        yield Check("self-test", "bad", f"{type(error).__name__}: {in_one_line(error)}")
        return
    dice = mean_dice(case.truth, labels) if case.truth is not None else 0.0
    said = f"a phantom in {time.perf_counter() - start:.2f} s, DSC {dice:.2f}"
    if dice >= LEAST_DICE or model is not None:
        yield Check("self-test", "ok", said)
    else:
        yield Check(
            "self-test", "bad", f"{said}, expected above {LEAST_DICE}; try --backend onnxruntime, --precision f32"
        )


def _folder(what: str, find: Callable[[], Path], cure: str) -> Check:
    try:
        folder = find()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            free_mib = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize // 2**20
        return Check(what, "ok", f"{folder}, {free_mib} MiB free")
    except (OSError, SamedgeError) as error:
        return Check(what, "note", f"cannot be written ({error}); {cure}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
