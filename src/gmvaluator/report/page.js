// ---- text ------------------------------------------------------------------------------------
const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const count = (n) => whole.format(n);
// four significant digits, as Python's format_number
const number = (x) => {
  if (Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "-inf";
  const size = Math.abs(x);
  if (x === 0 || (Number.isInteger(x) && size < 1e9)) return count(x);
  if (size < 1e-4 || size >= 1e9) return x.toExponential(2).replace(/e([+-])(\d)$/, "e$10$2");
  const digits = Math.max(0, 3 - Math.floor(Math.log10(size)));
  return new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits, roundingMode: "halfEven" }).format(x);
};

// ---- elements: text of the run is only ever set as text ----------------------------------------
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
};
const bdi = (text) => make("bdi", {}, text);
const bar = (part, all) => {
  const share = all > 0 ? Math.min(1, Math.max(0, part / all)) : 0;
  return make("i", { class: "bar", style: `--s:${(100 * share).toFixed(0)}%` });
};

// ---- cards: every card is drawn here, from a record --------------------------------------------
// the text of a line (`Line` in columns.py) with the record's cell in it; null: no such line
const filled = (line, record) => {
  const cell = record[line.column];
  if (cell === null || cell === undefined) return null;
  if ((line.low !== null && cell < line.low) || (line.high !== null && cell > line.high)) return null;
  const [before, after] = line.text.split("{}");
  if (after === undefined) return [before];
  return [before, typeof cell === "number" ? number(line.scale * cell) : bdi(cell), after];
};
const lines = (card, record) => facts.lines[card].flatMap((line) => {
  const text = filled(line, record);
  return text ? [make("small", { class: line.style }, ...text)] : [];
});
const KINDS = { train: "Training image", generated: "Generated image" };
const picture = (record) => {
  const name = `${KINDS[record.side]} ${record.id}`;
  if (record.picture) return make("img", { class: record.tiny ? "pic px" : "pic", alt: name, src: record.picture });
  return make("span", { class: "pic none", role: "img", "aria-label": `${name}, picture ${record.state}` }, make("span", {}, record.state));
};
const linked = (record) => make("a", { class: "open", href: `#${record.side}-${record.row}` }, picture(record));
const idOf = (record) => make("span", { class: "id" }, bdi(record.id));
const pairItems = (card, pairs) => pairs.map((record) => make("li", {},
  linked(record), bar(record.score, pairs[0].score), ...lines(card, record), idOf(record)));
const generatedCard = (record) => {
  const items = pairItems("contributor", record.contributors);
  if (!items.length) items.push(make("li", { class: "soft" }, "In contributions.parquet."));
  return make("article", { class: "gen" },
    make("div", { class: "who" }, linked(record), make("h3", {}, bdi(record.id)), ...lines("generated", record)),
    make("ol", { class: "cons", "aria-label": record.silent ? "Nearest training images" : "Contributors" }, ...items));
};
const valueCard = (record) => make("li", {}, linked(record), make("div", {},
  make("b", { class: "rank" }, `#${count(record.rank)}`), make("span", { class: "val" }, number(record.value)),
  bar(record.value, facts.topValue), idOf(record), ...lines("train", record)));
const drawn = {
  generated: (records) => records.map(generatedCard),
  train: (records) => [make("ol", { class: "values" }, ...records.map(valueCard))],
};

// ---- lists with pages --------------------------------------------------------------------------
const source = embeddedSource();
const guarded = (action) => async (...inputs) => {
  try {
    return await action(...inputs);
  } catch (error) {
    $("failed").textContent = ` The tables in this file could not be opened: ${error}. The page shows a part of them.`;
    console.error(error);
    return null;
  }
};
const listWithPages = (side, first) => {
  const size = facts.pageSize[side];
  const part = (name) => $(`${side}-${name}`);
  const draw = (records, start, total) => {
    const last = start + records.length;
    part("list").replaceChildren(...drawn[side](records));
    part("place").textContent = total ? `${count(start + 1)}–${count(last)} of ${count(total)}` : "nothing found";
    part("back").disabled = start === 0;
    part("next").disabled = last >= total;
  };
  let list = null;
  let start = 0;
  let turn = 0;
  const show = (at) => {
    start = Math.max(0, Math.min(at, list.total - 1));
    draw(list.at(start, start + size), start, list.total);
  };
  const refresh = guarded(async (at) => {
    const mine = ++turn;
    const result = await source.list(side, { order: Number(part("order").value), label: part("label").value, search: part("search").value });
    // a later wish draws the list; drawn again, the list would lose the focus
    if (mine !== turn) return;
    list = result;
    show(at);
  });
  const move = guarded(async (by) => {
    if (list) show(start + by);
    else await refresh(start + by);
    part("form").scrollIntoView({ block: "start" });
  });
  let waiting = 0;
  part("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => refresh(0), 150); });
  part("order").addEventListener("change", () => refresh(0));
  part("label").addEventListener("change", () => refresh(0));
  part("form").addEventListener("submit", (event) => { event.preventDefault(); refresh(0); });
  part("back").addEventListener("click", () => move(-size));
  part("next").addEventListener("click", () => move(size));
  if (facts.labels[side].length) {
    part("label").append(make("option", {}, "any"), ...facts.labels[side].map((text) => make("option", { value: text }, text)));
    part("label").firstChild.value = "";
    part("label").closest("label").hidden = false;
  }
  draw(first, 0, facts.n[side]);
};

// ---- one image ---------------------------------------------------------------------------------
const NOTES = {
  train: ({ record, pairs, all }) => {
    if (!record.supports) return "No generated image gave this image a score.";
    const first = pairs.length < all ? ` The first ${count(pairs.length)} are shown.` : "";
    const part = all < record.supports ? ` ${count(all)} of these ${count(record.supports)} are in this file, all in contributions.parquet.` : "";
    const copies = record.copies > 1 ? ` This image is one of ${count(record.copies)} copies that count once: a score is that of all copies together, and each copy has an equal part of it.` : "";
    return `Generated images that this image contributed to, highest score first.${first}${part}${copies}`;
  },
  generated: ({ record, pairs }) => {
    const names = record.silent ? "nearest training images" : "contributors";
    const rest = pairs.length < facts.k ? " All are in contributions.parquet." : "";
    return `${count(pairs.length)} of ${count(facts.k)} ${names}, best first.${record.silent ? " This image gave no score." : ""}${rest}`;
  },
};
const about = (image) => {
  const { side, id } = image.record;
  const rows = facts.lines[`about-${side}`].map((line) => [line.name, filled(line, image.record)]).filter(([, text]) => text);
  return [
    make("div", { class: "about" }, picture(image.record), make("div", {}, make("h2", { id: "detail-title" }, bdi(id)),
      make("dl", { class: "pairs" }, ...rows.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, ...text)))))),
    make("p", { class: "soft" }, NOTES[side](image)),
    make("ol", { class: "cons" }, ...pairItems(side === "train" ? "supported" : "contributor", image.pairs)),
  ];
};
const detail = $("detail");
const ADDRESS = /^#(train|generated)-(\d+)$/;
const route = guarded(async () => {
  const [, side, row] = ADDRESS.exec(location.hash) ?? [];
  if (!side || Number(row) >= facts.n[side]) {
    if (detail.open) detail.close();
    return;
  }
  const image = await source.image(side, Number(row));
  $("detail-body").replaceChildren(...about(image));
  if (!detail.open) detail.showModal();
  detail.scrollTop = 0;
});
detail.addEventListener("close", () => {
  if (ADDRESS.test(location.hash)) history.replaceState(null, "", location.pathname + location.search);
});
detail.addEventListener("click", (event) => { if (event.target === detail) detail.close(); });
addEventListener("hashchange", route);

// ---- keys: arrows lead from picture to picture -------------------------------------------------
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
document.addEventListener("keydown", (event) => {
  const from = document.activeElement;
  const step = STEPS[event.key];
  if (!step || !from || !from.matches("a.open") || event.altKey || event.ctrlKey || event.metaKey) return;
  const links = [...from.closest("section, dialog").querySelectorAll("a.open")];
  const middle = (link) => { const box = link.getBoundingClientRect(); return [box.left + box.width / 2, box.top + box.height / 2]; };
  let next = links[links.indexOf(from) + step[0]];
  if (step[1]) {
    const [x, y] = middle(from);
    const ahead = links.map((link) => [link, ...middle(link)]).filter(([, , b]) => (b - y) * step[1] > 8);
    const cost = ([, a, b]) => Math.abs(b - y) + 2 * Math.abs(a - x);
    next = ahead.length ? ahead.reduce((best, link) => (cost(link) < cost(best) ? link : best))[0] : undefined;
  }
  if (next) {
    event.preventDefault();
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  }
});

// ---- light and dark ----------------------------------------------------------------------------
const theme = $("theme");
const THEMES = { system: "◐ System", light: "☀ Light", dark: "☾ Dark" };
const setTheme = (name) => {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.textContent = THEMES[name];
  theme.setAttribute("aria-label", `Colours: ${name}. Change`);
  theme.dataset.name = name;
};
const storedTheme = () => { try { return localStorage.getItem("gmvaluator-theme"); } catch { return null; } };
setTheme(storedTheme() in THEMES ? storedTheme() : "system");
theme.addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(theme.dataset.name) + 1) % names.length]);
  try { localStorage.setItem("gmvaluator-theme", theme.dataset.name); } catch { /* a page from disk may have no storage */ }
});

// ---- start -------------------------------------------------------------------------------------
const start = guarded(async () => {
  $("unscripted").remove();
  document.querySelectorAll(".scripted").forEach((element) => { element.hidden = false; });
  listWithPages("generated", source.first.generated);
  $("most-list").replaceChildren(...drawn.train(source.first.most));
  $("least-list").replaceChildren(...drawn.train(source.first.least));
  listWithPages("train", source.first.most);
  await route();
  document.documentElement.dataset.ready = "yes";
});
start();
