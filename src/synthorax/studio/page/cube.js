// A cube of voxels drawn slice by slice on a plain canvas, with the nodule's outline.

import { decodeHu } from "./ask.js";

const ORANGE = "#f0a04b";

/** A cube that the server sent, with x changing first and the axes right or left, back or front, and up. */
export class Cube {
  constructor(sent) {
    this.shape = sent.shape;
    this.hu = decodeHu(sent.hu);
    this.labels = sent.labels ? decodeHu(sent.labels) : null;
    this.at = sent.at || sent.shape.map((n) => Math.floor(n / 2));
  }
}

export class CubeView {
  /** @param {HTMLCanvasElement} canvas @param {Cube} cube @param {{flip: [boolean, boolean], aspect: number}} how */
  constructor(canvas, cube, { flip = [false, false], aspect = 1, window = [-1350, 150], outline = true } = {}) {
    Object.assign(this, { canvas, cube, flip, aspect, window, outline });
    this.slice = cube.at[2];
    this.draw();
  }

  go(slice) {
    this.slice = Math.max(0, Math.min(this.cube.shape[2] - 1, slice));
    this.draw();
  }

  draw() {
    const [nx, ny] = this.cube.shape, { canvas } = this, zoom = Math.max(1, Math.floor(360 / Math.max(nx, ny)));
    const picture = new ImageData(nx, ny), [low, high] = this.window;
    const from = this.slice * nx * ny;
    for (let y = 0; y < ny; y++)
      for (let x = 0; x < nx; x++) {
        const grey = 255 * (this.cube.hu[from + y * nx + x] - low) / (high - low);
        const to = 4 * this.#index(x, y);
        picture.data[to] = picture.data[to + 1] = picture.data[to + 2] = grey;
        picture.data[to + 3] = 255;
      }
    const small = new OffscreenCanvas(nx, ny);
    small.getContext("2d").putImageData(picture, 0, 0);
    canvas.width = nx * zoom;
    canvas.height = Math.round(ny * zoom * this.aspect);
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = true;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
    if (this.outline && this.cube.labels) this.#drawOutline(pen, zoom);
  }

  #index(x, y) {
    const [nx, ny] = this.cube.shape;
    return (this.flip[1] ? ny - 1 - y : y) * nx + (this.flip[0] ? nx - 1 - x : x);
  }

  #drawOutline(pen, zoom) {
    const [nx, ny] = this.cube.shape, from = this.slice * nx * ny, high = zoom * this.aspect;
    const inside = (x, y) => x >= 0 && y >= 0 && x < nx && y < ny && this.cube.labels[from + y * nx + x] > 0;
    pen.strokeStyle = ORANGE;
    pen.lineWidth = 1.5;
    pen.beginPath();
    for (let y = 0; y < ny; y++)
      for (let x = 0; x < nx; x++) {
        if (!inside(x, y)) continue;
        const u = (this.flip[0] ? nx - 1 - x : x) * zoom, v = (this.flip[1] ? ny - 1 - y : y) * high;
        const edges = [[-1, 0, u, v, u, v + high], [1, 0, u + zoom, v, u + zoom, v + high],
          [0, -1, u, v, u + zoom, v], [0, 1, u, v + high, u + zoom, v + high]];
        for (const [dx, dy, x1, y1, x2, y2] of edges) {
          if (inside(x + (this.flip[0] ? -dx : dx), y + (this.flip[1] ? -dy : dy))) continue;
          pen.moveTo(x1, y1);
          pen.lineTo(x2, y2);
        }
      }
    pen.stroke();
  }
}

/** Scroll several views together: wheel, arrow keys and a drag up or down. */
export function scrollTogether(box, views) {
  const move = (by) => { const to = views()[0]?.slice + by; for (const view of views()) view.go(to); };
  box.addEventListener("wheel", (event) => { event.preventDefault(); move(Math.sign(event.deltaY)); }, { passive: false });
  let pressed = null;
  box.addEventListener("pointerdown", (event) => { pressed = event.clientY; });
  box.addEventListener("pointermove", (event) => {
    if (pressed === null || Math.abs(event.clientY - pressed) < 8) return;
    move(Math.sign(event.clientY - pressed));
    pressed = event.clientY;
  });
  addEventListener("pointerup", () => { pressed = null; });
  return move;
}
