// The reader test: begin, judge one nodule after the other, and the result.

import { byId, el, icon, sentence, tell } from "./dom.js";
import { get, post, work } from "./ask.js";
import { Cube, CubeView, scrollTogether } from "./cube.js";

const HU = { lung: [-1350, 150], soft: [-160, 240] };
const room = byId("room");

const field = (text, control, help = "") =>
  el("div", { class: "field" }, el("label", { htmlFor: control.id }, text), control, help ? el("p", { class: "fine" }, help) : "");

async function begin() {
  const start = await get("/api/start");
  const reader = el("input", { type: "text", id: "reader", maxLength: 100, placeholder: "initials; kept in the result" });
  const real = el("input", { type: "text", id: "real", list: "folders", placeholder: "folder of real nodules" });
  const synthetic = el("input", { type: "text", id: "synthetic", list: "folders", placeholder: "folder of synthetic nodules" });
  const most = el("input", { type: "number", id: "most", min: 1, max: 200, value: 20 });
  const seed = el("input", { type: "number", id: "reader-seed", min: 0, max: 2 ** 31 - 1, value: Math.floor(Math.random() * 1e6) });
  const method = el("select", { id: "made-by" }, ...start.methods.filter((offer) => offer.roles.includes("injects") && !offer.reason)
    .map((offer) => el("option", { value: offer.name }, offer.name)));
  const state = el("p", { class: "fine" });
  const names = start.folder ? (await get("/api/folder?inside=")).folders : [];
  const run = async (asked) => {
    for (const button of room.querySelectorAll("button")) button.disabled = true;
    try {
      const given = { ...asked, most: Number(most.value), seed: Number(seed.value), reader: reader.value.trim() };
      const test = await work("/api/reader", given, { tell: (text) => { state.textContent = `${text}…`; } });
      judge(test);
    } catch (refusal) {
      state.textContent = "";
      tell(sentence(refusal.message), { error: true });
    } finally {
      for (const button of room.querySelectorAll("button")) button.disabled = false;
    }
  };
  const onPhantom = async () => {
    state.textContent = "making a phantom with nodules of its own…";
    try {
      const opened = await work("/api/scans", { kind: "phantom", seed: Number(seed.value) % 1000, nodules: 8 },
        { tell: (text) => { state.textContent = `${text}…`; } });
      await run({ kind: "scan", scan: opened.key, recipe: { method: method.value } });
    } catch (refusal) {
      tell(sentence(refusal.message), { error: true });
    }
  };
  room.replaceChildren(el("div", { class: "card" },
    el("h1", {}, "Can you tell real nodules from synthetic ones?"),
    el("p", {}, "You see one nodule after the other, in random order, and say which it is and how sure you are. At the end come sensitivity and specificity with their intervals, and the AUC of your confidence. Nothing on the way tells whether you were right."),
    el("div", { class: "columns" }, field("Reader", reader), field("Of each kind, at most", most), field("Seed", seed)),
    el("h2", {}, "From two folders"),
    start.folder ? "" : el("p", { class: "fine" }, "Start the studio with --folder DIR to use folders."),
    el("datalist", { id: "folders" }, ...names.map((name) => el("option", { value: name }))),
    el("div", { class: "columns" }, field("Real", real), field("Synthetic", synthetic)),
    el("p", { class: "fine" }, "Each holds patches, or scans with a nodules.csv, as inject and sample write them."),
    el("button", { class: "primary", id: "begin-folders", disabled: !start.folder,
      onclick: () => run({ kind: "folders", real: real.value.trim(), synthetic: synthetic.value.trim() }) }, "Begin"),
    el("h2", {}, "Or try it out"),
    el("p", { class: "fine" }, "A phantom's own nodules beside as many of the same diameters that a method puts into it. This shows how the test works; it proves nothing about patients."),
    el("div", { class: "row" }, method, el("button", { id: "begin-phantom", onclick: onPhantom }, "Begin on a phantom")),
    state));
}

function judge(test) {
  let number = 0, views = [], window = "lung", since = 0, move = () => {}, sending = false;
  const panes = el("div", { class: "panes" });
  const confidence = el("div", { class: "confidence", role: "group" });
  const say = async (synthetic, sure) => {
    if (sending) return;
    sending = true;
    try {
      const reply = await post(`/api/reader/${test.key}/calls`,
        { item: number, synthetic, confidence: sure, seconds: (performance.now() - since) / 1000 });
      if (!reply.left) return result(test);
      number += 1;
      await next();
    } catch (refusal) {
      tell(sentence(refusal.message), { error: true });
    } finally {
      sending = false;
    }
  };
  const scale = (text, synthetic) => el("div", { class: synthetic ? "scale synthetic" : "scale" }, el("b", {}, text),
    el("div", { class: "row" }, ...(synthetic ? [1, 2, 3, 4, 5] : [5, 4, 3, 2, 1]).map((sure) =>
      el("button", { class: "call", data: { sure, synthetic }, onclick: () => say(synthetic, sure), title: synthetic ? `Shift ${sure}` : `${sure}` }, String(sure)))),
    el("div", { class: "row between fine" }, el("span", {}, synthetic ? "a guess" : "certain"), el("span", {}, synthetic ? "certain" : "a guess")));
  const next = async () => {
    byId("progress").textContent = `${number + 1} of ${test.items}`;
    const cube = new Cube(await get(`/api/reader/${test.key}/items/${number}`));
    const canvas = el("canvas", { class: "judged" });
    panes.replaceChildren(canvas);
    views = [new CubeView(canvas, cube, { window: HU[window], outline: false })];
    since = performance.now();
    document.body.dataset.item = number;
  };
  const show = (name) => { window = name; for (const view of views) { view.window = HU[name]; view.draw(); } };
  confidence.append(scale("Real", false), scale("Synthetic", true));
  room.replaceChildren(el("div", { class: "judging" }, panes,
    el("p", { class: "fine" }, "Scroll or drag through the slices; L and T change to lung and soft tissue. 1 to 5: real; Shift and 1 to 5: synthetic; 5 is certain."),
    confidence));
  move = scrollTogether(panes, () => views);
  document.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const digit = /^Digit([1-5])$/.exec(event.code);
    if (digit) say(event.shiftKey, Number(digit[1]));
    else if (event.key === "ArrowUp" || event.key === "PageUp") move(1);
    else if (event.key === "ArrowDown" || event.key === "PageDown") move(-1);
    else if (event.key.toLowerCase() === "l") show("lung");
    else if (event.key.toLowerCase() === "t") show("soft");
    else return;
    event.preventDefault();
  };
  next().catch((refusal) => tell(sentence(refusal.message), { error: true }));
}

const percent = (share) => `${(100 * share).toFixed(0)} %`;

async function result(test) {
  document.onkeydown = null;
  byId("progress").textContent = "";
  const found = await get(`/api/reader/${test.key}/result.json`);
  const { figures, called_synthetic: called } = found;
  const figure = (name, text, form, middle) => {
    const one = figures[name];
    if (!one) return el("div", { class: "figure" }, el("b", {}, "–"), el("span", {}, text), el("small", {}, "needs 2 of each kind"));
    return el("div", { class: "figure", id: `figure-${name}` }, el("b", {}, form(one.value)), el("span", {}, text),
      el("div", { class: "interval", title: "95 % interval" },
        el("i", { style: `left:${100 * one.low}%;width:${Math.max(1, 100 * (one.high - one.low))}%` }),
        el("u", { style: `left:${100 * one.value}%` }), middle ? el("s", {}) : ""),
      el("small", {}, `95 % interval ${form(one.low)} to ${form(one.high)}`));
  };
  const cells = [
    ["", "called real", "called synthetic"],
    ["real", found.real - called.of_real, called.of_real],
    ["synthetic", found.synthetic - called.of_synthetic, called.of_synthetic],
  ];
  room.replaceChildren(el("div", { class: "card", id: "result" },
    el("h1", {}, verdict(figures)),
    el("div", { class: "figures" },
      figure("sensitivity", "of the synthetic were called synthetic", percent),
      figure("specificity", "of the real were called real", percent),
      figure("auc", "AUC of the confidence; 0.5 is chance", (value) => value.toFixed(2), true)),
    el("table", { class: "cross" }, ...cells.map((row, i) => el("tr", {}, ...row.map((cell, j) => el(i && j ? "td" : "th", {}, String(cell)))))),
    ...found.notes.map((note) => el("p", { class: "fine" }, sentence(note))),
    el("div", { class: "row" },
      el("a", { class: "button primary", id: "result-csv", href: `/api/reader/${test.key}/result.csv`, download: "reader-test.csv" }, "Table of all calls"),
      el("a", { class: "button", id: "result-json", href: `/api/reader/${test.key}/result.json`, download: "reader-test.json" }, "All figures"),
      el("button", { onclick: () => begin() }, "Another test"))));
  document.body.dataset.result = "shown";
}

function verdict({ auc }) {
  if (!auc) return "The test is over";
  if (auc.low > 0.5) return "Told apart better than by chance";
  if (auc.high < 0.5) return "Told apart, but the other way round";
  return "Not shown to be told apart";
}

begin().catch((refusal) => { room.append(icon("reader")); tell(sentence(refusal.message), { error: true }); });
