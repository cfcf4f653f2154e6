"""Images made from the predictor with another `predict.sh`: bad ones on purpose, and rivals."""

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge.challenge.submission.engine import connect
from edge.errors import RunError

IMAGE = os.environ.get("IMAGE", "samedge")

MakeImage = Callable[..., str]


@pytest.fixture(scope="session")
def engine() -> Any:
    """A client of the Docker engine; skips where none answers."""
    try:
        return connect()
    except RunError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def make_image(engine: Any) -> Iterator[MakeImage]:
    """`make_image(name, script, more)`: the predictor's image with `script` as its predict.sh, and `more` lines of the
    Dockerfile; gone when the tests end."""
    made = []

    def make(name: str, script: str, more: str = "") -> str:
        files = {"Dockerfile": f"FROM {IMAGE}\nCOPY predict.sh /workspace/\n{more}\n", "predict.sh": script}
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            for file, text in files.items():
                member = tarfile.TarInfo(file)
                member.size, member.mode = len(text.encode()), 0o644
                archive.addfile(member, io.BytesIO(text.encode()))
        context.seek(0)
        engine.images.build(fileobj=context, custom_context=True, tag=name, rm=True)
        made.append(name)
        return name

    yield make
    for name in made:
        engine.images.remove(name, force=True)
