// The panel that makes nodules: method, diameter, ratings that the method heeds, its options, seed, and what to do.

import { el, icon, segments } from "./dom.js";
import { get } from "./ask.js";

const TITLES = {
  malignancy: "Malignancy", subtlety: "Subtlety", internal_structure: "Inside", calcification: "Calcification",
  sphericity: "Roundness", margin: "Margin", lobulation: "Lobulation", spiculation: "Spiculation", texture: "Texture",
};
const ENDS = {
  malignancy: ["benign", "malignant"], subtlety: ["subtle", "obvious"], sphericity: ["linear", "round"],
  margin: ["blurred", "sharp"], lobulation: ["none", "marked"], spiculation: ["none", "marked"],
  texture: ["ground-glass", "solid"],
};
const FIRST_SHOWN = ["malignancy", "texture", "spiculation"];
const title = (name) => TITLES[name] || (name.charAt(0).toUpperCase() + name.slice(1)).replaceAll("_", " ");

export class Forms {
  /** @param {HTMLElement} box @param {object[]} methods @param {object} actions what the buttons do */
  constructor(box, methods, actions) {
    this.methods = methods;
    this.actions = actions;
    this.kept = {}; // values by method, so that a change of method and back loses nothing
    this.task = "inject";
    this.onPick = "look";
    this.#build(box);
  }

  #build(box) {
    const tasks = el("div", { class: "segments whole", role: "radiogroup", "aria-label": "Task" });
    this.chooseTask = segments(tasks, [["inject", "Put in", "Put nodules in"], ["erase", "Take out", "Take nodules out"]],
      this.task, (task) => this.setTask(task));
    this.method = el("select", { id: "method", onchange: () => this.#show() });
    this.about = el("p", { class: "fine" });
    this.diameter = el("input", { type: "range", min: 3, max: 40, step: 0.5, value: 10, id: "diameter",
      oninput: () => { this.diameterText.value = this.diameter.value; } });
    this.diameterText = el("input", { type: "number", min: 1, max: 100, step: 0.5, value: 10, "aria-label": "Diameter in mm",
      oninput: () => { this.diameter.value = this.diameterText.value; } });
    this.fields = el("div", { class: "fields" });
    this.seed = el("input", { type: "number", min: 0, max: 2 ** 31 - 1, step: 1, value: 1, id: "seed" });
    const dice = el("button", { class: "tool", type: "button", title: "Another seed (R)", "aria-label": "Another seed",
      onclick: () => this.anotherSeed() }, icon("dice"));
    this.act = el("button", { class: "primary whole", id: "act", onclick: () => this.actions.act() }, "Put a nodule at the crosshair");
    this.onClick = el("input", { type: "checkbox", id: "on-click" });
    this.count = el("input", { type: "number", min: 1, max: 50, step: 1, value: 5, id: "count-auto", "aria-label": "Number of nodules" });
    this.site = el("select", { id: "site", "aria-label": "Site" },
      el("option", { value: "lung" }, "in the lung"), el("option", { value: "pleura" }, "on the pleura"),
      el("option", { value: "vessel" }, "on a vessel"));
    this.several = el("div", { class: "stack" },
      el("div", { class: "row" }, this.count, this.site,
        el("button", { id: "auto", onclick: () => this.actions.auto(Number(this.count.value), this.site.value) }, "Place")),
      el("div", { class: "row wrap" }, el("span", { class: "label" }, "Compare"),
        el("button", { id: "by-method", onclick: () => this.actions.compare("methods") }, "methods"),
        el("button", { id: "by-class", onclick: () => this.actions.compare("classes") }, "classes"),
        el("button", { id: "by-seed", onclick: () => this.actions.compare("seeds") }, "seeds")));
    box.replaceChildren(
      tasks,
      el("div", { class: "field" }, el("label", { htmlFor: "method" }, "Method"), this.method),
      this.about,
      el("div", { class: "field", id: "diameter-field" }, el("label", { htmlFor: "diameter" }, "Diameter"),
        el("div", { class: "range" }, this.diameter, this.diameterText, el("span", { class: "unit" }, "mm"))),
      this.fields,
      el("div", { class: "field", id: "seed-field" }, el("label", { htmlFor: "seed" }, "Seed"), el("div", { class: "row" }, this.seed, dice)),
      el("div", { class: "stack" }, this.act,
        el("label", { class: "check" }, this.onClick, el("span", {}, "at each click on the scan"))),
      this.several);
    this.setTask("inject");
  }

  setTask(task) {
    this.task = task;
    this.chooseTask(task);
    const role = task === "inject" ? "injects" : "erases";
    const offers = this.methods.filter((offer) => offer.roles.includes(role));
    const usable = offers.filter((offer) => !offer.reason), others = offers.filter((offer) => offer.reason);
    this.method.replaceChildren(
      ...usable.map((offer) => el("option", { value: offer.name }, offer.name)),
      others.length ? el("optgroup", { label: "cannot be used here" },
        ...others.map((offer) => el("option", { value: offer.name }, offer.name))) : "");
    this.several.hidden = task !== "inject";
    this.act.textContent = task === "inject" ? "Put a nodule at the crosshair" : "Take out what is at the crosshair";
    this.#show();
  }

  get offer() {
    return this.methods.find((offer) => offer.name === this.method.value);
  }

  get diameterMm() {
    return Number(this.diameterText.value) || 10;
  }

  anotherSeed() {
    this.seed.value = Math.floor(Math.random() * 1e6);
  }

  /** What the server needs to make a nodule as the form says. */
  recipe() {
    const values = this.kept[this.method.value] || { ratings: {}, options: {} };
    return { method: this.method.value, ratings: { ...values.ratings }, options: { ...values.options }, seed: Number(this.seed.value) || 0 };
  }

  /** Whether the chosen method takes a rating. */
  heeds(rating) {
    return (this.shown?.ratings || []).some((field) => field.name === rating);
  }

  async #show() {
    const { offer } = this, name = this.method.value;
    this.fields.replaceChildren();
    this.shown = null;
    for (const button of [this.act, ...this.several.querySelectorAll("button")]) button.disabled = !offer || Boolean(offer.reason);
    if (!offer) {
      this.about.textContent = "No method can do this here.";
      return;
    }
    this.about.classList.toggle("warn", Boolean(offer.reason));
    this.about.textContent = offer.reason ? `Not here: ${offer.reason}.` : offer.help;
    if (offer.reason) return;
    const waiting = setTimeout(() => { this.about.textContent = `${offer.help} Loading its model…`; }, 400);
    try {
      const form = await get(`/api/form?method=${encodeURIComponent(name)}`);
      if (this.method.value !== name) return;
      this.shown = form;
      this.#fieldsOf(form, this.kept[name] ||= { ratings: {}, options: {} });
      this.about.textContent = offer.help + (form.seen ? ` It has learned from ${form.seen} patients.` : "");
    } catch (refusal) {
      this.about.classList.add("warn");
      this.about.textContent = refusal.message;
    } finally {
      clearTimeout(waiting);
    }
  }

  #fieldsOf(form, kept) {
    if (this.task !== "inject") return;
    const order = (field) => { const at = FIRST_SHOWN.indexOf(field.name); return at < 0 ? 9 : at; };
    const ratings = [...form.ratings].sort((a, b) => order(a) - order(b)).map((field) => rating(field, kept.ratings));
    const first = ratings.splice(0, ratings.length > 4 ? 3 : ratings.length);
    const more = [...ratings, ...form.options.map((field) => option(field, kept.options))];
    this.fields.replaceChildren(...first,
      more.length ? el("details", {}, el("summary", {}, "More"), ...more) : "");
  }
}

/** A slider for a rating, or a choice for a kind; without a value it is left to the method. */
function rating(field, kept) {
  const id = `rating-${field.name}`;
  if (field.kinds) {
    const choice = el("select", { id, onchange: () => keep(kept, field.name, choice.value && Number(choice.value)) },
      el("option", { value: "" }, "as the method chooses"),
      ...field.words.map((word) => el("option", { value: word.value }, word.text)));
    choice.value = kept[field.name] ?? "";
    return el("div", { class: "field" }, el("label", { htmlFor: id }, title(field.name)), choice);
  }
  const [low, high] = ENDS[field.name] || ["", ""];
  const text = el("output", { class: "unit" });
  const slider = el("input", { type: "range", id, min: field.least, max: field.most, step: 0.5, value: kept[field.name] ?? 3,
    oninput: () => { keep(kept, field.name, Number(slider.value)); show(); } });
  const free = el("button", { class: "quiet", type: "button", title: "Leave it to the method",
    onclick: () => { keep(kept, field.name, ""); show(); } }, "any");
  const show = () => {
    const set = field.name in kept;
    slider.classList.toggle("unset", !set);
    free.setAttribute("aria-pressed", String(!set));
    text.textContent = set ? Number(kept[field.name]).toFixed(1).replace(".0", "") : "";
  };
  show();
  return el("div", { class: "field" }, el("label", { htmlFor: id }, title(field.name)),
    el("div", { class: "range" }, el("div", { class: "ends" }, slider, el("small", {}, el("span", {}, low), el("span", {}, high))), text, free));
}

function option(field, kept) {
  const id = `option-${field.name}`, label = el("label", { htmlFor: id, title: field.help }, title(field.name));
  const empty = field.default === null || field.default === undefined ? "as the method chooses" : `${field.default} (default)`;
  if (field.kind === "switch") {
    const box = el("input", { type: "checkbox", id, checked: kept[field.name] ?? Boolean(field.default),
      onchange: () => keep(kept, field.name, box.checked) });
    return el("label", { class: "check", title: field.help }, box, el("span", {}, title(field.name)));
  }
  if (field.kind === "choice") {
    const choice = el("select", { id, onchange: () => keep(kept, field.name, choice.value) },
      el("option", { value: "" }, empty), ...field.choices.map((one) => el("option", { value: one.value }, one.text)));
    choice.value = kept[field.name] ?? "";
    return el("div", { class: "field" }, label, choice);
  }
  if (field.kind === "lines") {
    const lines = el("textarea", { id, rows: 2, placeholder: "one on each line", value: (kept[field.name] || []).join("\n"),
      onchange: () => keep(kept, field.name, lines.value.split("\n").map((line) => line.trim()).filter(Boolean)) });
    return el("div", { class: "field" }, label, lines);
  }
  const number = el("input", { type: "number", id, min: field.least, max: field.most, step: field.kind === "whole" ? 1 : "any",
    placeholder: empty, value: kept[field.name] ?? "", onchange: () => keep(kept, field.name, number.value && Number(number.value)) });
  return el("div", { class: "field" }, label, number);
}

function keep(kept, name, value) {
  if (value === "" || value === null || (Array.isArray(value) && !value.length)) delete kept[name];
  else kept[name] = value;
}
