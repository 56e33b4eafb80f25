// Contact sheets: the same site by several methods, in both classes, or with several seeds.

import { byId, el, fill, sentence, tell } from "./dom.js";
import { work } from "./ask.js";
import { Cube, CubeView, scrollTogether } from "./cube.js";
import { WINDOWS } from "./viewer.js";

const SEEDS = 6;

/** What a sheet tries, and its title. */
export function triesOf(kind, recipe, methods) {
  if (kind === "methods") {
    const usable = methods.filter((offer) => offer.roles.includes("injects") && !offer.reason);
    const tries = usable.map((offer) => offer.name === recipe.method
      ? { ...recipe, title: offer.name } : { method: offer.name, seed: recipe.seed, title: offer.name });
    return { title: "The same site by each method", tries };
  }
  if (kind === "classes") {
    const of = (rating, title) => ({ ...recipe, ratings: { ...recipe.ratings, malignancy: rating }, title });
    return { title: "Both classes, same seed", tries: [of(1, "benign"), of(5, "malignant")] };
  }
  const tries = Array.from({ length: SEEDS }, (_, i) => ({ ...recipe, seed: recipe.seed + i, title: `seed ${recipe.seed + i}` }));
  return { title: "The same request with several seeds", tries };
}

/** Make the sheet and show it; `take(recipe)` puts the chosen one into the scan. */
export async function showSheet(scan, voxel, diameter, { title, tries }, window, take) {
  const views = [], grid = el("div", { class: "sheet" }), state = el("p", { class: "fine" }, "Starting…");
  const stop = new AbortController();
  const aspect = scan.spacing_mm[1] / scan.spacing_mm[0];
  fill(byId("sheet"), title, el("p", { class: "fine" }, "Scroll to move through the slices; click a picture to put that nodule into the scan."), grid, state);
  byId("sheet").addEventListener("close", () => stop.abort(), { once: true });
  scrollTogether(grid, () => views);
  const picture = (cube, caption, chosen) => {
    const canvas = el("canvas", {});
    const view = new CubeView(canvas, cube, { flip: [true, true], aspect, window: WINDOWS[window].hu });
    if (views.length) view.go(views[0].slice);
    views.push(view);
    return el(chosen ? "button" : "div", { class: "picture", onclick: chosen || null }, canvas, el("span", {}, ...caption));
  };
  const recipeOf = ({ title: _, ...recipe }) => recipe;
  const part = (sent) => {
    if (sent.before) {
      grid.append(picture(new Cube(sent.before), ["before"], null));
    } else if (sent.error) {
      grid.append(el("div", { class: "picture refused" }, el("p", {}, sentence(sent.error)), el("span", {}, sent.title)));
    } else {
      grid.append(picture(new Cube(sent), [sent.title, el("small", {}, ` ${sent.diameter_mm} mm`)], () => {
        byId("sheet").close();
        take(recipeOf(tries[sent.number]));
      }));
    }
  };
  try {
    const done = await work(`/api/scans/${scan.key}/compare`, { at: voxel, diameter_mm: diameter, tries },
      { part, signal: stop.signal, tell: (text) => { state.textContent = `${text}…`; } });
    state.textContent = done.made ? "" : "None of them could be made here.";
  } catch (refusal) {
    if (stop.signal.aborted) return;
    byId("sheet").close();
    tell(sentence(refusal.message), { error: true });
  }
}
