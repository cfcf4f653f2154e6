// The page: what is open, the objects, and what keys and mouse do. No state of masks: that is the server's.

import { dropped, keys, mouse } from "/static/controls.js";
import * as server from "/static/server.js";
import { corners, NORMAL, Slices } from "/static/slices.js";

const COLOURS = ["#ff5c5c", "#4dc3ff", "#ffd24d", "#7ee07e", "#d58cff", "#ff9d4d", "#5ce6d0", "#ff8cc6", "#b7c24a"];
const HOUNSFIELD = { // centre and width, HU
  "Soft tissue": [40, 400], Lung: [-600, 1500], Bone: [400, 1800], Brain: [40, 80], Liver: [60, 160], Mediastinum: [50, 350],
};
const UNSURE = 0.8; // of SAM's stability score; measure/stability.py measures what it catches
const BUSY = "a mask is being found; wait, or press Stop";

const at = (id) => document.getElementById(id);
const state = { image: null, objects: new Map(), current: 1, drag: null, corner: null, sent: null, stop: null };
let slices;

function say(text, bad = false) {
  at("message").textContent = text;
  at("message").classList.toggle("bad", bad);
}

/** Run what may fail, and say why it did. */
function trying(action) {
  return async (...given) => {
    try {
      await action(...given);
    } catch (error) {
      if (error.name !== "AbortError") say(error.message, true);
    }
  };
}

// ---- images

async function listCases() {
  const names = await server.cases();
  at("case").replaceChildren(new Option("Choose a case …", ""), ...names.map((name) => new Option(name, name)));
  return names;
}

const open = trying(async (name) => {
  if (!name) return;
  stop();
  say(`Opening ${name} …`);
  const turn = (state.turn = (state.turn ?? 0) + 1);
  const image = await server.open(name);
  if (turn !== state.turn) return; // another was chosen meanwhile
  at("hint").hidden = true;
  state.image = image;
  state.objects.clear();
  state.current = 1;
  await slices.show(image);
  at("case").value = name;
  at("format").replaceChildren(...image.formats.map((format) => new Option(FORMATS[format], format)));
  at("reach").disabled = !image.is_volume;
  for (const button of document.querySelectorAll("[data-plane]")) button.disabled = !image.is_volume;
  press(image.is_volume ? "all" : "axial");
  listWindows();
  listObjects();
  redraw();
  at("boxes").focus({ preventScroll: true });
  say([`${name}: ${image.shape.join(" × ")} voxels, ${image.modality}`, ...image.notes].join("; "));
});
const FORMATS = { nifti: "NIfTI", npz: "npz", "dicom-seg": "DICOM SEG", png: "PNG" };

const take = trying(async (files) => {
  for (const [index, file] of files.entries()) {
    say(`Reading ${file.name} (${index + 1} of ${files.length}) …`);
    await server.upload(file, index === 0);
  }
  const names = await listCases();
  await open(names[0]);
});

function listWindows() {
  const { modality, has_intensities: stored } = state.image, [low, high] = slices.range;
  const full = [slices.volume.global_min, slices.volume.global_max];
  const ct = Object.entries(stored && modality === "CT" ? HOUNSFIELD : {})
    .map(([name, [centre, width]]) => [`${name} (${centre} / ${width})`, centre - width / 2, centre + width / 2]);
  const windows = [...ct, ["Auto", low, high], ["Full range", ...full]];
  at("window").replaceChildren(...windows.map(([name, ...ends]) => new Option(name, ends.join(" "))));
  setWindow();
}

function setWindow() {
  slices.window(...at("window").value.split(" ").map(Number));
}

function nextWindow() {
  at("window").selectedIndex = (at("window").selectedIndex + 1) % at("window").length;
  setWindow();
}

function fade(more) {
  at("opacity").value = Number(at("opacity").value) + more;
  slices.fade(Number(at("opacity").value));
}

// ---- objects

function object(label) {
  if (!state.objects.has(label)) {
    state.objects.set(label, { name: `Object ${label}`, colour: COLOURS[(label - 1) % COLOURS.length], boxes: [] });
  }
  return state.objects.get(label);
}

function listObjects() {
  const labels = [...state.objects.keys()].sort((one, other) => one - other);
  at("objects").replaceChildren(...labels.map(row));
  at("save").disabled = !labels.some((label) => object(label).voxels);
  const last = Math.max(0, ...labels);
  slices.colour(Array.from({ length: last }, (_, index) => object(index + 1).colour));
}

function row(label) {
  const { name, colour, voxels, ml, stability } = object(label);
  const line = document.createElement("li");
  line.ariaCurrent = String(label === state.current);
  line.onclick = () => label !== state.current && choose(label);
  const swatch = Object.assign(document.createElement("input"), { type: "color", value: colour, ariaLabel: "Colour" });
  swatch.onchange = () => { object(label).colour = swatch.value; listObjects(); redraw(); };
  const field = Object.assign(document.createElement("input"), { type: "text", value: name, ariaLabel: `Name of label ${label}` });
  field.onchange = () => { object(label).name = field.value || `Object ${label}`; };
  const size = Object.assign(document.createElement("span"), { className: "volume", textContent: volumeText(voxels, ml) });
  const away = Object.assign(document.createElement("button"), { textContent: "✕", title: "Remove", ariaLabel: `Remove ${name}` });
  away.onclick = (event) => { event.stopPropagation(); change("remove", { label }); };
  line.append(swatch, field, size, away);
  if (voxels && stability < UNSURE) {
    line.append(Object.assign(document.createElement("span"), {
      className: "unsure", textContent: `unsure (stability ${stability.toFixed(2)}): look at its border`,
    }));
  }
  return line;
}

function volumeText(voxels, ml) {
  if (voxels === undefined) return "no box yet";
  return ml === null ? `${voxels} px` : `${ml < 10 ? ml.toFixed(2) : ml.toFixed(1)} ml`;
}

function choose(label) {
  object(label);
  state.current = label;
  listObjects();
  say(`Boxes now belong to ${object(label).name}`);
}

function addObject() {
  if (!state.image) return;
  choose(Math.max(0, ...[...state.objects].filter(([, one]) => one.boxes.length).map(([label]) => label)) + 1);
}

// ---- masks

const change = trying(async (action, json = {}, expected = null) => {
  if (!state.image) return;
  if (state.stop) throw new Error(BUSY);
  const stopping = (state.stop = new AbortController());
  state.sent = json.box ?? null;
  redraw();
  let found = 0, painted = performance.now();
  const waits = setTimeout(() => { at("progress").hidden = at("stop").hidden = false; }, 150);
  at("progress").removeAttribute("value");
  if (expected) Object.assign(at("progress"), { max: expected, value: 0 });
  try {
    await server.change(action, { case: state.image.name, ...json }, (line) => {
      if (line.block) slices.put(line.block);
      if (line.slice !== undefined) {
        found += 1;
        if (expected) at("progress").value = found;
        say(`Finding the mask … ${found}${expected ? ` of ${expected}` : ""} slices`);
        if (performance.now() - painted > 150) { slices.refresh(); painted = performance.now(); }
      }
      if (line.objects) takeObjects(line);
    }, stopping.signal);
  } finally {
    clearTimeout(waits);
    if (state.stop === stopping) { // else it was stopped, and the next has begun
      at("progress").hidden = at("stop").hidden = true;
      state.stop = state.sent = null;
      redraw();
    }
  }
});

function takeObjects({ objects, message }) {
  const known = new Set(objects.map(({ label }) => label));
  for (const [label, one] of state.objects) {
    if (!known.has(label)) Object.assign(one, { boxes: [], voxels: undefined, ml: null });
  }
  for (const one of objects) Object.assign(object(one.label), one);
  for (const [label, one] of state.objects) {
    if (!one.boxes.length && label !== state.current) state.objects.delete(label);
  }
  listObjects();
  slices.refresh();
  redraw();
  const unsure = objects.filter(({ voxels, stability }) => voxels && stability < UNSURE).map(({ label }) => object(label).name);
  if (message) say(message);
  else if (unsure.length) say(`The model is unsure of ${unsure.join(", ")}: look at the border, or draw a box on another slice`, true);
  else say(objects.length ? `${objects.length} object${objects.length > 1 ? "s" : ""}` : "No masks");
}

const stop = trying(async () => {
  if (!state.stop) return;
  const before = boxCount();
  state.stop.abort();
  state.stop = null;
  await change("refresh");
  if (boxCount() === before) say("Stopped; the box is taken back");
});

function boxCount() {
  return [...state.objects.values()].reduce((count, { boxes }) => count + boxes.length, 0);
}

const sendBox = trying(async (plane, first, last) => {
  const box = corners(first, last), normal = NORMAL[plane], reach = at("reach").value;
  let expected = null;
  if (state.image.is_volume && reach === "depth") {
    const each = Math.max(1, Number(at("depth").value) || 1);
    box[normal] = Math.max(0, box[normal] - each);
    box[normal + 3] = Math.min(state.image.shape[normal] - 1, box[normal + 3] + each);
    expected = box[normal + 3] - box[normal] + 1;
  }
  await change("box", { label: state.current, box, walk: reach === "walk" }, expected);
});

const save = trying(async () => {
  const names = Object.fromEntries([...state.objects].map(([label, { name }]) => [label, name]));
  const { name, blob } = await server.save(state.image.name, at("format").value, names);
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  say(`Saved ${name}`);
});

// ---- picture

function redraw() {
  if (!state.image) return;
  const boxes = [...state.objects.values()].flatMap(({ boxes, colour }) => boxes.map((box) => ({ box, colour })));
  const begun = state.drag ?? (state.corner && { first: state.corner, last: slices.crosshair });
  for (const box of [begun && corners(begun.first, begun.last), state.sent]) {
    if (box) boxes.push({ box, colour: object(state.current).colour, dashed: true });
  }
  slices.outline(boxes);
  const place = slices.crosshair;
  at("place").textContent = `${slices.plane} ${place[NORMAL[slices.plane]] + 1}   x ${place[0]}  y ${place[1]}  z ${place[2]}`;
}

function press(plane) {
  for (const button of document.querySelectorAll("[data-plane]")) button.ariaPressed = String(button.dataset.plane === plane);
  slices.select(plane);
  redraw();
}

// ---- begin

function bind() {
  const page = { state, slices, redraw, sendBox, press, change, save, choose, addObject, stop, say, nextWindow, fade };
  mouse(at("boxes"), page);
  keys(page);
  addEventListener("resize", () => { slices.fit(); requestAnimationFrame(redraw); });
  at("case").onchange = () => open(at("case").value);
  at("file").onchange = () => take([...at("file").files]);
  at("window").onchange = setWindow;
  at("opacity").oninput = () => fade(0);
  at("reach").onchange = () => { at("depth-field").hidden = at("reach").value !== "depth"; };
  for (const [id, action] of Object.entries({ undo: () => change("undo"), redo: () => change("redo"), new: addObject, save, stop })) {
    at(id).onclick = action;
  }
  for (const button of document.querySelectorAll("[data-plane]")) button.onclick = () => press(button.dataset.plane);
  const view = at("view");
  view.ondragover = (event) => { event.preventDefault(); view.classList.add("dropping"); };
  view.ondragleave = () => view.classList.remove("dropping");
  view.ondrop = trying(async (event) => {
    event.preventDefault();
    view.classList.remove("dropping");
    await take(await dropped(event));
  });
}

trying(async () => {
  await import("/static/niivue/niivue.umd.js").catch(() => {
    throw new Error("the viewer NiiVue is missing: python -m edge.serve.niivue fetches it (once, by npm); then load the page again");
  });
  slices = new Slices(globalThis.niivue, at("image"), at("boxes"));
  await slices.attach();
  slices.fit();
  await server.connect();
  bind();
  const names = await listCases();
  say(names.length ? `${names.length} ${names.length > 1 ? "cases" : "case"} in the folder` : "Open an image from the disk");
})();
