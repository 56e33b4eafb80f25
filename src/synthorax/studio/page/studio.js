// The studio's page: one open scan, the tools around it, and the keys.

import { byId, el, fill, segments, sentence, tell } from "./dom.js";
import { get, post, remove, work } from "./ask.js";
import { LAYOUTS, Viewer, WINDOWS } from "./viewer.js";
import { Forms } from "./forms.js";
import { Opener } from "./open.js";
import { showHistory, showNodules } from "./history.js";
import { showSheet, triesOf } from "./compare.js";

export const viewer = new Viewer({ stage: byId("stage"), planes: byId("planes"), lungs: byId("lungs3d"), lungsBox: byId("lungs-box"), divider: byId("divider") });
let scan = null, forms = null, opener = null, chooseWindow = null, chooseLayout = null, working = false;

/** Do some work of the server's, show how far it is, and tell its error as a sentence. */
async function busy(first, doing, again = null) {
  if (working) return tell("The studio is still at work.");
  working = true;
  const since = performance.now(), box = byId("busy"), [, text] = box.children, bar = box.querySelector("i");
  const report = (what, share = null) => {
    const seconds = Math.floor((performance.now() - since) / 1000);
    text.textContent = what.charAt(0).toUpperCase() + what.slice(1) + (seconds ? ` · ${seconds} s` : "");
    box.dataset.what = what;
    box.classList.toggle("unknown", share === null);
    bar.style.width = share === null ? "" : `${100 * share}%`;
  };
  report(first);
  const shown = setTimeout(() => { box.hidden = false; }, 250);
  const ticking = setInterval(() => report(box.dataset.what), 1000);
  try {
    return await doing(report);
  } catch (refusal) {
    const doubtful = again && /expected one (in|that)|expected the middle/.test(refusal.message);
    tell(sentence(refusal.message), { error: true, action: doubtful ? { text: "Do it anyway", run: again } : null });
    return null;
  } finally {
    working = false;
    clearTimeout(shown);
    clearInterval(ticking);
    box.hidden = true;
  }
}

async function open(asked) {
  await busy("opening the scan", async (report) => {
    const request = typeof asked === "function" ? await asked(report) : asked;
    const about = await work("/api/scans", request, { tell: report });
    const last = scan;
    scan = about;
    byId("empty").hidden = true;
    await viewer.load(about, report);
    if (last) remove(`/api/scans/${last.key}`);
    byId("scan-name").textContent = about.name;
    document.title = `${about.name}, synthorax studio`;
    byId("notes-section").hidden = !about.notes.length;
    byId("notes").replaceChildren(...about.notes.map((note) => el("li", {}, note)));
    press("before", false);
    press("swipe", false);
    show(about);
    document.body.dataset.open = about.key;
  });
  if (!scan) byId("empty").hidden = false;
}

/** Show the edits and the nodules as the server has them, and patch the voxels that changed. */
function show(state) {
  for (const change of state.changes || []) viewer.apply(change);
  if (state.changes) viewer.draw();
  const canErase = forms.methods.some((offer) => offer.roles.includes("erases") && !offer.reason);
  showNodules(state.nodules, { go: (nodule) => viewer.moveTo(nodule.voxel), erase: eraseNodule }, canErase);
  showHistory(state.steps, state.undone, async (count) => { for (let i = 0; i < count; i++) await back("undo"); });
  byId("undo").disabled = !state.steps.length;
  byId("redo").disabled = !state.undone;
  for (const id of ["before", "swipe", "download"]) byId(id).disabled = !state.steps.length;
  document.body.dataset.steps = state.steps.length;
}

const changing = (path, asked, first, again = null) => scan
  ? busy(first, async (report) => {
    const since = performance.now();
    show(await work(`/api/scans/${scan.key}/${path}`, asked, { tell: report }));
    requestAnimationFrame(() => { document.body.dataset.milliseconds = Math.round(performance.now() - since); });
  }, again)
  : tell("Open a scan first.");

function put(recipe, anyway = false, at = viewer.voxel) {
  const asked = { at, diameter_mm: forms.diameterMm, recipe, anyway };
  return changing("inject", asked, `${recipe.method} is making a nodule`, () => put(recipe, true, at));
}

function erase(anyway = false, at = viewer.voxel) {
  const { method, options, seed } = forms.recipe(), label = viewer.label(at);
  const where = label ? { label } : { at, diameter_mm: forms.diameterMm };
  return changing("erase", { method, options, seed, anyway, ...where }, `${method} is taking the nodule out`, () => erase(true, at));
}

function eraseNodule(nodule) {
  const offer = forms.task === "erase" && forms.offer && !forms.offer.reason ? forms.offer
    : forms.methods.find((one) => one.roles.includes("erases") && !one.reason);
  const asked = { method: offer.name, label: nodule.label, seed: Number(forms.seed.value) || 0 };
  return changing("erase", asked, `${offer.name} is taking nodule ${nodule.label} out`);
}

function act(at = viewer.voxel) {
  if (!scan) return tell("Open a scan first.");
  if (forms.act.disabled) return null;
  return forms.task === "inject" ? put(forms.recipe(), false, at) : erase(false, at);
}

const auto = (count, site) => changing("inject",
  { auto: count, site, diameter_mm: forms.diameterMm, recipe: forms.recipe() }, `looking for ${count} places`);

function compare(kind) {
  if (!scan) return tell("Open a scan first.");
  if (kind === "classes" && !forms.heeds("malignancy")) {
    return tell(`${forms.recipe().method} does not use malignancy; choose a method that does.`);
  }
  const sheet = triesOf(kind, forms.recipe(), forms.methods);
  return showSheet(scan, viewer.voxel, forms.diameterMm, sheet, viewer.window, (recipe) => put(recipe));
}

async function back(path) {
  if (!scan || working || byId(path).disabled) return;
  try {
    show(await post(`/api/scans/${scan.key}/${path}`));
  } catch (refusal) {
    tell(sentence(refusal.message), { error: true });
  }
}

function download() {
  const go = (layout) => () => {
    byId("download-dialog").close();
    busy("writing the files", async (report) => {
      const made = await work(`/api/scans/${scan.key}/result`, { layout }, { tell: report });
      el("a", { href: `/api/results/${made.result}`, download: made.name }).click();
      tell(`${made.name}, ${(made.bytes / 2 ** 20).toFixed(1)} MB. The files say that they are synthetic.`);
    });
  };
  const own = scan.is_dicom ? "DICOM" : "images";
  fill(byId("download-dialog"), "Download",
    el("p", {}, "The scan with its edits, the nodule mask, the edit region, a table and a manifest that says how to make them again."),
    el("div", { class: "choices" },
      el("button", { id: "download-images", class: own === "images" ? "primary" : "", onclick: go(scan.is_dicom ? "images" : "as read") },
        el("b", {}, "Images"), el("span", {}, scan.is_dicom ? "NIfTI; nothing of the header is kept" : "in the scan's own format, as inject writes them")),
      el("button", { id: "download-dicom", class: own === "DICOM" ? "primary" : "", onclick: go(scan.is_dicom ? "as read" : "dicom") },
        el("b", {}, "DICOM"), el("span", {}, "a CT series with segmentations"))));
}

const press = (id, on) => byId(id).setAttribute("aria-pressed", String(on));
const pressed = (id) => byId(id).getAttribute("aria-pressed") === "true";

function toggleBefore(on = !pressed("before")) {
  if (byId("before").disabled && on) return;
  if (pressed("swipe")) toggleSwipe(false);
  press("before", on);
  viewer.showBefore(on);
}

function toggleSwipe(on = !pressed("swipe")) {
  if (byId("swipe").disabled && on) return;
  press("before", false);
  press("swipe", on);
  viewer.setSwipe(on);
  if (on) tell("Move over a slice: left of the line is before, right of it after.");
}

function toggleOutlines() {
  press("outline", !pressed("outline"));
  viewer.setOutlines(pressed("outline"));
}

const setLayout = (name) => { chooseLayout(name); viewer.setLayout(name); };
const setWindow = (name) => { chooseWindow(name); viewer.setWindow(name); };

const KEYS = [
  ["Enter or I", "put a nodule at the crosshair, or take it out", () => act(), ["Enter", "i"]],
  ["E", "change between putting in and taking out", () => forms.setTask(forms.task === "inject" ? "erase" : "inject"), ["e"]],
  ["Ctrl Z", "undo", () => back("undo"), ["ctrl+z"]],
  ["Ctrl Shift Z", "redo", () => back("redo"), ["ctrl+shift+z", "ctrl+y"]],
  ["B", "hold: the scan before the edits", null, []],
  ["S", "swipe between before and after", () => toggleSwipe(), ["s"]],
  ["M", "outlines", toggleOutlines, ["m"]],
  ["+ and -", "diameter", null, []],
  ["R", "another seed", () => forms.anotherSeed(), ["r"]],
  ["Arrows, Page up, Page down", "move the crosshair", null, []],
  ["1, 2, 3", "lung, soft tissue and bone windows", null, []],
  ["Q, A, C, G, D", "four views, axial, coronal, sagittal, 3D", null, []],
  ["O", "open a scan", () => opener.show(), ["o"]],
  ["?", "these keys", () => showKeys(), ["?"]],
];
const MOVES = {
  ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1],
};
const VIEWS = { q: "four", a: "axial", c: "coronal", g: "sagittal", d: "lungs" };

function showKeys() {
  fill(byId("keys-dialog"), "Keys", el("dl", { class: "keys" },
    ...KEYS.flatMap(([name, text]) => [el("dt", {}, ...name.split(/( and |, | or )/).map((part, i) => (i % 2 ? part : el("kbd", {}, part)))), el("dd", {}, text)])));
}

function onKey(event) {
  const typing = event.target.closest("input:not([type=range]):not([type=checkbox]), textarea, select, dialog[open]");
  if (typing || event.altKey) return;
  const ctrl = event.ctrlKey || event.metaKey;
  const key = `${ctrl ? "ctrl+" : ""}${ctrl && event.shiftKey ? "shift+" : ""}${event.key.length === 1 ? event.key.toLowerCase() : event.key}`;
  const found = KEYS.find(([, , run, keys]) => run && keys.includes(key));
  if (key === "Enter" && event.target.closest("button, a, summary, tr")) return;
  if (found) found[2]();
  else if (key === "b" && !event.repeat) toggleBefore(true);
  else if (MOVES[key] && scan && !event.target.matches("input")) viewer.step(...MOVES[key]);
  else if (VIEWS[key]) setLayout(VIEWS[key]);
  else if (["1", "2", "3"].includes(key)) setWindow(Object.keys(WINDOWS)[Number(key) - 1]);
  else if (key === "+" || key === "-") {
    forms.diameterText.value = Math.max(1, forms.diameterMm + (key === "+" ? 1 : -1));
    forms.diameter.value = forms.diameterText.value;
  } else return;
  event.preventDefault();
  event.stopPropagation();
}

function watch() {
  addEventListener("keydown", onKey, true);
  addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "b") toggleBefore(false); });
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    opener.take([...event.dataTransfer.files]);
  });
  byId("open").onclick = () => opener.show();
  document.querySelector("[data-open]").onclick = () => opener.show();
  document.querySelector("[data-phantom]").onclick = () => open({ kind: "phantom", seed: 1, nodules: 2 });
  byId("undo").onclick = () => back("undo");
  byId("redo").onclick = () => back("redo");
  byId("before").onclick = () => toggleBefore();
  byId("swipe").onclick = () => toggleSwipe();
  byId("outline").onclick = toggleOutlines;
  byId("keys").onclick = showKeys;
  byId("download").onclick = download;
  viewer.onMove = (voxel) => {
    const mm = scan && worldOf(voxel);
    byId("readout").textContent = scan ? `${mm.map((c) => c.toFixed(1)).join(", ")} mm   slice ${voxel[2] + 1}/${scan.shape[2]}   ${viewer.hu(voxel)} HU` : "";
  };
  viewer.onPick = (voxel) => { if (forms.onClick.checked && !working) act(voxel); };
}

/** The LPS millimetres (x, y, z) of a voxel, as all of synthorax tells places. */
function worldOf(voxel) {
  return scan.affine.map((row) => row[3] + voxel.reduce((sum, n, i) => sum + row[i] * n, 0));
}

async function begin() {
  try {
    const start = await get("/api/start");
    forms = new Forms(byId("make"), start.methods, { act: () => act(), auto, compare });
    opener = new Opener(start, open);
    const narrow = matchMedia("(max-width: 720px)").matches;
    chooseWindow = segments(byId("windows"), Object.entries(WINDOWS).map(([name, { text, title }]) => [name, text, title]), "lung", (name) => viewer.setWindow(name));
    chooseLayout = segments(byId("layouts"), Object.entries(LAYOUTS).map(([name, { text, title }]) => [name, text, title]), "four", (name) => viewer.setLayout(name));
    await viewer.attach();
    setLayout(narrow ? "axial" : "four");
    watch();
    showNodules([], {}, false);
    showHistory([], 0, () => {});
    document.body.dataset.ready = start.version;
    if (start.first) await open({ kind: "path", path: start.first });
  } catch (refusal) {
    tell(sentence(refusal.message), { error: true });
  }
}

begin();
