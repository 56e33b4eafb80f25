// Opening a scan: from the chosen folder, from this computer, or a phantom.

import { byId, el, fill, icon, sentence } from "./dom.js";
import { get, post, upload } from "./ask.js";

export class Opener {
  /** @param {object} start what the server said at the start @param {(asked: object) => void} open opens a scan */
  constructor(start, open) {
    this.start = start;
    this.open = open;
  }

  show() {
    const dialog = byId("open-dialog");
    const series = el("input", { type: "text", placeholder: "only if a folder has several", id: "series" });
    const anyway = el("input", { type: "checkbox" });
    this.asked = () => ({ ...(series.value.trim() ? { series: series.value.trim() } : {}), ...(anyway.checked ? { anyway: true } : {}) });
    const files = el("input", { type: "file", multiple: true, id: "files", hidden: true, onchange: () => this.take([...files.files]) });
    const browser = el("div", { class: "browser" });
    const seed = el("input", { type: "number", min: 0, max: 99999, value: 1, "aria-label": "Seed of the phantom" });
    const own = el("input", { type: "number", min: 0, max: 10, value: 0, "aria-label": "Nodules of the phantom's own" });
    fill(dialog, "Open a scan",
      el("section", {}, el("h2", {}, this.start.folder ? `Folder ${this.start.folder}` : "Folder"), browser),
      el("section", {}, el("h2", {}, "This computer"),
        el("div", { class: "row wrap" }, el("button", { class: "primary", onclick: () => files.click() }, "Choose files"), files,
          el("span", { class: "fine" }, "NIfTI, MHA, NRRD, or all files of a DICOM series; or drop them on the page"))),
      el("section", {}, el("h2", {}, "Phantom"),
        el("div", { class: "row wrap" }, el("label", {}, "patient ", seed), el("label", {}, "with about ", own, " nodules"),
          el("button", { id: "make-phantom", onclick: () => this.#go({ kind: "phantom", seed: Number(seed.value), nodules: Number(own.value) }) }, "Make"))),
      el("details", {}, el("summary", {}, "More"),
        el("div", { class: "field" }, el("label", { htmlFor: "series" }, "DICOM series"), series),
        el("label", { class: "check" }, anyway, el("span", {}, "accept values that do not look like HU"))));
    if (this.start.folder) this.#browse(browser, "");
    else browser.replaceChildren(el("p", { class: "fine" }, "Start the studio with `--folder DIR` or with a scan to open files from a folder."));
  }

  #go(asked) {
    byId("open-dialog").close();
    this.open({ ...asked, ...(this.asked?.() || {}) });
  }

  async #browse(box, inside) {
    try {
      const found = await get(`/api/folder?inside=${encodeURIComponent(inside)}`);
      const below = (name) => (inside ? `${inside}/${name}` : name);
      const up = inside.split("/").slice(0, -1).join("/");
      box.replaceChildren(
        inside ? el("button", { class: "entry", onclick: () => this.#browse(box, up) }, icon("undo"), el("span", {}, "back")) : "",
        ...found.folders.map((name) => el("button", { class: "entry", onclick: () => this.#browse(box, below(name)) }, icon("folder"), el("span", {}, name))),
        ...found.images.map((name) => el("button", { class: "entry", data: { file: below(name) }, onclick: () => this.#go({ kind: "path", path: below(name) }) }, icon("scan"), el("span", {}, name))),
        found.others ? el("p", { class: "row" }, el("span", { class: "fine" }, `${found.others} other files.`),
          el("button", { onclick: () => this.#go({ kind: "path", path: inside }) }, "Open this folder as a DICOM series")) : "",
        found.left_out ? el("p", { class: "fine" }, `${found.left_out} more are not listed.`) : "",
        !found.folders.length && !found.images.length && !found.others ? el("p", { class: "fine" }, "Nothing here.") : "");
    } catch (refusal) {
      box.replaceChildren(el("p", { class: "warn" }, sentence(refusal.message)));
    }
  }

  /** Upload files and open them. */
  take(files) {
    if (!files.length) return;
    if (byId("open-dialog").open) byId("open-dialog").close();
    const extra = this.asked?.() || {};
    this.open(async (report) => {
      const { upload: id } = await post("/api/uploads/");
      for (const [number, file] of files.entries()) {
        report(`sending ${files.length > 1 ? `file ${number + 1} of ${files.length}` : file.name}`, 0.3 * number / files.length);
        await upload(`/api/uploads/${id}?name=${encodeURIComponent(file.name)}`, file);
      }
      return { kind: "upload", upload: id, ...extra };
    });
  }
}
