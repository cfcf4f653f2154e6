"""The model folder: what export writes and edge loads, checked file by file before an engine sees it."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge.choices import METHODS, TRACKED
from edge.data.files import file_hash, read_json
from edge.data.modality import UNKNOWN
from edge.errors import ModelError
from edge.views.ladder import ViewLadder
from edge.views.prepare import NORMALISATIONS

FORMAT = 2
DEFAULT_MODEL = Path(__file__).parents[1] / "default_model"
DESCRIPTION = "model.json"
STAGES = ("encoder", "decoder")
SLICES, WALK = ["slice"] * 3, ["slice", "neighbour", "mask"]  # what the three channels of a volume can be
Stamps = dict[Path, tuple[int, int, int]]
PROMPTS = ("box", "none")  # none: the model finds by itself what it was trained for, and boxes are passed over


@dataclass(frozen=True)
class ModelDescription:
    """The contents of `model.json`."""

    name: str
    input_size: int  # side of the model frame, px
    embedding_shape: tuple[int, int, int]  # (C, h, w)
    graphs: dict[str, dict[str, list[str]]]  # backend -> stage -> file of the graph, then its weights if they lie apart
    sha256: dict[str, str]  # every file of the folder -> its hash
    normalisation: str = "min-max"  # of the resized image before padding, one of edge.views.prepare.NORMALISATIONS
    prompt: str = "box"  # one of PROMPTS
    views: dict[str, Any] | None = None  # fields of `ladder`, None: it is given whole frames only
    channels: list[str] = field(default_factory=lambda: [*SLICES])  # SLICES, or WALK where a mask is propagated
    methods: dict[str, dict[str, float]] = field(default_factory=dict)  # modality -> method -> DSC of its volumes
    int8_graphs: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # like `graphs`, stages in INT8 only
    int8: dict[str, Any] = field(default_factory=dict)  # backend -> how its INT8 graphs were made, what they lose
    precision: str = "f32"  # of the computation that `graphs` describe
    weights: str = "f32"  # as stored
    made_from: dict[str, Any] = field(default_factory=dict)  # base checkpoint, its SHA-256, versions
    parity: list[dict[str, Any]] = field(default_factory=list)  # per backend, against torch, as measured at export
    speed: dict[str, Any] = field(default_factory=dict)  # of every engine, and the CPU it was measured on
    licence: str = ""
    training_data: str = ""
    format: int = FORMAT

    @property
    def ladder(self) -> ViewLadder | None:
        """The views it was trained on; None: whole frames."""
        return None if self.views is None else ViewLadder(**{**self.views, "sizes": tuple(self.views["sizes"])})

    def method_for(self, modality: str) -> str:
        """The method that validated best on volumes of a modality; tracked where nothing is known.

        Where nobody says the modality, a scan may be of any: the method that is best in their mean.
        """
        scores = self.methods.get(modality, {})
        validated = [known for known in self.methods.values() if known]
        if modality == UNKNOWN and validated:
            shared = set(validated[0]).intersection(*validated)
            scores = {method: sum(known[method] for known in validated) for method in sorted(shared)}
        return max(scores, key=lambda method: scores[method]) if scores else TRACKED

    @property
    def stride(self) -> int:
        """Pixels of the network's input per cell of the embedding."""
        return self.input_size // self.embedding_shape[-1]


def write_description(folder: Path, description: ModelDescription) -> None:
    """Write `model.json` into the folder."""
    (folder / DESCRIPTION).write_text(json.dumps(asdict(description), indent=2) + "\n", encoding="utf-8")


def read_description(folder: Path) -> ModelDescription:
    """The folder's description.

    Raises:
        ModelError: no folder, no or damaged `model.json`, another format version.
    """
    path = folder / DESCRIPTION
    try:
        content = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"{folder}: not a model folder, {DESCRIPTION} is missing; make one with samedge export"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ModelError(f"{path}: format {found}, this version reads format {FORMAT}; export the model again")
    try:
        description = ModelDescription(**content)
    except TypeError as error:
        raise ModelError(f"{path}: {str(error).replace('ModelDescription.__init__() ', '')}") from None
    _check_types(path, description)
    if description.normalisation not in NORMALISATIONS or description.prompt not in PROMPTS:
        raise ModelError(
            f"{path}: needs {description.normalisation} and {description.prompt}, not known to this version"
        )
    if description.views is not None and description.normalisation != "min-max":
        raise ModelError(f"{path}: views are min-max stretched, not {description.normalisation}")
    return description


def graph_files(folder: Path, description: ModelDescription, backend: str, *, int8: bool = False) -> dict[str, Path]:
    """Stage -> graph file for a backend, after checking the hash of every file that belongs to it.

    Args:
        int8: take the INT8 graph of each stage that has one.

    Raises:
        ModelError: the folder has no (INT8) graphs for the backend, or a file is missing or has been changed.
    """
    graphs = _graphs(folder, description, backend, int8)
    for file in _names(graphs):
        if file != Path(file).name:
            raise ModelError(f"{folder / file}: lies outside of its model folder")
        _check_hash(folder / file, description.sha256.get(file))
    return {stage: folder / files[0] for stage, files in graphs.items()}


def stamps_of_graphs(folder: Path, description: ModelDescription, backend: str, *, int8: bool = False) -> Stamps:
    """The stamps of the files that `graph_files` checks; to be taken before that."""
    return stamps_of(folder / file for file in _names(_graphs(folder, description, backend, int8)))


def _graphs(folder: Path, description: ModelDescription, backend: str, int8: bool) -> dict[str, list[str]]:
    """Stage -> its graph's files."""
    graphs = description.graphs.get(backend)
    if graphs is None or {stage.rsplit("_", 1)[-1] for stage in graphs} != set(STAGES):
        raise ModelError(f"{folder}: no {backend} graphs in this model, it has {', '.join(sorted(description.graphs))}")
    if int8:
        if not description.int8_graphs.get(backend):
            raise ModelError(f"{folder}: no INT8 graphs for {backend} in this model; export it with --calibration")
        graphs = {**graphs, **description.int8_graphs[backend]}
    return graphs


def _names(graphs: Mapping[str, list[str]]) -> list[str]:
    """Every file of graphs once, weights that lie beside them too."""
    return list(dict.fromkeys(file for files in graphs.values() for named in files for file in _with_weights(named)))


def stamps_of(paths: Iterable[Path]) -> Stamps:
    """What tells that a file was replaced or written again: its place on the disk, size and time."""
    stamps = {}
    for path in paths:
        with suppress(OSError, ValueError):  # no name that a file can have
            status = path.stat()
            stamps[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return stamps


def check_unchanged(description: ModelDescription, before: Stamps) -> Stamps:
    """The stamps of now, after checking the hash of every file whose stamp is another than `before`.

    Raises:
        ModelError: a file was changed, or is gone.
    """
    now = stamps_of(before)
    for path in before:
        if now.get(path) != before[path]:
            _check_hash(path, description.sha256.get(path.name))
    return now


def stage_for(description: ModelDescription, stage: str, side: int) -> str:
    """What a stage's graph for inputs of `side` px is called, where an engine needs one for each size."""
    return stage if side == description.input_size else f"view{side}_{stage}"


def model_hash(description: ModelDescription) -> str:
    """One SHA-256 that names the model: over the hashes of its files, and what it is shown."""
    lines = "".join(f"{digest}  {file}\n" for file, digest in sorted(description.sha256.items()))
    shown = {key: getattr(description, key) for key in ("normalisation", "prompt", "views", "channels", "methods")}
    return hashlib.sha256((lines + json.dumps(shown, sort_keys=True)).encode()).hexdigest()


def _check_types(path: Path, description: ModelDescription) -> None:
    expected = {
        "input_size": int, "embedding_shape": list, "graphs": dict, "sha256": dict, "int8_graphs": dict, "int8": dict,
        "normalisation": str, "prompt": str,
    }  # fmt: skip
    for key, kind in expected.items():
        value = getattr(description, key)
        if not isinstance(value, kind):
            raise ModelError(f"{path}: {key} must be of type {kind.__name__}, got {value!r}")
    if description.input_size < 1:
        raise ModelError(f"{path}: input_size must be at least 1, got {description.input_size}")
    if not all(isinstance(digest, str) for digest in description.sha256.values()):
        raise ModelError(f"{path}: sha256 must give the SHA-256 of each file as text")
    shape = description.embedding_shape
    if len(shape) != 3:
        raise ModelError(f"{path}: embedding_shape must be three numbers (C, h, w), got {shape}")
    if not all(isinstance(length, int) and length > 0 for length in shape) or shape[1] != shape[2]:
        raise ModelError(f"{path}: embedding_shape must be (C, h, w) with as many rows as columns, got {shape}")
    if description.input_size % shape[2]:
        raise ModelError(
            f"{path}: embedding_shape must be (C, h, w) with whole cells of {description.input_size} px, got {shape}"
        )
    _check_views(path, description)
    if description.channels not in (SLICES, WALK):
        raise ModelError(f"{path}: channels must be {SLICES} or {WALK}, got {description.channels!r}")
    if description.channels == WALK and description.views is None:
        raise ModelError(f"{path}: channels {WALK} need views, a whole slice is shown alone")
    _check_methods(path, description.methods)
    for graphs in (description.graphs, description.int8_graphs):
        for backend, stages in graphs.items():
            if not isinstance(stages, dict) or not all(_are_names(files) for files in stages.values()):
                raise ModelError(f"{path}: graphs of {backend} must list the files of each stage, got {stages!r}")


def _check_views(path: Path, description: ModelDescription) -> None:
    """Sizes that the graphs can take, and shares that make sense."""
    try:
        ladder = description.ladder
        problem = ladder and ladder.problem(description.stride, description.input_size)
    except (TypeError, KeyError, ValueError) as error:
        problem = str(error)
    if problem:
        raise ModelError(f"{path}: views cannot be used ({problem}); export the model again")


def _check_methods(path: Path, methods: Any) -> None:
    known = isinstance(methods, dict) and all(_are_scores(scores) for scores in methods.values())
    if not known:
        raise ModelError(f"{path}: methods must give a DSC to methods of each modality, got {methods!r}")


def _are_scores(scores: Any) -> bool:
    if not isinstance(scores, dict) or set(scores) - (set(METHODS) - {"auto"}):
        return False
    return all(isinstance(dsc, int | float) and 0 <= dsc <= 1 for dsc in scores.values())


def _are_names(files: Any) -> bool:
    return isinstance(files, list) and bool(files) and all(isinstance(file, str) for file in files)


def _with_weights(file: str) -> tuple[str, ...]:
    """A file, and the one that OpenVINO reads beside it, whether or not the description names it."""
    return (file, f"{file.removesuffix('.xml')}.bin") if file.endswith(".xml") else (file,)


def _check_hash(path: Path, expected: str | None) -> None:
    try:
        is_there = path.is_file()
    except (OSError, ValueError):  # no name that a file can have
        is_there = False
    if not is_there:
        raise ModelError(f"{path}: missing from the model folder; copy or export the model again")
    if expected is None:
        raise ModelError(f"{path}: {DESCRIPTION} states no SHA-256 for it")
    found = file_hash(path)
    if found != expected:
        raise ModelError(
            f"{path}: was changed, its SHA-256 is {found[:12]}... and {DESCRIPTION} says {expected[:12]}..."
        )
