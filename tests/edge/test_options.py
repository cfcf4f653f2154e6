"""What can be chosen stands once: help, command line, `Options`, engines and bench offer and accept the same."""

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from edge import RunError, Segmenter, load_engine
from edge.bench.run import Configuration
from edge.choices import BACKENDS, BOX_MARGIN_PX, FIXED, METHODS, PRECISIONS
from edge.commands.bench import _compared
from edge.pipeline import Options
from tests.conftest import Samedge

CHOICES = {"backend": BACKENDS, "precision": PRECISIONS, "method": tuple(METHODS)}
DEFAULTS = {"backend": "openvino", "precision": "auto", "method": "auto", "box-margin": f"{BOX_MARGIN_PX:g}"}
COMMON = ["model", "backend", "precision", "threads", "method", "box-margin", "recursive", "quiet", "help"]
OFFERED = {  # an option that comes or goes is a decision, made here and in the changelog
    "predict": [
        *COMMON, "box", "boxes", "boxes-from", "box-units", "box-format", "modality", "window", "volume", "slices",
        "dask", "format", "sidecar", "no-sidecar", "shard", "overwrite", "no-overwrite", "overlay", "no-overlay",
        "report", "html",
    ],
    "bench": [
        *COMMON, "by", "compare", "box-noise", "boxes-from", "checkpoint", "modality", "process", "no-process", "match",
        "json", "resume", "no-resume", "spacing-order", "window", "csv", "html",
    ],
}  # fmt: skip
GONE = ("--mode=fast", "--volume=follow", "--encode=crops", "--loose-px=1", "--block=2", "--method=fixed")


@pytest.fixture(scope="module", params=OFFERED)
def help_text(request: pytest.FixtureRequest, samedge: Samedge) -> tuple[str, str]:
    """A command, and its options as its help lists them."""
    run = samedge(request.param, "--help")
    assert (run.returncode, run.stderr) == (0, "")
    return request.param, run.stdout.split("\nOptions:\n")[1]


def test_help_lists_these_options_and_no_other(help_text: tuple[str, str]) -> None:
    """By their long names; `fixed`, a method for tests, is not among the words."""
    command, options = help_text
    found = re.findall(r"^  (?:-\w, )?--([\w-]+)(?: / --([\w-]+))?", options, re.MULTILINE)
    assert sorted(filter(None, (name for pair in found for name in pair))) == sorted(OFFERED[command])
    assert FIXED not in re.split(r"\W+", options)


def test_help_offers_each_choice_says_what_it_is_and_what_is_taken(help_text: tuple[str, str]) -> None:
    """In the order of `edge.choices`; the defaults are those of `Options` and of bench's configurations."""
    entries = {
        match[1]: " ".join(match[0].split()) for match in re.finditer(r"--([\w-]+) .*\n(?:   .*\n)*", help_text[1])
    }
    for name, words in CHOICES.items():
        assert entries[name].split()[1] == f"<{'|'.join(words)}>"
    for name, default in DEFAULTS.items():
        assert f"[default: {default}" in entries[name]
    for method, meaning in METHODS.items():
        assert f"{method}: {meaning}" in entries["method"]


def test_defaults_are_the_same_everywhere() -> None:
    """`Options`, `Configuration`, `Segmenter`: who leaves an option out gets the same masks in each way."""
    options, segmenter = Options(), inspect.signature(Segmenter).parameters
    configuration = Configuration(Path("any"))
    assert (options.method, options.box_margin_px) == (DEFAULTS["method"], BOX_MARGIN_PX)
    assert (configuration.method, configuration.box_margin) == (options.method, options.box_margin_px)
    for name in ("backend", "precision"):
        assert getattr(configuration, name) == segmenter[name].default == DEFAULTS[name]


def test_options_take_these_methods_and_no_other() -> None:
    """Those of the command line, and `fixed`; spelled as they are."""
    for method in (*METHODS, FIXED):
        assert Options(method=method).method == method
    for method in ("", "Auto", "fast", "official", "follow", "propagate", "slices", "tracked ", None):
        with pytest.raises(RunError, match="method must be one of auto, tracked, propagated, baseline, got"):
            Options(method=method)  # type: ignore[arg-type]


def test_options_have_these_fields_and_no_other() -> None:
    """Two that change masks, two that change time and memory only."""
    assert [field.name for field in fields(Options)] == ["method", "box_margin_px", "block", "embedding_budget_mib"]


def test_engines_take_these_backends_and_precisions_and_no_other(tiny_model: Path) -> None:
    """What this CPU or the model has not is refused by another line than what does not exist."""
    for backend in BACKENDS:
        for precision in PRECISIONS:
            try:
                assert load_engine(tiny_model, backend=backend, precision=precision).backend.startswith(backend)
            except Exception as error:
                assert "must be one of" not in str(error)
    for wrong in ({"backend": "OpenVINO"}, {"backend": "torch"}, {"precision": "fp32"}, {"precision": "INT8"}):
        with pytest.raises(RunError, match="must be one of"):
            load_engine(tiny_model, **wrong)


def test_bench_compares_every_choice_and_tells_them_apart() -> None:
    """Each word alone changes its own field only; the titles, by which cases are resumed, are all different."""
    base = Configuration(Path("any"), precision="f32")
    words = {"backend": BACKENDS, "precision": PRECISIONS, "method": tuple(METHODS)[1:]}  # `auto` is the precision
    found = {word: _compared(base, word) for each in words.values() for word in each}
    for field, each in words.items():
        for word in each:
            (configuration,) = found[word]
            changed = {f.name for f in fields(base) if getattr(configuration, f.name) != getattr(base, f.name)}
            assert getattr(configuration, field) == word and changed <= {field}
    titles = [configuration.title for (configuration,) in found.values() if configuration != base]
    assert len(titles) == len(set(titles)) == len(found) - 2  # openvino and f32 are the base
    with pytest.raises(RunError, match="tracked or propagated or baseline"):
        _compared(base, FIXED)


def test_a_margin_of_ones_own_is_told_apart_too() -> None:
    """`bench --resume` takes measurements over by title: other prompts are another configuration."""
    assert Configuration(Path("any"), box_margin=0).title != Configuration(Path("any")).title
    assert Configuration(Path("any"), box_margin=0).title != Configuration(Path("any"), box_margin=1).title


@pytest.mark.parametrize("option", GONE)
@pytest.mark.parametrize("command", OFFERED)
def test_what_is_not_offered_is_refused(samedge: Samedge, tmp_path: Path, command: str, option: str) -> None:
    """As any other option that does not exist, before anything is done."""
    folders = ["in", "out"] if command == "predict" else ["in"]
    run = samedge(command, *folders, option, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "") and option.split("=")[0] in run.stderr


def test_choices_load_nothing() -> None:
    """Every command imports them, `--help` too: no NumPy."""
    code = "import sys, edge.choices; print(*[name for name in ('numpy', 'cv2', 'typer') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
