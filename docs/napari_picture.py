"""napari and its nnInteractive plugin draw a box, and `samedge serve` answers: checks it, and makes the picture of it.

Without a screen, in an environment that has napari and the plugin, but neither samedge nor PyTorch:

    pip install 'napari[all]' napari-nninteractive
    SAMEDGE_KEY=KEY samedge serve
    xvfb-run python docs/napari_picture.py http://127.0.0.1:1527 KEY
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from napari_nninteractive import nnInteractiveWidget
from qtpy.QtWidgets import QApplication

CASE = Path(__file__).parents[1] / "cases" / "3DBox_MR_phantom.npz"
PICTURE = Path(__file__).parent / "images" / "napari.png"
SIZE_PX = (1366, 768)
BBOX = 1  # of the plugin's tools
WAIT_S = 120.0


def main(url: str, key: str) -> None:
    """Connect, draw the middle of the case's first box, take the picture, undo."""
    case = np.load(CASE)
    x_min, y_min, z_min, x_max, y_max, z_max = case["boxes"][0].astype(float)
    z = (z_min + z_max) // 2
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(*SIZE_PX)
    viewer.add_image(case["imgs"], name="MR phantom", colormap="gray")
    plugin = nnInteractiveWidget(viewer)
    viewer.window.add_dock_widget(plugin, name="nnInteractive")
    plugin.server_url_edit.setText(url)
    plugin.api_key_edit.setText(key)
    plugin.on_init()
    wait_for("connection", lambda: plugin._remote_connected)
    wait_for("image", lambda: plugin.label_layer_name in viewer.layers and plugin._upload_dialog is None)
    plugin.interaction_button._check(BBOX)
    plugin.on_interaction_selected()
    viewer.dims.set_current_step(0, int(z))
    corners = [[z, y_min, x_min], [z, y_min, x_max], [z, y_max, x_max], [z, y_max, x_min]]
    viewer.layers[plugin.bbox_layer_name].add(np.array(corners), shape_type="rectangle")
    wait_for("mask", lambda: bool(plugin._data_result.any()))
    slices = np.flatnonzero(plugin._data_result.any(axis=(1, 2)))
    print(
        f"a box on slice {int(z)}: {int((plugin._data_result > 0).sum())} voxels on slices {slices[0]} to {slices[-1]}"
    )
    viewer.reset_view()
    settle()
    viewer.window.screenshot(str(PICTURE), canvas_only=False, flash=False)
    plugin.on_undo()
    if plugin._data_result.any():
        sys.exit("undo has left something")
    plugin._release_session()
    viewer.close()


def wait_for(what: str, is_there: Callable[[], bool]) -> None:
    """Let Qt work until something is there; ends the program where it does not come."""
    until = time.monotonic() + WAIT_S
    while not is_there():
        if time.monotonic() > until:
            sys.exit(f"no {what} after {WAIT_S:.0f} s")
        settle(1)


def settle(rounds: int = 40) -> None:
    """Let Qt draw."""
    for _ in range(rounds):
        QApplication.instance().processEvents()
        time.sleep(0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])
