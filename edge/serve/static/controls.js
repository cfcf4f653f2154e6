// Mouse and keys of the page.

const WHEEL_PX = 60; // a slice
const CLICK_PX = 5; // farther is a box
const PLANE_KEYS = { a: "axial", c: "coronal", s: "sagittal", m: "all" };
const ARROWS = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }; // to the right, up

/** Drag a box, click to move the crosshair, wheel through slices. */
export function mouse(layer, { state, slices, sendBox, redraw }) {
  layer.onpointerdown = (event) => {
    const there = state.image && event.button === 0 && slices.at(event);
    if (!there) return;
    layer.setPointerCapture(event.pointerId);
    slices.plane = there.plane;
    state.drag = { plane: there.plane, first: there.voxel, last: there.voxel, x: event.clientX, y: event.clientY };
  };
  layer.onpointermove = (event) => {
    if (!state.drag) return;
    state.drag.last = slices.along(state.drag.plane, event);
    redraw();
  };
  layer.onpointerup = (event) => {
    const drag = state.drag;
    state.drag = null;
    if (!drag) return;
    if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < CLICK_PX) slices.goTo(drag.first);
    else sendBox(drag.plane, drag.first, drag.last);
    redraw();
  };
  let turned = 0;
  layer.addEventListener("wheel", (event) => {
    event.preventDefault();
    const there = state.image && slices.at(event);
    if (!there) return;
    slices.plane = there.plane;
    turned += event.deltaMode ? event.deltaY * WHEEL_PX : event.deltaY;
    const steps = Math.trunc(turned / WHEEL_PX);
    turned -= steps * WHEEL_PX;
    if (steps) slices.scroll(-steps);
    redraw();
  }, { passive: false });
}

/** What keys do, where no text is being written. */
export function keys(page) {
  const { state, slices } = page;
  const withControl = { z: (event) => page.change(event.shiftKey ? "redo" : "undo"), y: () => page.change("redo"), s: page.save };
  const alone = {
    b: () => corner(page),
    n: page.addObject,
    w: page.nextWindow,
    "[": () => page.fade(-0.1),
    "]": () => page.fade(0.1),
    Escape: () => { state.corner = state.drag = null; page.redraw(); page.stop(); },
  };
  addEventListener("keydown", (event) => {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const writes = event.target.matches("input:not([type=range]), select");
    if (!state.image || event.altKey) return;
    if (event.ctrlKey || event.metaKey) {
      if (!withControl[key] || event.target.type === "text") return;
      event.preventDefault();
      withControl[key](event);
    } else if (writes) return;
    else if (ARROWS[key] && event.target.type !== "range") {
      event.preventDefault();
      const [right, up] = ARROWS[key];
      if (event.shiftKey || right) slices.nudge(right, up);
      else slices.scroll(up);
      page.redraw();
    } else if (PLANE_KEYS[key] && state.image.is_volume) page.press(PLANE_KEYS[key]);
    else if (state.objects.has(Number(key))) page.choose(Number(key));
    else alone[key]?.();
  });
}

/** A box from where the crosshair was to where it is. */
function corner({ state, slices, sendBox, redraw, say }) {
  const first = state.corner;
  state.corner = first ? null : slices.crosshair;
  if (first) sendBox(slices.plane, first, slices.crosshair);
  else say("Move the crosshair by Shift and arrows to the opposite corner, then press B");
  redraw();
}

/** The files that were dropped, those in folders too. */
export async function dropped(event) {
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  return (await Promise.all(entries.map(within))).flat();
}

async function within(entry) {
  if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
  const reader = entry.createReader(), found = [];
  for (;;) { // a hundred at a time
    const entries = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!entries.length) return (await Promise.all(found.map(within))).flat();
    found.push(...entries);
  }
}
