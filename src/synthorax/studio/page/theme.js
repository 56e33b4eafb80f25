// Light or dark: what the user chose last, or else what the system has. Loaded before the page is drawn.
(() => {
  const kept = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const set = (name) => { document.documentElement.dataset.theme = name; };
  set(kept || (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", () => { if (!kept) set(dark.matches ? "dark" : "light"); });
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme")?.addEventListener("click", () => {
      const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      set(next);
      try { localStorage.setItem("theme", next); } catch { /* a browser that keeps nothing */ }
    });
  });
})();
