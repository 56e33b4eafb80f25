// The table of nodules and the list of edits.

import { byId, el, icon } from "./dom.js";

/** Show the nodules; `actions.go(nodule)` moves there, `actions.erase(nodule)` takes it out. */
export function showNodules(nodules, actions, canErase) {
  byId("count").textContent = nodules.length || "";
  if (!nodules.length) {
    byId("nodules").replaceChildren(el("p", { class: "fine" }, "None yet."));
    return;
  }
  const rows = nodules.map((nodule) =>
    el("tr", { tabIndex: 0, data: { label: nodule.label }, onclick: () => actions.go(nodule),
      onkeydown: (event) => { if (event.key === "Enter") actions.go(nodule); },
      title: describe(nodule) },
      el("td", { class: "number" }, String(nodule.label)),
      el("td", { class: "number" }, `${nodule.diameter_mm.toFixed(1)}`),
      el("td", {}, el("span", { class: "by" }, nodule.method || "in the scan"), nodule.visible ? "" : el("small", { class: "warn" }, " faint")),
      el("td", { class: "number place" }, nodule.center_mm.map((mm) => mm.toFixed(0)).join(", ")),
      el("td", { class: "number" }, nodule.seed ?? ""),
      el("td", {}, canErase ? el("button", { class: "quiet icon-only", title: "Take it out", "aria-label": `Take nodule ${nodule.label} out`,
        onclick: (event) => { event.stopPropagation(); actions.erase(nodule); } }, icon("eraser")) : "")));
  byId("nodules").replaceChildren(el("table", {},
    el("thead", {}, el("tr", {}, ...["", "mm", "by", "x, y, z", "seed", ""].map((text) => el("th", {}, text)))),
    el("tbody", {}, ...rows)));
}

function describe(nodule) {
  const ratings = Object.entries(nodule.attributes).map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`);
  return ratings.length ? ratings.join(", ") : "Go there";
}

/** Show the edits, newest first; a click on one undoes those after it. */
export function showHistory(steps, undone, back) {
  const lines = steps.map((step, number) => {
    const what = step.kind === "inject"
      ? `${step.count === 1 ? "1 nodule" : `${step.count} nodules`} by ${step.method}`
      : `taken out by ${step.method}${step.gone.length ? `: ${step.gone.join(", ")}` : ""}`;
    return el("li", {},
      el("button", { class: "step", disabled: number === steps.length - 1, title: "Go back to here", onclick: () => back(steps.length - 1 - number) },
        el("span", {}, what), el("small", {}, `seed ${step.seed}`)),
      ...step.notes.map((note) => el("p", { class: "fine" }, note)));
  });
  if (undone) lines.push(el("li", { class: "fine" }, undone === 1 ? "1 edit undone" : `${undone} edits undone`));
  byId("history").replaceChildren(...(lines.length ? lines.reverse() : [el("li", { class: "fine" }, "No edits yet.")]));
}
