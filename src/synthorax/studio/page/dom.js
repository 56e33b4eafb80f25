// Making elements, telling the user something, and showing that work goes on.

export const byId = (id) => document.getElementById(id);

/** An element: `el("button", { class: "primary", onclick: f }, "Text", child)`. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(made.dataset, value);
    else if (name in made && name !== "list" && name !== "form") made[name] = value;
    else made.setAttribute(name === "class" ? "class" : name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const drawn = document.createElementNS(space, "svg");
  drawn.setAttribute("class", "icon");
  drawn.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `/page/icons.svg#${name}`);
  drawn.append(use);
  return drawn;
}

/** Buttons of which one is chosen; returns a function that chooses one. */
export function segments(box, entries, chosen, onChoose) {
  const buttons = entries.map(([value, text, title]) =>
    el("button", {
      type: "button", role: "radio", title: title || text, data: { value },
      onclick: () => { choose(value); onChoose(value); },
    }, text));
  const choose = (value) => buttons.forEach((button) =>
    button.setAttribute("aria-checked", String(button.dataset.value === String(value))));
  box.replaceChildren(...buttons);
  choose(chosen);
  return choose;
}

/** Tell the user something at the foot of the page; an error stays until it is closed. */
export function tell(text, { error = false, action = null } = {}) {
  const note = el("div", { class: error ? "toast error" : "toast" }, el("span", {}, text));
  const close = () => note.remove();
  if (action) note.append(el("button", { class: "quiet", onclick: () => { close(); action.run(); } }, action.text));
  note.append(el("button", { class: "quiet icon-only", "aria-label": "Close", onclick: close }, icon("close")));
  byId("toasts").append(note);
  while (byId("toasts").children.length > 3) byId("toasts").firstChild.remove();
  if (!error) setTimeout(close, 6000);
  return note;
}

export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

/** A dialog's content, with a title and a button that closes it. */
export function fill(dialog, title, ...content) {
  dialog.replaceChildren(
    el("header", {}, el("h1", {}, title),
      el("button", { class: "tool", "aria-label": "Close", onclick: () => dialog.close() }, icon("close"))),
    ...content);
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
  if (!dialog.open) dialog.showModal();
}
