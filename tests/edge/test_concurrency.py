"""One Segmenter for many threads, and what becomes of it in other processes."""

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge import Case, Options, RunError, Segmenter, load_engine, make_case
from edge.engines.concurrency import MEMORY_S, Callers, in_turn
from edge.engines.graph import Graph, Run, decode_boxes
from edge.engines.openvino_engine import NO_SNIPPETS
from edge.engines.runtime import BACKENDS

ROOT = Path(__file__).parents[2]
CALLERS, ROUNDS = 3, 2


def picture(angle: float) -> Case:
    """A large and a small bright ellipse on grey, turned by an angle; boxes around them."""
    y, x = np.mgrid[:160, :200]
    image = np.full((160, 200), 60, np.uint8)
    boxes = []
    for row, column, size in ((50, 60, 1.0), (110, 140, 0.4)):
        u = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
        v = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
        inside = (u / 40) ** 2 + (v / 12) ** 2 <= size**2
        image[inside] = 180
        rows, columns = np.nonzero(inside)
        boxes.append([columns.min(), rows.min(), columns.max(), rows.max()])
    return make_case(f"2DBox_US_{angle}", image, np.array(boxes))


def volume(angle: float) -> Case:
    """Three slices of the picture."""
    flat = picture(angle)
    low, high = np.insert(flat.boxes[:, :2], 2, 0, axis=1), np.insert(flat.boxes[:, 2:], 2, 2, axis=1)
    return make_case(f"3DBox_CT_{angle}", np.stack([flat.image[..., 0]] * 3), np.concatenate([low, high], axis=1))


CASES = [picture(0.7), picture(-0.7), volume(0.2)]


@pytest.mark.parametrize(
    ("backend", "precision", "threads"),
    [("openvino", "f32", 1), ("openvino", "f32", 2), ("openvino", "auto", 2), ("onnxruntime", "f32", 2)],
)
def test_threads_that_share_a_segmenter_each_get_the_mask_made_alone(
    backend: str, precision: str, threads: int
) -> None:
    """The model that ships, three callers with three different cases, over and over."""
    segmenter = Segmenter(backend=backend, precision=precision, threads=threads)
    alone = [segmenter.segment(case).labels for case in CASES]
    assert all(labels.max() == 2 for labels in alone)

    def work(first: int) -> list[bool]:
        turns = [(first + turn) % len(CASES) for turn in range(ROUNDS)]
        return [np.array_equal(segmenter.segment(CASES[at]).labels, alone[at]) for at in turns]

    with ThreadPoolExecutor(CALLERS) as pool:
        assert [all(right) for right in pool.map(work, range(CALLERS))] == [True] * CALLERS


def prepared_graphs(engine: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """File and number of streams of each graph that OpenVINO prepares from now on."""
    prepared: list[tuple[str, int]] = []
    compile_graph = engine._compile

    def compile_and_tell(path: Path, settings: dict[str, Any], *rest: Any, **given: Any) -> Any:
        prepared.append((path.stem, settings["NUM_STREAMS"]))
        return compile_graph(path, settings, *rest, **given)

    monkeypatch.setattr(engine, "_compile", compile_and_tell)
    return prepared


VIEW = np.random.default_rng(0).random((1, 3, 56, 56), dtype=np.float32)


def test_a_graph_that_several_threads_need_first_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for a caller that is alone and once for several, asked for by four threads at the same time."""
    engine = load_engine(threads=2)
    prepared = prepared_graphs(engine, monkeypatch)
    start = threading.Barrier(4)

    def work(_caller: int) -> np.ndarray:
        start.wait()
        return engine.encode(VIEW)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(work, range(4)))
    assert len(prepared) == len(set(prepared)) and {("encoder", 1), ("decoder", 1)} <= set(prepared)
    assert all(np.array_equal(answer, answers[0]) for answer in answers)


def test_graphs_are_loaded_side_by_side_before_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the sizes that a case's boxes are shown in, and no other; none again."""
    segmenter = Segmenter(threads=1)
    prepared = prepared_graphs(segmenter.engine, monkeypatch)
    loaded: list[list[tuple[str, int]]] = []
    encode = segmenter.engine.encode
    monkeypatch.setattr(segmenter.engine, "encode", lambda images: loaded.append(sorted(prepared)) or encode(images))
    case = make_case("2DBox_US_1", np.zeros((200, 200, 3), np.uint8), np.array([[9, 9, 30, 30], [9, 9, 90, 90]]))
    segmenter.segment(case)
    assert len(loaded) == 2 and loaded[0] == loaded[1] == sorted([("encoder", 1), ("decoder", 1)] * 2)
    assert sorted(segmenter.engine._graphs) == [56, 112]


def test_a_decoder_is_loaded_with_a_run_of_as_many_boxes_as_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """In views of their own, or all in the one frame: a number that it has not met takes longer."""
    seen: list[tuple[int, int]] = []

    def decode(graph: Graph, embedding: np.ndarray, boxes: np.ndarray, *rest: Any) -> np.ndarray:
        seen.append((len(embedding), len(boxes)))
        return decode_boxes(graph, embedding, boxes, *rest)

    monkeypatch.setattr("edge.engines.openvino_engine.decode_boxes", decode)
    load_engine(threads=1).prepare({56: 3, 256: 2})
    assert sorted(seen) == [(1, 2), (3, 3)]


def test_an_encoder_has_no_snippets() -> None:
    """Reading them back takes as long as all the rest of its graph; one that was kept with them is not taken."""
    engine = load_engine()
    assert engine._settings.items() >= NO_SNIPPETS.items()
    compiled = engine._prepare("encoder", 56, streams=1)
    kinds = {str(node.get_rt_info()["layerType"].astype(str)) for node in compiled.get_runtime_model().get_ops()}
    assert "FullyConnected" in kinds and "Subgraph" not in kinds


def test_a_setting_that_openvino_does_not_know_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are not documented may go with any version; the engine runs without."""
    monkeypatch.setattr("edge.engines.openvino_engine.NO_SNIPPETS", {"NO_SUCH_SETTING": "DISABLE"})
    assert load_engine(threads=1).encode(VIEW).shape == (1, 256, 14, 14)


def test_what_callers_need_side_by_side_is_not_there_before_they_meet(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads that never call at the same time share what one would have; a model of one thread has no other."""
    for threads, expected in ((2, [1, 2]), (1, [1])):
        engine = load_engine(tiny_model, threads=threads)
        prepared = prepared_graphs(engine, monkeypatch)
        images = np.zeros((1, 3, 256, 256), np.float32)
        for _ in range(2):
            caller = threading.Thread(target=engine.encode, args=(images,))
            caller.start()
            caller.join()
        assert sorted(prepared) == [("decoder", 1), ("encoder", 1)]
        with engine._callers.enter():  # as another caller would be, who is at work
            engine.encode(images)
        assert [streams for file, streams in prepared if file == "encoder"] == expected


def test_callers_side_by_side_get_the_bytes_made_alone() -> None:
    """In f32, of encoder and decoder: half of the threads each is another division of the same sums."""
    engine = load_engine(threads=2)
    box = np.array([[8, 8, 40, 40]], np.float32)
    embedding = engine.encode(VIEW)
    logits = engine.decode(embedding, box)
    with engine._callers.enter():
        assert np.array_equal(engine.encode(VIEW), embedding)
        assert np.array_equal(engine.decode(embedding, box), logits)


def test_callers_are_told_from_one_another_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone; together while another is there, and for a while after; then alone again."""
    now = [100.0]
    monkeypatch.setattr("edge.engines.concurrency.time.monotonic", lambda: now[0])
    callers = Callers()
    with callers.enter() as first, callers.enter() as second:
        assert (first, second) == (False, True)
    for later_s, expected in ((MEMORY_S / 2, True), (MEMORY_S * 2, False)):
        now[0] = 100 + later_s
        with callers.enter() as together:
            assert together is expected


def test_a_request_is_used_by_one_call_at_a_time() -> None:
    """Eight threads, two requests: never more at once, both at once, and one that raised is free again."""
    busy, most = [0, 0], []

    def request(which: int) -> Run:
        def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
            busy[which] += 1
            most.append((busy[which], sum(busy)))
            time.sleep(0.01)
            busy[which] -= 1
            if "fail" in inputs:
                raise ValueError
            return np.zeros(1, np.float32)

        return run

    run = in_turn([request(0), request(1)])
    for _ in range(3):
        with pytest.raises(ValueError):
            run({"fail": np.zeros(1)})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: run({}), range(16)))
    assert max(alone for alone, _ in most) == 1 and max(both for _, both in most) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_forked_process_says_that_engines_do_not_survive_a_fork(backend: str) -> None:
    """While a thread of the parent runs the engine: no hang, no mask, whether the child uses it or loads its own."""
    script = f"""
        import multiprocessing, threading, warnings
        import numpy as np
        from edge import RunError, Segmenter
        from tests.edge.test_concurrency import CASES

        warnings.simplefilter("ignore")
        IMAGE = np.zeros((1, 3, 56, 56), np.float32)

        def child(answers, use):
            try:
                use()
                answers.put("nothing raised")
            except RunError as error:
                answers.put(str(error))

        segmenter = Segmenter(backend={backend!r}, precision="f32", threads=2)
        done = threading.Event()

        def keep_busy():
            while not done.is_set():
                segmenter.segment(CASES[2])

        busy = threading.Thread(target=keep_busy)
        busy.start()
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        uses = [
            lambda: segmenter.segment(CASES[2]), lambda: Segmenter(threads=1), lambda: segmenter.engine.encode(IMAGE)
        ]
        for use in 2 * uses:
            process = context.Process(target=child, args=(answers, use), daemon=True)
            process.start()
            print(answers.get(timeout=30))
        done.set()
        busy.join()
        assert segmenter.segment(CASES[0]).labels.max() == 2  # the parent goes on
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert run.returncode == 0, run.stderr
    messages = run.stdout.splitlines()
    assert len(messages) == 6
    for message in messages:
        assert "had loaded an engine, and engines do not survive a fork" in message and "'spawn'" in message


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_first_segmenters_of_a_process_may_be_made_by_several_threads_at_once(
    tiny_model: Path, tmp_path: Path, backend: str
) -> None:
    """Nothing is imported yet, and they share a cache that is empty."""
    script = f"""
        import threading
        from concurrent.futures import ThreadPoolExecutor
        from pathlib import Path
        from edge import Segmenter
        from tests.edge.test_concurrency import CASES

        start = threading.Barrier(4)

        def work(_caller):
            start.wait()
            segmenter = Segmenter({str(tiny_model)!r}, backend={backend!r}, threads=1, cache=Path({str(tmp_path)!r}))
            return segmenter.segment(CASES[0]).labels

        with ThreadPoolExecutor(4) as pool:
            labels = list(pool.map(work, range(4)))
        print(all((one == labels[0]).all() for one in labels), labels[0].max())
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert (run.stdout.strip(), run.returncode) == ("True 2", 0), run.stderr


def test_a_process_forked_before_an_engine_is_loaded_loads_its_own(tiny_model: Path) -> None:
    """And a parent that was only asked for one it cannot have has loaded none."""
    script = f"""
        import multiprocessing
        from edge import RunError, Segmenter

        def child(answers):
            answers.put(Segmenter({str(tiny_model)!r}, threads=1).engine.threads)

        try:
            Segmenter({str(tiny_model)!r}, backend="tensorrt")
        except RunError:
            pass
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        context.Process(target=child, args=(answers,), daemon=True).start()
        print(answers.get(timeout=60))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert (run.stdout.strip(), run.returncode) == ("1", 0), run.stderr


def segment_in_a_process_of_its_own(model: Path) -> np.ndarray:
    return Segmenter(model, threads=1, options=Options(box_margin_px=0)).segment(CASES[0]).labels


def test_a_spawned_process_makes_its_own(tiny_model: Path) -> None:
    """The same mask, after a Segmenter was made in the parent."""
    here = segment_in_a_process_of_its_own(tiny_model)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply_async(segment_in_a_process_of_its_own, (tiny_model,)).get(timeout=60)
    assert np.array_equal(here, there) and here.max() == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_segmenter_is_not_sent_to_another_process(tiny_model: Path, backend: str) -> None:
    """As an argument of a spawned process, or for a pool: an error in the parent that says what to do instead."""
    segmenter = Segmenter(tiny_model, backend=backend, threads=1)
    for send in (pickle.dumps, copy.deepcopy):
        with pytest.raises(RunError, match="cannot be sent to another process; make a Segmenter"):
            send(segmenter)
    process = multiprocessing.get_context("spawn").Process(target=print, args=(segmenter.segment,))
    with pytest.raises(RunError, match="cannot be sent to another process"):
        process.start()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity of threads")
def test_the_threads_of_an_engine_may_use_every_core_of_the_process() -> None:
    """OpenVINO would pin them: engines of one thread each, in any process, then share the first core."""
    segmenter = Segmenter(backend="openvino", threads=1)
    seen: set[frozenset[int]] = set()
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            for task in Path("/proc/self/task").iterdir():
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    seen.add(frozenset(os.sched_getaffinity(int(task.name))))

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        segmenter.segment(CASES[0])
        done.set()
        looking.result()
    assert seen == {frozenset(os.sched_getaffinity(0))}
