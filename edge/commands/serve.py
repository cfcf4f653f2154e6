"""`samedge serve`: boxes drawn in 3D Slicer, napari or a browser, masks from here."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.choices import BOX_MARGIN_PX
from edge.commands import options
from edge.commands.group import command_app
from edge.errors import RunError

if TYPE_CHECKING:
    from socket import socket

LEAST_KEY = 16  # characters
EMBEDDINGS_MIB = 128  # of a session: 32 whole slices


app = command_app()


@app.command()
def serve(
    folder: Annotated[Path | None, typer.Argument(help="Cases to offer on the page: a folder of them, or one.")] = None,
    host: Annotated[str, typer.Option(help="Address or name to listen at; any but this machine's own needs --key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 1527,
    key: Annotated[
        str | None,
        typer.Option(envvar="SAMEDGE_KEY", show_envvar=True, help="What clients must know; made if not given."),
    ] = None,
    model: options.ModelOption = None,
    backend: options.BackendOption = "openvino",
    precision: options.PrecisionOption = "auto",
    threads: options.ThreadsOption = None,
    method: options.MethodOption = "auto",
    box_margin: options.MarginOption = BOX_MARGIN_PX,
    modality: options.ModalityOption = None,
    window: options.WindowOption = None,
    volume: options.VolumeOption = None,
) -> None:
    """Answer boxes drawn in the browser, 3D Slicer or napari, without a GPU; needs the serve extra."""
    if key is not None and len(key) < LEAST_KEY:
        raise RunError(f"--key must have at least {LEAST_KEY} characters; leave it out and one is made")
    if key is None and not _is_local(host):
        raise RunError(f"--host {host} can be reached from other machines; choose a --key, or SAMEDGE_KEY, as well")
    try:
        import blosc2  # noqa: F401
        import uvicorn

        from edge.serve.app import create_app, warm_up
        from edge.serve.guard import timed_protocol
        from edge.serve.page import Page
    except ImportError as error:
        raise RunError(f"{str(error.name).partition('.')[0]} is not installed: pip install 'samedge[serve]'") from None
    import secrets
    from socket import gethostname
    from urllib.parse import quote

    from edge.data.formats.finding import find_inputs
    from edge.data.intensity import parse_window
    from edge.data.scan import Reading
    from edge.serve.leases import Limits
    from edge.serve.niivue import HOW, is_there

    if window is not None:
        parse_window(window)
    if folder is not None:
        folder = options.located(folder)
        find_inputs(folder, recursive=folder.is_dir())
    limits, key = Limits(), key or secrets.token_urlsafe(24)
    listening = _listen(host, port)
    chosen = {"method": method, "box_margin_px": box_margin, "embedding_budget_mib": EMBEDDINGS_MIB}
    segmenter = options.load_segmenter(model, backend, precision, threads, **chosen)
    warm_up(segmenter)
    reading, at = Reading(modality, window, volume), f"http://{_in_url(host)}:{port}"
    pages = Page(segmenter, folder, reading).routes()
    app = create_app(segmenter, key, names=[host, gethostname()], reading=reading, limits=limits, pages=pages)
    if not is_there():
        print(f"the page has no viewer yet: {HOW}", file=sys.stderr)
    print(f"page:   {at}/#key={quote(key, safe='')}", f"server: {at}", f"key:    {key}", sep="\n", flush=True)
    config = uvicorn.Config(
        app, http=timed_protocol(limits.header_s), ws="none", log_level="warning", limit_concurrency=512,
        timeout_keep_alive=30, timeout_graceful_shutdown=2, server_header=False,
    )  # fmt: skip
    with suppress(KeyboardInterrupt):  # the usual end
        uvicorn.Server(config).run(sockets=[listening])


def _is_local(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _listen(host: str, port: int) -> "socket":
    """Before the model is loaded, which takes a while."""
    from socket import SOCK_STREAM, create_server, getaddrinfo

    try:
        family = getaddrinfo(host, port, type=SOCK_STREAM)[0][0]
        return create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise RunError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror or error}); choose another"
        ) from None
