"""The Docker engine: how it is reached, and its complaints as ours."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edge.errors import RunError

LOCAL = "unix:///var/run/docker.sock"  # where an engine listens that nobody has told otherwise
SLOW_S = 900  # an answer may take as long as loading an image of several GB


def connect() -> Any:
    """A client of the engine that DOCKER_HOST names, or of the local one.

    Raises:
        RunError: the Docker SDK is not installed, or no engine answers.
    """
    try:
        import docker.client
        import docker.errors
    except ImportError:
        raise RunError("this needs the Docker SDK: pip install 'samedge[docker]'") from None
    try:
        _try_socket(os.environ.get("DOCKER_HOST") or LOCAL)
        client = docker.client.from_env(timeout=SLOW_S)
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise RunError(f"no Docker engine answers; start one or set DOCKER_HOST ({_line(error)})") from None
    return client


def _try_socket(address: str) -> None:
    """Raise OSError where a socket file has no listener; the SDK would leave its own socket open then."""
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as attempt:
            attempt.connect(address.removeprefix("unix://"))


@contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Whatever the SDK raises becomes a RunError that begins with `what`."""
    import docker.errors
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise RunError(f"{what}: {_line(error)}") from None


def find_image(client: Any, name: str) -> Any:
    """The local image of a name.

    Raises:
        RunError: there is none.
    """
    import docker.errors

    try:
        return client.images.get(name)
    except docker.errors.ImageNotFound:
        raise RunError(f"{name}: no such image here; build it, or `docker load` it first") from None


def _line(error: Exception) -> str:
    return " ".join(str(getattr(error, "explanation", None) or error).split())[:300]
