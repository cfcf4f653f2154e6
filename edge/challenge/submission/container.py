"""One case in one locked container: how long, how much memory, how it ended. Nothing it does can stop the caller.

Always without network, capabilities, new privileges or any mount but the two folders, and bounded in time, memory,
processes and the size of what it writes. A program that keeps to the challenge's contract notices none of it.
"""

import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.challenge.submission.watch import Watch
from edge.errors import RunError

OFFICIAL_COMMAND = ["/bin/bash", "-c", "sh predict.sh"]
INPUTS, OUTPUTS = "/workspace/inputs/", "/workspace/outputs/"
LABEL = "samedge.run"  # of every container started here; its value is who started it
CANNOT_START = 127  # exit code where the image lacks what the command line names
LOG_LINES = 12
LOG_WIDTH = 300
END_S = 30  # for a killed container to be gone


@dataclass(frozen=True)
class Limits:
    """What a container may take."""

    memory_mib: int = 8192  # the challenge's -m 8G; swap included
    cpus: float | None = None  # None: all
    pids: int = 1024  # processes and threads
    time_s: float = 900.0
    written_mib: int = 4096  # of everything in the two folders


@dataclass(frozen=True)
class Conditions:
    """What an organiser may do beyond the official command line."""

    read_only: bool = False  # the root; /tmp is then a tmpfs
    user: str | None = None  # None: the image's own
    inputs_read_only: bool = False


OFFICIAL = Conditions()


@dataclass(frozen=True)
class ContainerRun:
    """What became of a container."""

    exit_code: int | None  # None: it was killed by us
    wall_s: float  # from creating it to its removal, as `docker run --rm` takes
    oom_killed: bool  # the kernel killed one of its processes for memory
    stopped_for: str | None  # "time", or "size" of what it wrote: why we killed it
    peak_mib: float | None  # None: neither the control group nor the engine told
    peak_source: str | None  # see `edge.challenge.submission.watch`
    log: str  # its last lines, stdout and stderr


def run_container(
    client: Any, image: str, inputs: Path, outputs: Path, limits: Limits, conditions: Conditions, label: str
) -> ContainerRun:
    """Run the official command line of an image on the two folders.

    Args:
        label: value of LABEL, by which `remove_containers` finds what a killed run left behind.

    Raises:
        RunError: the engine itself fails; never for what the container does.
    """
    start = time.perf_counter()
    container, refusal = _start(client, image, _settings(inputs, outputs, limits, conditions), label)
    if container is None:
        return ContainerRun(CANNOT_START, time.perf_counter() - start, False, None, None, None, refusal)
    watch = Watch(container, (inputs, outputs), limits.written_mib)
    watch.start()
    try:
        ended = _wait(container, limits.time_s - (time.perf_counter() - start))
    except BaseException:  # interrupted: nothing stays behind
        _remove(container)
        raise
    finally:
        overfull = watch.stop()
    if not ended:
        _kill(container)
        if time.perf_counter() - start < limits.time_s:
            raise RunError(f"{image}: the Docker engine does not answer any more; nothing is recorded of this case")
    stopped = "size" if overfull else None if ended else "time"
    reading = time.perf_counter()
    state, log = _state(container), _log(container)
    removing = time.perf_counter()
    _remove(container)
    wall_s = time.perf_counter() - start - (removing - reading)
    exit_code = None if stopped else state.get("ExitCode")
    return ContainerRun(exit_code, wall_s, bool(state.get("OOMKilled")), stopped, *watch.peak(), log)


def remove_containers(client: Any, label: str) -> int:
    """Remove what an interrupted run left, running or not; returns how many there were."""
    left = client.containers.list(all=True, filters={"label": f"{LABEL}={label}"})
    for container in left:
        _remove(container)
    return len(left)


def _start(client: Any, image: str, settings: dict[str, Any], label: str) -> tuple[Any, str]:
    """A running container, or None and why the image cannot become one."""
    import docker.errors
    import requests

    name = f"samedge-{uuid.uuid4().hex[:12]}"
    container = None
    try:
        container = client.containers.create(image, OFFICIAL_COMMAND, name=name, labels={LABEL: label}, **settings)
        container.start()
    except (docker.errors.DockerException, requests.RequestException) as error:
        said = _clean(str(getattr(error, "explanation", None) or error))
        refused = isinstance(error, docker.errors.APIError) and (container is not None or error.is_client_error())
        if container is not None:
            _remove(container)
        if not refused:
            raise RunError(f"{image}: the Docker engine fails ({said}); nothing is recorded of this case") from None
        return None, said
    return container, ""


def _settings(inputs: Path, outputs: Path, limits: Limits, conditions: Conditions) -> dict[str, Any]:
    from docker.types import LogConfig

    inputs_mode = "ro" if conditions.inputs_read_only else "rw"
    settings: dict[str, Any] = {
        "volumes": {
            str(inputs.resolve()): {"bind": INPUTS, "mode": inputs_mode},
            str(outputs.resolve()): {"bind": OUTPUTS, "mode": "rw"},
        },
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "mem_limit": f"{limits.memory_mib}m",
        "memswap_limit": f"{limits.memory_mib}m",
        "pids_limit": limits.pids,
        "log_config": LogConfig(type=LogConfig.types.JSON, config={"max-size": "1m", "max-file": "1"}),
    }
    if limits.cpus is not None:
        settings["nano_cpus"] = round(limits.cpus * 1e9)
    if conditions.read_only:
        settings |= {"read_only": True, "tmpfs": {"/tmp": ""}}
    if conditions.user is not None:
        settings["user"] = conditions.user
    return settings


def _wait(container: Any, time_s: float) -> bool:
    """Whether the container ended by itself within the time."""
    import requests

    try:
        container.wait(timeout=max(time_s, 0.1))
    except (requests.ReadTimeout, requests.ConnectionError):  # the SDK raises either, by the kind of connection
        return False
    return True


def _kill(container: Any) -> None:
    with suppress(Exception):  # it may have ended in between; what cannot be killed is left to the engine
        container.kill()
        container.wait(timeout=END_S)


def _state(container: Any) -> dict[str, Any]:
    with suppress(Exception):
        container.reload()
        return container.attrs["State"]
    return {}


def _log(container: Any) -> str:
    with suppress(Exception):
        return _clean(container.logs(tail=LOG_LINES).decode(errors="replace"))
    return ""


def _clean(text: str) -> str:
    """Lines of printable characters, at most LOG_LINES of LOG_WIDTH."""
    lines = ["".join(c for c in line.expandtabs() if c.isprintable())[:LOG_WIDTH] for line in text.splitlines()]
    return "\n".join(lines[-LOG_LINES:])


def _remove(container: Any) -> None:
    with suppress(Exception):
        container.remove(force=True)
