// Runs before the first paint: the chosen theme, and links of the rail that keep the subject (run, epoch, ...).
(() => {
  const KEY = "workbench-theme";
  const KEPT = ["run", "epoch", "data", "sample", "decoder"];
  // Choices that back and forward undo; a dragged slider or a session's number is no such step, a word chosen
  // among a page's controls is.
  const CHOICES = [...KEPT, "epochs", "file", "against", "support", "keypoint"];
  const isWord = (value) => value !== null && isNaN(value);
  const isChoice = (name, old, now) => old !== now && (CHOICES.includes(name) || (name.startsWith("k.") && (isWord(old) || isWord(now))));
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const choice = () => localStorage.getItem(KEY) || "system";
  const dark = () => choice() === "dark" || (choice() === "system" && system.matches);

  const apply = () => {
    if (!document.body) return;
    if (document.body.classList.contains("dark") !== dark()) document.body.classList.toggle("dark", dark());
    document.documentElement.style.colorScheme = dark() ? "dark" : "light";
    document.querySelectorAll(".wb-theme button").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.theme === choice())));
  };
  system.addEventListener("change", apply);
  const questions = new Map();
  const refusals = new Set(); // numbers of the questions whose newest answer is a refusal, said in a toast
  const path = window.location.pathname.replace(/^\/|\/$/g, "");
  const page = (window.workbenchPages || {})[path];
  const opened = window.location.search; // what the page is first filled for
  let shown = null; // the address that the page was last filled for; null before its first answer
  let leaving = false; // being loaded again

  const OWN = "your-own"; // an upload in the address, see engine.py: no other page has it
  const REFUSED = "The last choice was not answered: the message says why. What is shown below belongs to the choice before it.";
  let told = false; // whether `unknown` was answered
  let noted = ""; // the data set whose note is shown, or being asked for

  const wb = {
    // What is to be known of a data set on every page that shows it: another folder of images may be meant, images are missing.
    async note(data) {
      if (noted === (data || "")) return;
      noted = data || "";
      const answer = noted && await fetch(new URL(`workbench/api/data/notes?${new URLSearchParams({ data })}`, document.baseURI));
      const { notes = [] } = answer && answer.ok ? await answer.json() : {};
      if (noted !== (data || "")) return;
      document.querySelectorAll(".wb-data-note").forEach((old) => old.remove());
      const head = document.querySelector(".wb-head:not([hidden])");
      if (!head || !notes.length) { if (notes.length) noted = ""; return; }
      head.after(...notes.map((text) => Object.assign(document.createElement("div"), { className: "wb-sentence wb-why wb-data-note", textContent: `${data}: ${text}` })));
    },
    // Names in the address that the page does not read, beside those that the rail's links carry to every page:
    // said once, until it is closed.
    unknown() {
      const head = document.querySelector(`.wb-head[data-of="/${page ? page.path : path}"]`);
      if (!head || !page || !page.address || told) return;
      told = true;
      const names = [...new Set([...new URLSearchParams(opened).keys()])].filter((n) => ![...KEPT, "epochs", ...page.address].includes(n) && !n.startsWith("__"));
      if (!names.length) return;
      const text = `The address names ${names.map((n) => (n.length > 60 ? `${n.slice(0, 60)}…` : n)).slice(0, 8).join(", ")}${names.length > 8 ? ", …" : ""}, which this page does not know: ignored.`;
      const close = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
      close.setAttribute("aria-label", "dismiss");
      const note = Object.assign(document.createElement("div"), { className: "wb-sentence wb-why wb-link-note" });
      note.setAttribute("role", "status");
      close.addEventListener("click", () => note.remove());
      note.append(text, close);
      head.after(note);
    },
    setTheme(name) { localStorage.setItem(KEY, name); apply(); window.dispatchEvent(new Event("wb-theme")); },
    // State lives in the address, so that a page can be linked to; "" and null leave it out.
    remember(state) {
      if (leaving) return; // Back was pressed: this is an answer to what stood here before
      const here = new URL(window.location), before = new URLSearchParams(here.search);
      for (const [name, value] of Object.entries(state)) {
        if (value === null || value === undefined || value === "") here.searchParams.delete(name);
        else here.searchParams.set(name, typeof value === "object" ? JSON.stringify(value) : value);
      }
      // What the page fills in while it opens is no choice: only later differences are steps to go back to.
      const names = [...before.keys(), ...here.searchParams.keys()];
      const chosen = shown !== null && names.some((name) => isChoice(name, before.get(name), here.searchParams.get(name)));
      window.history[chosen ? "pushState" : "replaceState"](window.history.state, "", here);
      shown = here.search;
      wb.links();
    },
    // What a page's question was asked with, by its number: whether that is still what stands there.
    asking(number, values) {
      questions.set(number, JSON.stringify(values));
      // Gradio's message stays until it is closed: it would stand beside the answer to another choice.
      if (refusals.delete(number)) document.querySelectorAll(".toast-body.error [data-testid=toast-close]").forEach((close) => close.click());
      document.querySelectorAll(`.wb-refused[data-question="${number}"]`).forEach((old) => old.remove());
      return values;
    },
    // Values were refused, a message says why: whether they are still the newest. What is shown is then of others.
    refused(number, values, place) {
      refusals.add(number);
      if (questions.get(number) !== JSON.stringify(values)) return false;
      const note = Object.assign(document.createElement("div"), { className: "wb-sentence wb-error wb-refused", textContent: REFUSED });
      note.dataset.question = number;
      note.setAttribute("role", "status");
      document.getElementById(place)?.before(note);
      return true;
    },
    query(names) { const q = new URL(window.location).searchParams; return names.map((n) => q.get(n)); },
    links() {
      const q = new URL(window.location).searchParams;
      document.querySelectorAll("a[data-page]").forEach((a) => {
        const to = new URL(a.dataset.page, window.location.origin);
        KEPT.forEach((n) => q.get(n) !== null && q.get(n) !== OWN && to.searchParams.set(n, q.get(n)));
        const href = to.pathname + to.search;
        if (a.getAttribute("href") !== href) a.setAttribute("href", href);
      });
      wb.mark();
      wb.unknown();
      if (q.get("data")) wb.note(q.get("data") === OWN ? "" : q.get("data"));
    },
    // The rail is the same on every page, and several pages may share one set of components: what is this one?
    mark() {
      if (!page) return;
      const here = `/${page.path}`;
      document.querySelectorAll(".wb-rail a[data-page]").forEach((a) => {
        const current = a.dataset.page === here && !a.dataset.heading;
        a.classList.toggle("wb-here", current || (!!page.parent && a.dataset.heading === page.parent));
        a.classList.toggle("wb-open", !!page.parent && a.dataset.parent === page.parent);
        if (current) a.setAttribute("aria-current", "page");
      });
      document.querySelectorAll(".wb-head[data-of]").forEach((h) => (h.dataset.of === here ? (h.hidden = false) : h.remove()));
    },
    // Which page this is, the words of its address, and those of its controls, for a route of several pages.
    address(names) {
      const controls = [...new URL(window.location).searchParams].filter(([name]) => name.startsWith("k."));
      const values = Object.fromEntries(controls.map(([name, value]) => [name.slice(2), value]));
      return { page: page ? page.path : path, words: wb.query(names), controls: values };
    },
    // A link to this page; an address of this machine means another one on the reader's.
    link(button) {
      const local = /^(localhost|.*\.localhost|127(\.\d+){3}|\[?::1\]?|0\.0\.0\.0)$/.test(window.location.hostname);
      wb.copy(window.location.href, button, local ? "Copied: for this machine only" : "Copied");
    },
    copy(text, button, done = "Copied") {
      const said = (word) => { if (!button) return; const old = button.textContent; button.textContent = word; setTimeout(() => (button.textContent = old), 1400); };
      const fallback = () => {
        const area = Object.assign(document.createElement("textarea"), { value: text });
        document.body.append(area); area.select();
        said(document.execCommand("copy") ? done : "Not copied"); area.remove();
      };
      if (navigator.clipboard && window.isSecureContext) navigator.clipboard.writeText(text).then(() => said(done), fallback);
      else fallback();
    },
    save(text, name) {
      const kind = { json: "application/json", html: "text/html" }[name.split(".").pop()] || "text/csv";
      const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(new Blob([text], { type: kind })), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    },
    // A section's report as a file; its place knows page, section and state.
    async file(place, kind) {
      const { page, section, state } = place.dataset;
      const old = place.querySelector(".wb-error");
      if (old) old.remove();
      const answer = await fetch(new URL("workbench/api/file", document.baseURI), {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ page, section, kind, state }),
      });
      const text = await answer.text();
      if (answer.ok) return wb.save(text, `${page === section ? page : `${page}-${section}`}.${kind}`.replace(/\//g, "-"));
      const said = Object.assign(document.createElement("div"), { className: "wb-sentence wb-error" });
      try { said.textContent = JSON.parse(text).error; } catch { said.textContent = `The file was not made: ${answer.status}`; }
      place.querySelector(".wb-buttons").after(said);
    },
    // Everything that this page shows, as one document: its sections know page, section and state; Compare's state is its address.
    async report(button) {
      const said = button.parentElement.querySelector(".wb-report-said"), here = page ? page.path : path;
      const [run, data, epochs, decoder, score, sample] = wb.query(["run", "data", "epochs", "decoder", "score", "sample"]);
      const shown = [...document.querySelectorAll(".wb-details[data-state]")].map(({ dataset: { page, section, state } }) => ({ page, section, state }));
      if (!here && run && data && epochs) shown.push({ page: "compare", section: "compare", state: JSON.stringify({ run, data, epochs, decoder, score, sample }) });
      [button.disabled, said.textContent] = [true, "being written"];
      try {
        const answer = await fetch(new URL("workbench/api/report", document.baseURI), {
          method: "POST", headers: { "content-type": "application/json" },
          body: JSON.stringify({ page: here, address: window.location.pathname + window.location.search, items: shown }),
        });
        const text = await answer.text();
        const waiting = answer.status === 202;  // the answer is the job that computes what was asked for
        said.textContent = waiting ? "still being computed; press Report again when it is done" : answer.ok ? "" : JSON.parse(text).error;
        if (answer.ok && !waiting) wb.save(text, `report-${here || "compare"}.html`);
      } catch (error) { said.textContent = `The report was not made: ${error.message}`; }
      button.disabled = false;
    },
    // Ends a job that no page shows any more, for which this page's job waits.
    async cancel(button) {
      if (button.disabled) return;
      button.disabled = true;
      const answer = await fetch(new URL(`workbench/api/jobs/${encodeURIComponent(button.dataset.cancelJob)}/cancel`, document.baseURI), { method: "POST" });
      button.replaceWith(answer.ok ? "It was cancelled." : JSON.parse(await answer.text()).error);
    },
    // The server cannot see that a page is closed while its jobs go on.
    leave() {
      const ids = [...document.querySelectorAll("[data-job]")].map((shown) => shown.dataset.job);
      if (ids.length) navigator.sendBeacon(new URL(`workbench/api/jobs/left?ids=${ids.join(",")}`, document.baseURI));
    },
    // Values of controls, `word` for those that an upload or a text replaces (a list gets it as its last entry);
    // `own` holds the places of the uploads that stand behind the controls' values.
    named(values, own, word) {
      const filled = (value) => (Array.isArray(value) ? value.length > 0 : String(value ?? "").trim() !== "");
      return values.map((value, i) => {
        if (!(own[i] || []).some((place) => filled(values[place]))) return value;
        return Array.isArray(value) ? [...value, word] : word;
      });
    },
    // State of a page's controls into its address; a list as words with commas, a plain value left out.
    keep(names, values, plain) {
      const word = (value) => (Array.isArray(value) ? value.join(",") : value === null || value === undefined ? "" : String(value));
      wb.remember(Object.fromEntries(names.map((name, i) => [name, word(values[i]) === plain[name] ? null : word(values[i])])));
    },
    // Calls `clicked` with the point of a figure that was clicked; the figure may be drawn a while later.
    onPoint(holder, clicked, left = 50) {
      const plot = document.querySelector(`#${holder} .js-plotly-plot`);
      if (!plot || !plot.on) return left > 0 && setTimeout(() => wb.onPoint(holder, clicked, left - 1), 100);
      plot.removeAllListeners("plotly_click");
      plot.on("plotly_click", (event) => clicked(event.points[0]));
    },
    picture(holder, name) {
      const plot = document.querySelector(`#${holder} .js-plotly-plot`);
      if (!plot || !window.Plotly) return;
      const meta = plot.layout.meta || {};
      // The page's sentence is the title; a saved picture has no page around it.
      const titled = meta.title ? { ...plot.layout, title: { ...plot.layout.title, text: meta.title }, margin: { ...plot.layout.margin, t: 84 } } : plot.layout;
      const ground = getComputedStyle(document.documentElement).getPropertyValue("--wb-surface");
      const paper = { ...titled, paper_bgcolor: getComputedStyle(document.body).getPropertyValue("--wb-surface") || ground };
      window.Plotly.downloadImage({ data: plot.data, layout: paper }, { format: "png", filename: name, scale: 2, width: plot.offsetWidth, height: plot.offsetHeight + (meta.title ? 48 : 0) });
    },
  };
  window.wb = wb;

  // Back and forward: the page is filled anew from the address, also where a step comes before the answer to the
  // one before it. Compare, whose address is the root, has its own way.
  window.addEventListener("popstate", () => {
    if (!page || !page.path || window.location.search === (shown ?? opened)) return;
    leaving = true;
    window.location.reload();
  });

  // plotly leaves a legend where it was, over the plot, when a wider figure needs fewer of its rows: placed anew
  // once plotly has followed the window.
  let resized;
  window.addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => document.querySelectorAll(".js-plotly-plot").forEach((plot) => {
      const { showlegend, legend } = plot._fullLayout || {};
      if (window.Plotly && showlegend && legend && plot.checkVisibility()) window.Plotly.relayout(plot, { "legend.y": legend.y });
    }), 400);
  });

  // Every page has a title of its own; Gradio gives all of them the app's.
  const title = page && page.title;
  const titled = () => { if (title && document.title !== `${title} · Pose workbench`) document.title = `${title} · Pose workbench`; };
  titled();
  new MutationObserver(titled).observe(document.head, { childList: true, subtree: true, characterData: true });

  // Gradio's text box takes a pressed key for the sign that its text has changed: what is deleted, cut, pasted
  // or dropped is an input, too.
  document.addEventListener("input", (event) => {
    const typed = ["insertText", "insertLineBreak"].includes(event.inputType);
    if (!typed && event.target.matches && event.target.matches("[data-testid=textbox]")) event.target.dispatchEvent(new KeyboardEvent("keypress", { bubbles: true }));
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest(".wb-theme button");
    if (button) wb.setTheme(button.dataset.theme);
    const report = event.target.closest && event.target.closest("[data-report]");
    if (report) wb.report(report);
    const action = event.target.closest && event.target.closest(".wb-buttons button");
    if (!action) return;
    const place = action.closest(".wb-details");
    if (action.dataset.picture) wb.picture(action.dataset.picture, action.dataset.name);
    else if (action.dataset.file) wb.file(place, action.dataset.file);
    else if (action.dataset.link !== undefined) wb.link(action);
    else if (action.dataset.cancelJob) wb.cancel(action);
    else wb.copy(place.querySelector("pre code").textContent, action);
  });
  // Not on the click: the progress beside this button is written anew while it is pressed.
  document.addEventListener("pointerdown", ({ target }) => target.dataset && target.dataset.cancelJob && wb.cancel(target));
  window.addEventListener("pagehide", () => wb.leave());
  const watch = () => {
    apply();
    // Gradio sets its own class on the body when it starts; the rail appears later still.
    new MutationObserver(() => { apply(); wb.links(); }).observe(document.body, { attributes: true, attributeFilter: ["class"], childList: true, subtree: false });
    const until = setInterval(() => { apply(); wb.links(); if (document.querySelector(".wb-rail a[href]") && document.querySelector(".wb-head")) clearInterval(until); }, 60);
  };
  if (document.body) watch(); else document.addEventListener("DOMContentLoaded", watch);
})();
