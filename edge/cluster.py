"""Cases spread over a Dask cluster: one loaded engine a worker, a killed worker's case done by another.

Dask schedules and retries; here is only what is given to it. Inputs, outputs and the model lie where every worker sees
them under the same path or address. Outputs appear whole or not at all, so a case that is begun twice is written once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from edge.data.files import remove_partial_files
from edge.data.folders import label_of
from edge.data.remote import absolute
from edge.errors import RunError, SamedgeError
from edge.pipeline import Options
from edge.predict import Job, Prediction, output_folder, predict_case, ran_on, twins_of
from edge.system.cores import available_cores

if TYPE_CHECKING:
    from edge.segmenter import Segmenter

CONNECT_S = 10
_one_case = Lock()  # at a time in a worker: the memory limit is reckoned for one


@dataclass(frozen=True)
class EngineChoice:
    """What every worker loads."""

    model: Path
    backend: str
    precision: str
    threads: int | None  # None: the worker's own, its share of the machine's cores
    options: Options


def predict_on_cluster(
    address: str, paths: Sequence[Path], outputs: Path, choice: EngineChoice, *, root: Path, job: Job
) -> Iterator[tuple[Prediction, dict[str, Any] | None]]:
    """`edge.predict.predict_cases` on a cluster: what became of each case as it ends, and what it ran on.

    Raises:
        RunError: see `spread`.
        ModelError: a worker cannot use the model.
    """
    twins = twins_of(paths)
    do = partial(_predict, outputs=absolute(outputs), choice=choice, root=absolute(root), job=_absolute(job))
    items = [(absolute(path), twins.get(path)) for path in paths]
    for number, result in spread(address, do, items):
        if isinstance(result, SamedgeError):
            raise result
        if isinstance(result, BaseException):
            name = label_of(paths[number], root)
            reason = f"{name}: its worker died again and again, most likely short of memory ({type(result).__name__})"
            yield Prediction(name, "failed", reason), None
        else:
            yield result
    for place in {output_folder(path, root, outputs) for path in paths}:
        remove_partial_files(place)  # of workers killed while they wrote


def spread(address: str, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """What a function returns or raises for each item, as the workers end them, with the item's number.

    Args: address: of a Dask scheduler, such as tcp://host:8786.

    Raises:
        RunError: Dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise RunError("--dask needs Dask: pip install 'samedge[cluster]', here and on the workers") from None
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{address}: no Dask scheduler answers ({type(error).__name__}); start `dask scheduler`"
        ) from None
    with client:
        _check_workers(client, address)
        futures = client.map(function, items, pure=False)
        number = {future.key: place for place, future in enumerate(futures)}
        try:
            for future in as_completed(futures, loop=client.loop):
                raised = future.exception()
                yield number[future.key], future.result() if raised is None else raised
                future.release()  # results of ten thousand cases need not stay on the workers
        finally:
            client.cancel(futures)


def _check_workers(client: Any, address: str) -> None:
    """Raises RunError: there is no worker, or one that lacks this package: it would be asked again and again."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_S)
    except TimeoutError:
        raise RunError(f"{address}: the Dask scheduler has no worker; start `dask worker {address}`") from None
    # by value, as a function of this package could not be read there
    found = client.run(lambda: bool(__import__("importlib.util").util.find_spec("edge")))
    if lacking := [worker for worker, is_there in found.items() if not is_there]:
        raise RunError(f"{lacking[0]}: this Dask worker has no samedge; pip install 'samedge[cluster]' there")


def _predict(
    item: tuple[Path, Path | None], *, outputs: Path, choice: EngineChoice, root: Path, job: Job
) -> tuple[Prediction, dict[str, Any]]:
    """On a worker."""
    with _one_case:
        segmenter = _load(choice)
        prediction = predict_case(item[0], outputs, lambda: segmenter, root=root, job=job, twin=item[1])
        return prediction, ran_on(segmenter)


def _absolute(job: Job) -> Job:
    boxes, boxes_from = (path and path.absolute() for path in (job.prompting.boxes, job.prompting.boxes_from))
    return replace(job, prompting=replace(job.prompting, boxes=boxes, boxes_from=boxes_from))


@cache
def _load(choice: EngineChoice) -> "Segmenter":
    from distributed import get_worker

    from edge.segmenter import Segmenter
    from edge.system.home import engine_cache

    threads = choice.threads or min(available_cores(), get_worker().state.nthreads)
    return Segmenter(
        choice.model, backend=choice.backend, precision=choice.precision, threads=threads, cache=engine_cache(),
        options=choice.options,
    )  # fmt: skip
