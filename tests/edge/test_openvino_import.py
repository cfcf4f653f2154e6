"""OpenVINO without its model converter, which would start a process and use the network; one core for a process."""

import subprocess
import sys
from pathlib import Path

import pytest


def answer(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_the_converter_and_its_telemetry_are_not_imported() -> None:
    """Nor is anything that could reach the network."""
    code = """
import sys
from edge.engines.openvino_import import import_openvino
openvino = import_openvino()
openvino.Core()
unwanted = ("openvino.tools", "openvino_telemetry", "multiprocessing", "requests", "urllib.request")
print([name for name, module in sys.modules.items() if module and name.startswith(unwanted)])
"""
    assert answer(code) == "[]"


def test_the_converter_and_nncf_report_nothing() -> None:
    """Both do so where nobody was asked, by a process that waits for the network, each time they are used."""
    pytest.importorskip("nncf")
    code = """
from edge.engines.openvino_import import import_openvino
import_openvino().convert_model
from openvino.tools.ovc import convert_impl, telemetry_utils
from nncf.telemetry.wrapper import telemetry
print({module.tm.__name__ for module in (convert_impl, telemetry_utils)}, type(telemetry).__name__)
"""
    assert answer(code) == "{'openvino.tools.ovc.telemetry_stub'} MagicMock"


def test_it_is_there_for_who_asks() -> None:
    """`openvino.convert_model`, in the same process, as an attribute and as an import; what is missing still is."""
    code = """
from edge.engines.openvino_import import import_openvino
import_openvino()
import openvino
from openvino import convert_model
print(openvino.convert_model is convert_model, hasattr(openvino, "no_such_thing"))
"""
    assert answer(code) == "True False"


def test_an_openvino_that_is_imported_already_stays_as_it_is() -> None:
    """Whoever imported it first has it whole."""
    code = """
import openvino
from edge.engines.openvino_import import import_openvino
print(import_openvino() is openvino, "__getattr__" in vars(openvino))
"""
    assert answer(code) == "True False"


def test_threads_may_ask_for_it_at_once() -> None:
    """Switched between after every few instructions, eight get the same module, and the converter can be had."""
    code = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
import numpy
from edge.engines.openvino_import import import_openvino
sys.setswitchinterval(1e-6)
start = threading.Barrier(8)
def work(_caller):
    start.wait()
    return import_openvino()
with ThreadPoolExecutor(8) as pool:
    modules = set(pool.map(work, range(8)))
print(len(modules), "openvino.tools.ovc" in sys.modules)
"""
    assert answer(code) == "1 False"


def test_ctrl_c_is_no_crash_after_two_engines_are_gone(tiny_model: Path) -> None:
    """Python handles signals on a stack that each core of OpenVINO replaces, and that must not go with an engine."""
    code = f"""
import gc, signal
from pathlib import Path
from edge.engines.runtime import load_engine
first, second = load_engine(Path({str(tiny_model)!r})), load_engine(Path({str(tiny_model)!r}))
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    assert answer(code) == "interrupted"
