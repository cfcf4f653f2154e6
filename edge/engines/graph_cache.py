"""OpenVINO graphs as the engine prepared them, kept from one process to the next.

Reading graphs back takes half of the time that preparing them takes. An entry holds the prepared graph with what the
engine computed from constants (6 to 13 MiB), but not the weights that are read from the model folder. Its name is a
hash of everything the preparation depends on: a changed model, engine, setting or CPU finds none instead of a wrong
one.

Entries appear whole or not at all and are checked before use, so processes may share a folder and a damaged entry is
made anew. A folder that cannot be written serves what it holds; without one, graphs are prepared each time.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge.data.files import remove_partial_files, write_whole
from edge.engines.openvino_import import import_openvino
from edge.errors import RunError
from edge.system.machine import cpu_identity

MAX_ENTRIES = 32  # sixteen graphs (frames, three sizes of views; for one caller, for several) for each of two models
MAX_ENTRY_BYTES = 64 * 2**20
Shapes = Mapping[str, Sequence[int]]
DIGEST_BYTES = 32  # the SHA-256 that an entry begins with
SUFFIX = ".graph"


class EngineCache:
    """Prepared graphs in a folder."""

    def __init__(self, folder: Path | None) -> None:
        """Args: folder: made when something is to be kept; None: nothing is kept."""
        self.folder = folder

    def compile_graph(
        self,
        core: Any,
        graph: Path,
        settings: Mapping[str, Any],
        identity: str,
        *,
        shapes: Shapes | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Any:
        """The compiled model of a graph on the CPU, from the cache where it holds it.

        Args:
            core: `openvino.Core`.
            graph: `.xml` file with its weights in the `.bin` beside it.
            settings: OpenVINO's properties.
            identity: names the graph's and its weights' content, and the engine's version.
            shapes: name of an input -> what its free dimensions become, -1 to leave one free.
            check: called when the files have been read, before anything is kept: raises if they are others by now.
        """
        if self.folder is None:
            compiled = core.compile_model(_read_graph(core, graph, shapes), "CPU", dict(settings))
            check()
            return compiled
        weightless = {**settings, "CACHE_MODE": "OPTIMIZE_SIZE"}
        path = self.folder / f"{_key(identity, shapes, weightless)}{SUFFIX}"
        entry = _read_entry(path)
        if entry is not None:
            with suppress(RuntimeError):  # what OpenVINO raises for an entry that it does not take
                known = {**weightless, "WEIGHTS_PATH": str(graph.with_suffix(".bin"))}
                compiled = core.import_model(entry, "CPU", known)
                check()
                return compiled
        compiled = core.compile_model(_read_graph(core, graph, shapes), "CPU", weightless)
        check()
        self._keep(path, compiled)
        return compiled

    def _keep(self, path: Path, compiled: Any) -> None:
        with suppress(RunError, RuntimeError, OSError):  # a disk that is full or read-only costs time only
            path.parent.mkdir(parents=True, exist_ok=True)
            content = compiled.export_model().getvalue()
            write_whole(path, hashlib.sha256(content).digest() + content)
            _remove_oldest(path.parent)


def _remove_oldest(folder: Path) -> None:
    """Only the MAX_ENTRIES last used stay; what another process removes meanwhile is gone as well."""
    remove_partial_files(folder)
    by_age = []
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError):
            by_age.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(by_age)[:-MAX_ENTRIES]:
        with suppress(OSError):
            path.unlink()


def _read_graph(core: Any, graph: Path, shapes: Shapes | None) -> Any:
    model = core.read_model(str(graph))
    if shapes:
        ports = [port for port in model.inputs if port.any_name in shapes]
        model.reshape({port: _filled(port.partial_shape, shapes[port.any_name]) for port in ports})
    return model


def _filled(partial_shape: Any, shape: Sequence[int]) -> list[Any]:
    return [wanted if length.is_dynamic else length for length, wanted in zip(partial_shape, shape, strict=True)]


def _key(identity: str, shapes: Shapes | None, settings: Mapping[str, Any]) -> str:
    facts = json.dumps([identity, sorted((shapes or {}).items()), sorted(settings.items()), cpu_identity()])
    return hashlib.sha256(facts.encode()).hexdigest()[:32]


def _read_entry(path: Path) -> Any:
    """The entry's graph as `openvino.Tensor`, or None where there is none that is whole; marks it as just used.

    A tensor of the engine's own: it computes with the constants where they lie, and needs no copy of them.
    """
    try:
        with path.open("rb") as file:
            digest = file.read(DIGEST_BYTES)
            size = path.stat().st_size - DIGEST_BYTES
            if not 0 < size <= MAX_ENTRY_BYTES:
                return None
            openvino = import_openvino()
            tensor = openvino.Tensor(openvino.Type.u8, openvino.Shape([size]))
            whole = file.readinto(tensor.data) == size and hashlib.sha256(tensor.data).digest() == digest
    except OSError:
        return None
    if not whole:
        return None
    with suppress(OSError):
        path.touch()
    return tensor
