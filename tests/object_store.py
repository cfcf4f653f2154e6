"""A real server of S3's protocol, in a process of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@contextmanager
def running_store() -> Iterator[dict[str, str]]:
    """The variables by which a user names it and its keys."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(300):
                time.sleep(0.1)
                with socket.socket() as one:
                    if one.connect_ex(("127.0.0.1", port)) == 0:
                        break
            address = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
            yield {**KEYS, **address, "AWS_EC2_METADATA_DISABLED": "true"}
        finally:
            server.terminate()


def client(environment: dict[str, str]) -> Any:
    """Its files, by a client that remembers no listing."""
    import s3fs

    keys = {"key": KEYS["AWS_ACCESS_KEY_ID"], "secret": KEYS["AWS_SECRET_ACCESS_KEY"]}
    return s3fs.S3FileSystem(**keys, endpoint_url=environment["AWS_ENDPOINT_URL"], use_listings_cache=False)
