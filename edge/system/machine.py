"""What a number was measured on: CPU, its instruction sets, versions, memory."""

import os
import platform
import sys
from pathlib import Path
from typing import Any

FLAGS = {  # as users call them -> as /proc/cpuinfo does
    "avx2": "avx2", "avx512": "avx512f", "vnni": "avx512_vnni", "avx-vnni": "avx_vnni", "bf16": "avx512_bf16",
    "amx": "amx_tile",
}  # fmt: skip
ARM = ("aarch64", "arm64")  # as Linux, and as macOS and Windows call it
PACKAGES = ("samedge", "numpy", "opencv-python-headless", "openvino", "onnxruntime")


def describe_machine() -> dict[str, Any]:
    """CPU name and kind, core count, instruction-set flags, memory in MiB, operating system, package versions."""
    info = _cpuinfo()
    present = set(info.get("flags", "").split())
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine().lower(),
        "cores": os.cpu_count(),
        "flags": [name for name, flag in FLAGS.items() if flag in present],
        "memory_mib": machine_memory_mib(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def cpu_identity() -> str:
    """Name and all instruction sets of the CPU: what prepared for one CPU may not run on another."""
    info = _cpuinfo()
    return f"{info.get('model name') or platform.machine()}: {info.get('flags') or info.get('Features', '')}"


def has_int8_instructions() -> bool:
    """Whether the CPU multiplies and adds INT8 in one instruction (VNNI, AMX); False where that cannot be seen.

    False on ARM, whatever it can: OpenVINO computes INT8 wrongly there.
    """
    if platform.machine().lower() in ARM:
        return False
    flags = set(_cpuinfo().get("flags", "").split())
    return not flags.isdisjoint(("avx512_vnni", "avx_vnni", "amx_int8"))


def has_fast_bf16() -> bool:
    """Whether the CPU computes faster in bfloat16 than in float32: with AMX, or AMD's AVX-512; else False.

    Intel's AVX512_BF16 alone, as in virtual machines without AMX, takes 1.3 times as long as float32.
    """
    info = _cpuinfo()
    flags = set(info.get("flags", "").split())
    return "amx_bf16" in flags or (info.get("vendor_id") == "AuthenticAMD" and "avx512_bf16" in flags)


def machine_memory_mib() -> int | None:
    """Memory of the machine in MiB; None where the system does not say (Windows)."""
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20)
    except (AttributeError, ValueError):
        return None


def reset_peak_memory() -> None:
    """Start a new measurement for `peak_memory_mib`, where the kernel allows it (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_mib() -> float:
    """The largest resident size of this process since `reset_peak_memory`, in MiB."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    if sys.platform == "win32":
        return float("nan")
    import resource  # which Windows lacks

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def _cpuinfo() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    info: dict[str, str] = {}
    for key, value in pairs:
        info.setdefault(key.strip(), value.strip())
    return info


def _version(name: str) -> str | None:
    from importlib import metadata  # 0.015 s, and a run without a report needs none of it

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
