// The scan on the screen: three linked planes and the lungs in 3D, drawn by niivue, and patched in place by edits.

import { Niivue, SHOW_RENDER, DRAG_MODE } from "./vendor/niivue.js";
import { bytes, decodeBytes, decodeHu, get } from "./ask.js";

const AXIAL = 0, CORONAL = 1, SAGITTAL = 2;
const TEXTURE_OF_SCAN = 33984; // niivue's units for its volume and for its drawing
const TEXTURE_OF_LABELS = 33991;
const HALF_CLICK_PX = 4; // a pointer that moves further than this drags
const NOTHING = -1024;
const FRONT = 180; // degrees of niivue's azimuth at which one looks at the patient's front
const AROUND = ["A", "R", "P", "L"]; // the patient's sides, in the order in which a growing azimuth shows them
const BONE = 150; // HU; ribs at the edge of the lungs would hide what is in them
const ORANGE = [240, 160, 75];

/** HU from black to white. */
export const WINDOWS = {
  lung: { text: "Lung", title: "Lung window, -1350 to 150 HU (1)", hu: [-1350, 150] },
  soft: { text: "Soft", title: "Mediastinum, -160 to 240 HU (2)", hu: [-160, 240] },
  bone: { text: "Bone", title: "Bone, -450 to 1050 HU (3)", hu: [-450, 1050] },
};

/** Tiles of each layout: plane and its place (left, top, width, height) as shares of the stage; `lungs` likewise. */
export const LAYOUTS = {
  four: {
    text: "All", title: "Three planes and 3D (Q)",
    planes: [[AXIAL, [0, 0, 0.5, 0.5]], [CORONAL, [0.5, 0, 0.5, 0.5]], [SAGITTAL, [0, 0.5, 0.5, 0.5]]],
    lungs: [0.5, 0.5, 0.5, 0.5],
  },
  axial: { text: "Ax", title: "Axial (A)", planes: [[AXIAL, [0, 0, 1, 1]]] },
  coronal: { text: "Cor", title: "Coronal (C)", planes: [[CORONAL, [0, 0, 1, 1]]] },
  sagittal: { text: "Sag", title: "Sagittal (G)", planes: [[SAGITTAL, [0, 0, 1, 1]]] },
  lungs: { text: "3D", title: "Lungs in 3D (D)", planes: [], lungs: [0, 0, 1, 1] },
};

const SHARED = {
  backColor: [0, 0, 0, 1], logLevel: "error", dragAndDropEnabled: false, show3Dcrosshair: false, isColorbar: false,
  multiplanarShowRender: SHOW_RENDER.NEVER, viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "",
  trustCalMinMax: true, isOrientationTextVisible: true, fontColor: [0.62, 0.68, 0.7, 1], fontMinPx: 11,
  fontSizeScaling: 0.3, loadingText: "",
};

export class Viewer {
  /** @param {{planes: HTMLCanvasElement, lungs: HTMLCanvasElement, lungsBox: HTMLElement, stage: HTMLElement, divider: HTMLElement}} parts */
  constructor(parts) {
    this.parts = parts;
    this.window = "lung";
    this.layout = "four";
    this.outlines = true;
    this.onMove = () => {};
    this.onPick = () => {};
    this.scan = null;
    this.planes = new Niivue({
      ...SHARED, crosshairColor: [0.38, 0.74, 0.72, 0.75], crosshairWidth: 0.7, crosshairWidthUnit: "mm",
      isRadiologicalConvention: true, sagittalNoseLeft: true, dragMode: DRAG_MODE.contrast, crosshairGap: 36,
    });
    this.lungs = new Niivue({ ...SHARED, isOrientationTextVisible: false, crosshairWidth: 0 });
    this.drawn3d = 0;
  }

  async attach() {
    await this.planes.attachToCanvas(this.parts.planes, true);
    await this.lungs.attachToCanvas(this.parts.lungs, true);
    this.lungs.addColormap("airy-lungs", {
      R: [0, 40, 120, 200, 255], G: [0, 60, 140, 205, 250], B: [0, 75, 150, 205, 245],
      A: [0, 0, 12, 90, 190], I: [0, 55, 110, 180, 255],
    });
    this.planes.onLocationChange = () => this.#moved();
    this.lungs.onAzimuthElevationChange = (azimuth) => this.#nameSides(azimuth);
    this.#watchPointer();
    new ResizeObserver(() => this.#place()).observe(this.parts.stage);
    this.#place();
  }

  /** Show a scan that is open on the server. */
  async load(about, tell) {
    const nv = this.planes;
    tell("loading the scan into the browser", 0.6);
    await nv.loadVolumes([{ url: `/api/scans/${about.key}/scan.nii`, name: "scan.nii" }]);
    this.scan = about;
    const volume = nv.volumes[0];
    [volume.cal_min, volume.cal_max] = WINDOWS[this.window].hu;
    this.first = volume.img.slice(); // as the scan was when it was opened here
    this.boxes = [];
    nv.drawBitmap = new Uint8Array(await bytes(`/api/scans/${about.key}/labels`));
    nv.drawTexture = nv.r8Tex(nv.drawTexture, TEXTURE_OF_LABELS, nv.back.dims, true);
    nv.drawLut = lutOfLabels();
    nv.drawRimOpacity = 0.95;
    nv.updateGLVolume();
    nv.refreshDrawing(false);
    this.setOutlines(this.outlines);
    this.moveTo(about.shape.map((n) => (n - 1) / 2));
    tell("drawing the lungs", 0.9);
    await this.#loadLungs();
    this.setLayout(this.layout);
  }

  /** The voxel (x, y, z) under the crosshair. */
  get voxel() {
    const at = this.planes.frac2vox(this.planes.scene.crosshairPos);
    return [at[0], at[1], at[2]].map(Math.round);
  }

  hu([x, y, z]) {
    const [nx, ny] = this.scan.shape;
    return this.planes.volumes[0].img[(z * ny + y) * nx + x];
  }

  label([x, y, z]) {
    const [nx, ny] = this.scan.shape;
    return this.planes.drawBitmap[(z * ny + y) * nx + x];
  }

  moveTo(voxel) {
    this.planes.scene.crosshairPos = this.planes.vox2frac(voxel.map(Math.round));
    this.planes.drawScene();
    this.#moved();
  }

  step(x, y, z) {
    this.planes.moveCrosshairInVox(x, y, z);
    this.#moved();
  }

  setWindow(name) {
    this.window = name;
    if (!this.scan) return;
    const volume = this.planes.volumes[0];
    [volume.cal_min, volume.cal_max] = WINDOWS[name].hu;
    this.planes.updateGLVolume();
  }

  setLayout(name) {
    this.layout = name;
    this.#place();
    const tiles = LAYOUTS[name].planes.map(([sliceType, position]) => ({ sliceType, position }));
    if (tiles.length) this.planes.setCustomLayout(tiles);
    this.#draw3d();
  }

  setOutlines(shown) {
    this.outlines = shown;
    this.planes.drawRimOpacity = shown ? 0.95 : 0;
    this.planes.setDrawOpacity(shown ? 0.18 : 0);
  }

  /** Put the voxels of an edit into the picture, and nothing else. */
  apply(change) {
    const box = { corner: change.corner, shape: change.shape };
    const hu = decodeHu(change.hu), labels = decodeBytes(change.labels);
    const { img } = this.planes.volumes[0];
    this.#rows(box, (at, from, n) => {
      img.set(hu.subarray(from, from + n), at);
      this.planes.drawBitmap.set(labels.subarray(from, from + n), at);
    });
    this.boxes.push(box);
    this.#paint(box, hu);
    this.#paintLabels(this.planes, box, labels);
    this.#applyTo3d(box);
  }

  /** Draw what was applied. */
  draw() {
    this.planes.drawScene();
    this.#draw3d();
  }

  /** Show the scan as it was before all edits, or as it is; `left` shows it as it was only left of this voxel x. */
  showBefore(shown, left = Infinity) {
    if (!this.scan) return;
    const { img } = this.planes.volumes[0];
    for (const box of this.boxes) {
      const hu = new Int16Array(box.shape[0] * box.shape[1] * box.shape[2]);
      this.#rows(box, (at, to, n) => {
        const split = shown ? Math.min(n, Math.max(0, left - box.corner[0])) : 0;
        hu.set(this.first.subarray(at, at + split), to);
        hu.set(img.subarray(at + split, at + n), to + split);
      });
      this.#paint(box, hu);
    }
    this.planes.drawRimOpacity = shown || !this.outlines ? 0 : 0.95;
    this.planes.setDrawOpacity(shown || !this.outlines ? 0 : 0.18);
  }

  /** Swipe: left of the pointer the scan as it was, right of it as it is. */
  setSwipe(on) {
    this.swiping = on;
    this.parts.divider.hidden = true;
    this.showBefore(false);
  }

  #swipeTo(event) {
    const area = this.parts.planes.getBoundingClientRect();
    const ratio = this.planes.uiData.dpr || 1;
    const [x, y] = [(event.clientX - area.left) * ratio, (event.clientY - area.top) * ratio];
    const tile = this.planes.screenSlices.findIndex((slice) => {
      const [left, top, wide, high] = slice.leftTopWidthHeight;
      return slice.axCorSag !== SAGITTAL && x >= left && x < left + wide && y >= top && y < top + high;
    });
    const { divider } = this.parts;
    divider.hidden = tile < 0;
    if (tile < 0) return;
    const frac = this.planes.screenXY2TextureFrac(x, y, tile, true);
    if (frac[0] < 0) return;
    const [, top, , high] = this.planes.screenSlices[tile].leftTopWidthHeight;
    Object.assign(divider.style, { left: `${x / ratio}px`, top: `${top / ratio}px`, height: `${high / ratio}px` });
    const at = Math.round(frac[0] * this.scan.shape[0]);
    // Radiologists see the patient's right on the left: there the larger x lie on the left of the picture.
    if (this.planes.opts.isRadiologicalConvention) this.#showBeforeRightOf(at);
    else this.showBefore(true, at);
  }

  #showBeforeRightOf(at) {
    const { img } = this.planes.volumes[0];
    for (const box of this.boxes) {
      const hu = new Int16Array(box.shape[0] * box.shape[1] * box.shape[2]);
      this.#rows(box, (start, to, n) => {
        const split = Math.min(n, Math.max(0, at - box.corner[0]));
        hu.set(img.subarray(start, start + split), to);
        hu.set(this.first.subarray(start + split, start + n), to + split);
      });
      this.#paint(box, hu);
    }
    this.planes.drawRimOpacity = 0;
    this.planes.setDrawOpacity(0);
  }

  /** Call `row(at, from, n)` for each row of a box: its start in the scan, its start in the box, its length. */
  #rows({ corner: [x, y, z], shape: [nx, ny, nz] }, row) {
    const [wide, high] = this.scan.shape;
    for (let k = 0; k < nz; k++)
      for (let j = 0; j < ny; j++) row(((z + k) * high + y + j) * wide + x, (k * ny + j) * nx, nx);
  }

  #paint({ corner, shape }, hu) {
    const nv = this.planes, volume = nv.volumes[0];
    const map = nv.colormap(volume.colormap), low = volume.cal_min, range = volume.cal_max - low;
    const colours = new Uint8Array(hu.length * 4);
    for (let i = 0; i < hu.length; i++) {
      const at = 4 * Math.max(hu[i] > low ? 2 : 0, Math.min(255, Math.round(255 * (hu[i] - low) / range)));
      for (let c = 0; c < 4; c++) colours[4 * i + c] = map[at + c];
    }
    patch(nv, TEXTURE_OF_SCAN, nv.volumeTexture, corner, shape, nv.gl.RGBA, colours);
  }

  #paintLabels(nv, { corner, shape }, labels) {
    patch(nv, TEXTURE_OF_LABELS, nv.drawTexture, corner, shape, nv.gl.RED, labels);
  }

  async #loadLungs() {
    this.coarse = null;
    const about = await get(`/api/scans/${this.scan.key}/lungs`);
    if (!about.step) return;
    const [nx, ny, nz] = about.shape, bits = decodeBytes(about.lungs);
    const inside = new Uint8Array(nx * ny * nz).map((_, i) => (bits[i >> 3] >> (i & 7)) & 1);
    const hu = new Int16Array(inside.length), labels = new Uint8Array(inside.length);
    this.coarse = { ...about, inside, labels };
    this.#coarseRows({ corner: [0, 0, 0], shape: this.scan.shape }, (to, from) => {
      const value = this.planes.volumes[0].img[from];
      hu[to] = inside[to] && value < BONE ? value : NOTHING;
      labels[to] = this.planes.drawBitmap[from];
    });
    const spacing = this.scan.spacing_mm.map((mm, i) => mm * about.step[i]);
    const file = URL.createObjectURL(new Blob([headerOf(about.shape, spacing), hu]));
    const nv = this.lungs;
    await nv.loadVolumes([{ url: file, name: "lungs.nii", colormap: "airy-lungs", cal_min: -900, cal_max: -100 }]);
    URL.revokeObjectURL(file);
    nv.setSliceType(nv.sliceTypeRender);
    nv.drawBitmap = labels;
    nv.drawTexture = nv.r8Tex(nv.drawTexture, TEXTURE_OF_LABELS, nv.back.dims, true);
    nv.drawLut = lutOfLabels();
    nv.drawOpacity = 1;
    nv.setRenderAzimuthElevation(FRONT + 20, 8); // the patient's right on the left, as in the planes
    nv.setScale(1.45); // the lungs fill less of the scan than the view has room for
    nv.updateGLVolume();
    nv.refreshDrawing(true);
  }

  /** Call `voxel(to, from)` for each voxel of the 3D view in a box: its index there, and in the scan. */
  #coarseRows({ corner, shape }, voxel) {
    const { step, shape: coarse } = this.coarse, [wide, high] = this.scan.shape;
    const first = corner.map((c, i) => Math.ceil(c / step[i]));
    const stop = corner.map((c, i) => Math.min(coarse[i], Math.ceil((c + shape[i]) / step[i])));
    for (let z = first[2]; z < stop[2]; z++)
      for (let y = first[1]; y < stop[1]; y++)
        for (let x = first[0]; x < stop[0]; x++)
          voxel((z * coarse[1] + y) * coarse[0] + x, (z * step[2] * high + y * step[1]) * wide + x * step[0]);
    return { corner: first, shape: stop.map((end, i) => Math.max(0, end - first[i])) };
  }

  #applyTo3d(box) {
    if (!this.coarse) return;
    const labels = [];
    const small = this.#coarseRows(box, (to, from) => {
      this.coarse.labels[to] = this.planes.drawBitmap[from];
      labels.push(this.coarse.labels[to]);
    });
    if (labels.length) this.#paintLabels(this.lungs, small, Uint8Array.from(labels));
  }

  /** Draw the 3D view a little later: the planes, on which the user looks, come first. */
  #draw3d() {
    if (!this.coarse || !LAYOUTS[this.layout].lungs) return;
    clearTimeout(this.drawn3d);
    this.drawn3d = setTimeout(() => this.lungs.drawScene(), 60);
  }

  #place() {
    const place = LAYOUTS[this.layout].lungs, { lungsBox, planes } = this.parts;
    planes.style.visibility = LAYOUTS[this.layout].planes.length ? "" : "hidden";
    lungsBox.style.visibility = place && this.coarse ? "visible" : "hidden";
    if (!place) return;
    const [left, top, width, height] = place.map((share) => `${100 * share}%`);
    Object.assign(lungsBox.style, { left, top, width, height });
  }

  /** Write at both edges of the 3D view which side of the patient lies there. */
  #nameSides(azimuth) {
    const turn = Math.round((azimuth - FRONT) / 90);
    const side = (quarter) => AROUND[(((turn + quarter) % 4) + 4) % 4];
    Object.assign(this.parts.lungsBox.dataset, { left: side(1), right: side(3) });
  }

  #moved() {
    if (this.scan) this.onMove(this.voxel);
  }

  #watchPointer() {
    const { planes } = this.parts;
    let pressed = null;
    planes.addEventListener("pointerdown", (event) => { pressed = event.button === 0 ? event : null; });
    planes.addEventListener("pointermove", (event) => { if (this.swiping && this.scan) this.#swipeTo(event); });
    planes.addEventListener("pointerleave", () => { if (this.swiping) this.setSwipe(true); });
    addEventListener("pointerup", (event) => {
      const still = pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) < HALF_CLICK_PX;
      if (still && event.target === planes && this.scan && !this.swiping) setTimeout(() => this.onPick(this.voxel));
      pressed = null;
    });
  }
}

function patch(nv, unit, texture, [x, y, z], [nx, ny, nz], format, values) {
  const { gl } = nv;
  gl.activeTexture(unit);
  gl.bindTexture(gl.TEXTURE_3D, texture);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  gl.texSubImage3D(gl.TEXTURE_3D, 0, x, y, z, nx, ny, nz, format, gl.UNSIGNED_BYTE, values);
}

/** All labels in one colour: which nodule is which, the table says. */
function lutOfLabels() {
  const lut = new Uint8ClampedArray(256 * 4);
  for (let i = 1; i < 256; i++) lut.set([...ORANGE, 255], 4 * i);
  return { lut, labels: Array.from({ length: 256 }, (_, i) => (i ? `nodule ${i}` : "")) };
}

/** The header of a NIfTI file of int16, with voxels of this size (x, y, z) around the middle. */
function headerOf(shape, spacing) {
  const header = new DataView(new ArrayBuffer(352));
  header.setInt32(0, 348, true);
  [3, ...shape, 1, 1, 1, 1].forEach((n, i) => header.setInt16(40 + 2 * i, n, true));
  header.setInt16(70, 4, true);
  header.setInt16(72, 16, true);
  [1, ...spacing, 0, 0, 0, 0].forEach((mm, i) => header.setFloat32(76 + 4 * i, mm, true));
  header.setFloat32(108, 352, true);
  header.setFloat32(112, 1, true);
  header.setUint8(123, 2);
  header.setInt16(254, 1, true);
  spacing.forEach((mm, i) => {
    header.setFloat32(280 + 20 * i, mm, true);
    header.setFloat32(292 + 16 * i, -mm * (shape[i] - 1) / 2, true);
  });
  header.setUint32(344, 0x0031_2b6e, true);
  return header.buffer;
}
