// NiiVue with a layer above it for boxes: what is shown, where the mouse is. Voxels are (i, j, k), right, front, head.

export const PLANES = ["axial", "coronal", "sagittal"]; // in NiiVue's order
export const NORMAL = { axial: 2, coronal: 1, sagittal: 0 }; // plane -> the index that scrolls
const ALL = 3; // NiiVue's multiplanar

/** The box, first and last voxel, between two opposite corners. */
export function corners(one, other) {
  return [Math.min, Math.max].flatMap((end) => one.map((index, axis) => end(index, other[axis])));
}

export class Slices {
  constructor(niivue, canvas, layer) {
    const { Niivue } = niivue;
    this.nv = new Niivue({
      interactive: false, dragAndDropEnabled: false, backColor: [0, 0, 0, 1], crosshairColor: [0.3, 0.64, 1, 0.7],
      multiplanarShowRender: 0, isResizeCanvas: true, logLevel: "error", loadingText: "", isRadiologicalConvention: true,
      sagittalNoseLeft: true, tileMargin: 4, crosshairWidth: 0.15, crosshairWidthUnit: "percent", crosshairGap: 8,
    });
    this.canvas = canvas;
    this.layer = layer;
    this.plane = "axial"; // that keys scroll
    this.shown = "all";
    this.opacity = 0.5;
  }

  async attach() {
    await this.nv.attachToCanvas(this.canvas);
    this.nv.setInterpolation(false);
  }

  async show(image) {
    while (this.nv.volumes.length) this.nv.removeVolumeByIndex(0);
    await this.nv.loadFromArrayBuffer(image.nifti, "image.nii");
    this.sides = image.shape;
    this.volume = this.nv.volumes[0];
    this.range = [this.volume.cal_min, this.volume.cal_max];
    this.nv.createEmptyDrawing();
    this.nv.setDrawOpacity(this.opacity);
    this.select(image.is_volume ? "all" : "axial");
    this.goTo(this.sides.map((side) => Math.floor(side / 2)));
  }

  /** Show one plane, or all. */
  select(shown) {
    this.shown = shown;
    if (shown !== "all") this.plane = shown;
    this.nv.setSliceType(shown === "all" ? ALL : PLANES.indexOf(shown));
  }

  window(low, high) {
    Object.assign(this.volume, { cal_min: low, cal_max: high });
    this.nv.updateGLVolume();
  }

  /** Take a part of the label map; the picture follows by `refresh`. */
  put({ offset, shape, labels }) {
    const [width, height] = this.sides;
    let from = 0;
    for (let k = 0; k < shape[2]; k++) {
      for (let j = 0; j < shape[1]; j++) {
        const to = offset[0] + width * (offset[1] + j + height * (offset[2] + k));
        this.nv.drawBitmap.set(labels.subarray(from, from + shape[0]), to);
        from += shape[0];
      }
    }
  }

  refresh() {
    this.nv.refreshDrawing(true);
  }

  /** Colours of labels 1 and up, as #rrggbb. */
  colour(colours) {
    const channel = (at) => [0, ...colours.map((colour) => parseInt(colour.slice(at, at + 2), 16))];
    const labels = ["", ...colours.map((_, index) => String(index + 1))];
    const map = { R: channel(1), G: channel(3), B: channel(5), A: [0, ...colours.map(() => 255)], labels };
    this.nv.setDrawColormap(map);
  }

  fade(opacity) {
    this.opacity = opacity;
    this.nv.setDrawOpacity(opacity);
  }

  get crosshair() {
    return Array.from(this.nv.scene.crosshairPos, (part, axis) => this.#index(part, axis));
  }

  goTo(voxel) {
    this.nv.scene.crosshairPos = voxel.map((index, axis) => (this.#clip(index, axis) + 0.5) / this.sides[axis]);
    this.nv.drawScene();
  }

  /** Go on by slices of the plane that is looked at. */
  scroll(steps) {
    this.#move(NORMAL[this.plane], steps);
  }

  /** Move the crosshair within the plane, by columns and rows on the screen. */
  nudge(right, up) {
    const tile = this.#tiles().find((one) => one.plane === this.plane);
    const [across, along] = [0, 1, 2].filter((axis) => axis !== NORMAL[this.plane]);
    if (right) this.#move(across, tile && tile.end[across] < tile.start[across] ? -right : right);
    if (up) this.#move(along, tile && tile.end[along] > tile.start[along] ? -up : up);
  }

  /** What lies under the mouse: the plane and the voxel; null: no slice does. */
  at(event) {
    const [x, y] = this.#pixel(event);
    const tile = this.#tiles().find(
      ({ left, top, width, height }) => x >= left && x < left + width && y >= top && y < top + height);
    return tile ? { plane: tile.plane, voxel: this.#voxel(tile, x, y) } : null;
  }

  /** The voxel under the mouse if `plane` went on there, cut off at the image's border. */
  along(plane, event) {
    const tile = this.#tiles().find((one) => one.plane === plane);
    return this.#voxel(tile, ...this.#pixel(event));
  }

  /** Draw the outlines of boxes (i, j, k of first and last voxel), each where its slice is looked at. */
  outline(boxes) {
    const ratio = this.layer.width / this.layer.clientWidth;
    const context = this.layer.getContext("2d");
    context.clearRect(0, 0, this.layer.width, this.layer.height);
    for (const tile of this.#tiles()) {
      for (const { box, colour, dashed } of boxes) {
        const normal = NORMAL[tile.plane], here = this.crosshair[normal];
        if (here < box[normal] || here > box[normal + 3]) continue;
        const [first, last] = [box.slice(0, 3), box.slice(3).map((index) => index + 1)]
          .map((corner) => this.#onScreen(tile, corner));
        context.strokeStyle = colour;
        context.lineWidth = 1.5 * ratio;
        context.setLineDash(dashed ? [5 * ratio, 4 * ratio] : []);
        context.strokeRect(...first, last[0] - first[0], last[1] - first[1]);
      }
    }
  }

  fit() {
    const ratio = devicePixelRatio;
    this.layer.width = this.layer.clientWidth * ratio;
    this.layer.height = this.layer.clientHeight * ratio;
  }

  #move(axis, steps) {
    const voxel = this.crosshair;
    voxel[axis] += steps;
    this.goTo(voxel);
  }

  #pixel(event) {
    const { left, top, width } = this.layer.getBoundingClientRect();
    const ratio = this.canvas.width / width;
    return [(event.clientX - left) * ratio, (event.clientY - top) * ratio];
  }

  /** The slices on the screen, with the image's fractions at their top left and bottom right. */
  #tiles() {
    return this.nv.screenSlices.flatMap(({ leftTopWidthHeight: [left, top, width, height], axCorSag }, index) => {
      if (axCorSag > 2) return [];
      const fraction = (part) => this.nv.screenXY2TextureFrac(left + part * width, top + part * height, index, false);
      const [quarter, last] = [fraction(0.25), fraction(0.75)]; // on the border itself NiiVue may say that there is nothing
      const [start, end] = [-0.5, 1.5].map((part) => [0, 1, 2].map((axis) => quarter[axis] + part * (last[axis] - quarter[axis])));
      return [{ plane: PLANES[axCorSag], left, top, width, height, start, end }];
    });
  }

  #voxel(tile, x, y) {
    const { start, end } = tile, normal = NORMAL[tile.plane];
    const [across, along] = [0, 1, 2].filter((axis) => axis !== normal);
    const voxel = this.crosshair;
    voxel[across] = this.#index(start[across] + ((x - tile.left) / tile.width) * (end[across] - start[across]), across);
    voxel[along] = this.#index(start[along] + ((y - tile.top) / tile.height) * (end[along] - start[along]), along);
    return voxel;
  }

  #onScreen(tile, corner) {
    const [across, along] = [0, 1, 2].filter((axis) => axis !== NORMAL[tile.plane]);
    const share = (axis) => (corner[axis] / this.sides[axis] - tile.start[axis]) / (tile.end[axis] - tile.start[axis]);
    return [tile.left + share(across) * tile.width, tile.top + share(along) * tile.height];
  }

  #index(fraction, axis) {
    return this.#clip(Math.floor(fraction * this.sides[axis]), axis);
  }

  #clip(index, axis) {
    return Math.max(0, Math.min(this.sides[axis] - 1, index));
  }
}
