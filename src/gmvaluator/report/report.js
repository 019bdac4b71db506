"use strict";
// Pages, sorts and searches the tables in this file. Text is only ever set as text.
(() => {
const $ = (id) => document.getElementById(id);
const facts = JSON.parse($("facts").textContent);
const TYPES = { Uint8Array, Uint16Array, Uint32Array, Int32Array, Float32Array, Float64Array };

// ---- tables ---------------------------------------------------------------------------------
const bytesOf = (element) => {
  const text = element.textContent;
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
};
const inflated = async (bytes) => {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};
const opened = new Map();
const table = (name) => {
  if (!opened.has(name)) opened.set(name, open(name));
  return opened.get(name);
};
const open = async (name) => {
  const element = $(`table-${name}`);
  const kind = element.dataset.kind;
  const bytes = await inflated(bytesOf(element));
  element.remove();
  if (kind === "strings") return JSON.parse(new TextDecoder().decode(bytes));
  const size = TYPES[kind].BYTES_PER_ELEMENT;
  const n = bytes.length / size;
  const joined = new Uint8Array(bytes.length);
  for (let b = 0; b < size; b++) for (let i = 0, at = b * n; i < n; i++) joined[i * size + b] = bytes[at + i];
  return new TYPES[kind](joined.buffer);
};
const tables = async (...names) => Promise.all(names.map(table));

// ---- text -----------------------------------------------------------------------------------
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const count = (n) => whole.format(n);
const number = (x) => {
  if (Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "-inf";
  const size = Math.abs(x);
  if (x === 0 || (Number.isInteger(x) && size < 1e9)) return count(x);
  if (size < 1e-4 || size >= 1e9) return x.toExponential(2).replace(/e([+-])(\d)$/, "e$10$2");
  const digits = Math.max(0, 3 - Math.floor(Math.log10(size)));
  return new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits, roundingMode: "halfEven" }).format(x);
};
const share = (part, all) => (all > 0 ? (100 * Math.min(1, Math.max(0, part / all))).toFixed(0) : "0");

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
};
const bdi = (text) => make("bdi", {}, text);

// ---- pictures -------------------------------------------------------------------------------
let index = null;
const parts = new Map();
const pictureIndex = async () => {
  if (index) return index;
  const [ofTrain, rows, sizes] = await tables("picture-of-train", "picture-rows", "picture-sizes");
  const places = { train: new Map(), generated: new Map() };
  const starts = new Float64Array(rows.length);
  for (let i = 0, at = 0; i < rows.length; i++) {
    if (i % facts.part === 0) at = 0;
    starts[i] = at;
    at += sizes[i];
    places[ofTrain[i] ? "train" : "generated"].set(rows[i], i);
  }
  index = { places, starts, sizes, urls: new Map() };
  return index;
};
const address = (place) => {
  if (!index.urls.has(place)) {
    const part = Math.floor(place / facts.part);
    if (!parts.has(part)) parts.set(part, bytesOf($(`pictures-${part}`)));
    const start = index.starts[place];
    const bytes = parts.get(part).subarray(start, start + index.sizes[place]);
    const png = bytes[0] === 0x89;
    const side = (at) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at);
    const tiny = png && Math.max(side(16), side(20)) <= facts.tiny;
    const url = URL.createObjectURL(new Blob([bytes], { type: png ? "image/png" : "image/jpeg" }));
    index.urls.set(place, { url, tiny });
  }
  return index.urls.get(place);
};
const KINDS = { train: "Training image", generated: "Generated image" };
const linked = (run, side, row) => {
  const place = index.places[side].get(row);
  const name = `${KINDS[side]} ${run[side].ids[row]}`;
  const link = make("a", { class: "open", href: `#${side}-${row}` });
  if (place === undefined) {
    const state = facts.states[run[side].states[row]];
    link.append(make("span", { class: "pic none", role: "img", "aria-label": `${name}, picture ${state}` }, make("span", {}, state)));
  } else {
    const { url, tiny } = address(place);
    link.append(make("img", { class: tiny ? "pic px" : "pic", alt: name, src: url }));
  }
  return link;
};

// ---- the run --------------------------------------------------------------------------------
let run = null;
const side = async (name) => {
  const [ids, labels, codes, states] = await tables(`${name}-ids`, `${name}-labels`, `${name}-codes`, `${name}-states`);
  return { ids, labels, codes, states, label: (row) => (codes[row] ? labels[codes[row] - 1] : null) };
};
let loading = null;
const load = () => { loading ??= loaded(); return loading; };
const loaded = async () => {
  const names = ["values", "by-rank", "supported", "leaders", "quality", "match", "nothing", "spread", "nearest", "stored", "rows", "distances", "scores"];
  const [train, generated, columns] = await Promise.all([side("train"), side("generated"), tables(...names), pictureIndex()]);
  const all = Object.fromEntries(names.map((name, i) => [name, columns[i]]));
  const ranks = new Uint32Array(facts.n);
  all["by-rank"].forEach((row, i) => { ranks[row] = i + 1; });
  const slots = new Int32Array(facts.m).fill(-1);
  all.stored.forEach((row, i) => { slots[row] = i; });
  const sizes = new Uint32Array(facts.n);
  all.leaders.forEach((row) => { sizes[row]++; });
  run = { ...all, train, generated, ranks, slots, copies: (row) => sizes[all.leaders[row]] };
};
const contributors = (j, most) => {
  const slot = run.slots[j];
  if (slot < 0) return [];
  const found = [];
  for (let place = 0; place < Math.min(most, facts.storedK); place++) {
    const at = slot * facts.storedK + place;
    found.push({ row: run.rows[at], distance: run.distances[at], score: run.scores[at], place });
  }
  return found;
};
let inverse = null;
const supports = (row) => {
  if (!inverse) {
    const starts = new Uint32Array(facts.n + 1);
    for (let i = 0; i < run.rows.length; i++) if (run.scores[i] !== 0) starts[run.rows[i] + 1]++;
    for (let i = 0; i < facts.n; i++) starts[i + 1] += starts[i];
    const next = starts.slice();
    const at = new Uint32Array(starts[facts.n]);
    for (let i = 0; i < run.rows.length; i++) if (run.scores[i] !== 0) at[next[run.rows[i]]++] = i;
    inverse = { starts, at };
  }
  return Array.from(inverse.at.subarray(inverse.starts[row], inverse.starts[row + 1]))
    .sort((a, b) => run.scores[b] - run.scores[a])
    .map((i) => ({ row: run.stored[Math.floor(i / facts.storedK)], place: i % facts.storedK, distance: run.distances[i], score: run.scores[i] }));
};

// ---- cards ----------------------------------------------------------------------------------
const bar = (part, all) => make("i", { class: "bar", style: `--s:${share(part, all)}%` });
const labelled = (label) => (label === null ? null : make("small", {}, "label ", bdi(label)));
const copied = (row) => (run.copies(row) > 1 ? make("em", {}, `${count(run.copies(row))} copies`) : null);
const pairItem = (of, row, score, distance, all, extra = null) => make("li", {},
  linked(run, of, row), bar(score, all), make("b", {}, number(score)), make("em", {}, `d ${number(distance)}`), extra,
  make("span", { class: "id" }, bdi(run[of].ids[row])));
const stranger = (j) => (facts.level !== null && run.match[j] <= facts.level
  ? make("small", { class: "stranger" }, `no contributor found: p ${number(run.match[j])}`) : null);
const listName = (j) => (run.nothing[j] ? "Nearest training images" : "Contributors");
const generatedCard = (j) => {
  const quality = run.quality[j];
  const found = contributors(j, facts.shown);
  const items = found.map((c) => pairItem("train", c.row, c.score, c.distance, found[0].score, copied(c.row)));
  if (!items.length) items.push(make("li", { class: "soft" }, "In contributions.parquet."));
  return make("article", { class: "gen" },
    make("div", { class: "who" }, linked(run, "generated", j), make("h3", {}, bdi(run.generated.ids[j])),
      make("small", {}, `quality ${number(quality)}`), stranger(j), labelled(run.generated.label(j)),
      run.nothing[j] ? make("small", {}, "gave no score: nearest training images") : null),
    make("ol", { class: "cons", "aria-label": listName(j) }, ...items));
};
const valueCard = (row) => make("li", {}, linked(run, "train", row), make("div", {},
  make("b", { class: "rank" }, `#${count(run.ranks[row])}`), make("span", { class: "val" }, number(run.values[row])),
  bar(run.values[row], facts.top), make("span", { class: "id" }, bdi(run.train.ids[row])),
  labelled(run.train.label(row)), make("small", {}, `supports ${count(run.supported[row])}`),
  run.copies(row) > 1 ? make("small", {}, `one of ${count(run.copies(row))} copies`) : ""));

// ---- lists with pages -----------------------------------------------------------------------
const sorted = (n, before) => Uint32Array.from({ length: n }, (_, i) => i).sort((a, b) => before(a, b) || a - b);
const ORDERS = {
  spread: () => run.spread,
  set: (n) => Uint32Array.from({ length: n }, (_, i) => i),
  nearest: (n) => sorted(n, (a, b) => run.nearest[a] - run.nearest[b]),
  best: (n) => sorted(n, (a, b) => run.quality[b] - run.quality[a]),
  worst: (n) => sorted(n, (a, b) => run.quality[a] - run.quality[b]),
  most: () => run["by-rank"],
  least: () => run["by-rank"].slice().reverse(),
  supports: (n) => sorted(n, (a, b) => run.supported[b] - run.supported[a]),
};
const browser = (name, of, n, size, draw) => {
  const state = { at: 0, rows: null, order: null, turn: 0 };
  const [order, label, search] = [$(`${name}-order`), $(`${name}-label`), $(`${name}-search`)];
  const matching = () => {
    const asked = search.value.trim().toLowerCase();
    const code = Number(label.value);
    if (!asked && !code) return state.order;
    const { ids, codes } = run[of];
    return state.order.filter((row) => (!code || codes[row] === code) && (!asked || ids[row].toLowerCase().includes(asked)));
  };
  const show = () => {
    const rows = Array.from(state.rows.slice(state.at, state.at + size));
    draw(rows);
    const last = Math.min(state.at + size, state.rows.length);
    $(`${name}-place`).textContent = state.rows.length ? `${count(state.at + 1)}–${count(last)} of ${count(state.rows.length)}` : "nothing found";
    $(`${name}-back`).disabled = state.at === 0;
    $(`${name}-next`).disabled = last >= state.rows.length;
  };
  const refresh = guarded(async (reorder) => {
    const turn = ++state.turn;
    if (reorder) state.order = null;
    await load();
    // a later wish draws the list; drawn again, it would lose the focus
    if (turn !== state.turn) return;
    state.order ??= ORDERS[order.value](n);
    state.rows = matching();
    state.at = 0;
    show();
  });
  const move = (by) => guarded(async () => {
    if (!state.rows) await refresh(true);
    state.at = Math.max(0, Math.min(state.at + by, state.rows.length - 1));
    show();
    $(`${name}-form`).scrollIntoView({ block: "start" });
  })();
  let waiting = 0;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => refresh(false), 150); });
  order.addEventListener("change", () => refresh(true));
  label.addEventListener("change", () => refresh(false));
  $(`${name}-form`).addEventListener("submit", (event) => { event.preventDefault(); refresh(false); });
  $(`${name}-back`).addEventListener("click", () => move(-size));
  $(`${name}-next`).addEventListener("click", () => move(size));
  return async () => {
    const names = await table(`${of}-labels`);
    if (names.length) {
      label.append(make("option", { value: "0" }, "any"), ...names.map((text, i) => make("option", { value: i + 1 }, text)));
      label.closest("label").hidden = false;
    }
    $(`${name}-place`).textContent = `1–${count(Math.min(size, n))} of ${count(n)}`;
    $(`${name}-back`).disabled = true;
    $(`${name}-next`).disabled = n <= size;
    return () => (state.turn ? null : refresh(true));
  };
};
const guarded = (action) => async (...given) => {
  try {
    return await action(...given);
  } catch (error) {
    $("failed").textContent = ` The tables in this file could not be opened: ${error}. The page shows a part of them.`;
    console.error(error);
    return null;
  }
};

// ---- one image ------------------------------------------------------------------------------
const facesOf = (of, row, facts_) => make("div", { class: "about" }, linked(run, of, row).firstChild,
  make("div", {}, make("h2", { id: "detail-title" }, bdi(run[of].ids[row])), make("dl", { class: "pairs" },
    ...facts_.filter(([, text]) => text !== null).map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, bdi(text)))))));
const DETAILS = {
  train: (row) => {
    const found = supports(run.leaders[row]);
    const copies = run.copies(row);
    const sharing = copies > 1 ? ` It is one of ${count(copies)} copies that count once: scores are of all of them, and each has an equal part.` : "";
    const shown = found.slice(0, 60);
    const value = run.values[row];
    const all = run.supported[row];
    const note = found.length < all ? ` ${count(found.length)} of these are in this file, all in contributions.parquet.` : "";
    return [
      facesOf("train", row, [["training image", `row ${count(row + 1)} of ${count(facts.n)}`], ["value", number(value)],
        ["share of all value", facts.total > 0 ? `${number(100 * value / facts.total)} %` : null],
        ["rank", `${count(run.ranks[row])} of ${count(facts.n)}`], ["label", run.train.label(row)], ["supports", `${count(all)} generated images`]]),
      make("p", { class: "soft" }, all ? `Generated images it contributed to${shown.length < found.length ? `, the first ${shown.length}` : ""}, highest score first.${note}${sharing}` : "It was given no score."),
      make("ol", { class: "cons" }, ...shown.map((s) => pairItem("generated", s.row, s.score, s.distance, found[0].score,
        make("em", {}, `contributor ${s.place + 1}`)))),
    ];
  },
  generated: (j) => {
    const found = contributors(j, facts.storedK);
    return [
      facesOf("generated", j, [["generated image", `row ${count(j + 1)} of ${count(facts.m)}`], ["quality", number(run.quality[j])], ["p-value of its match", facts.level === null ? null : number(run.match[j])], ["label", run.generated.label(j)]]),
      make("p", { class: "soft" }, `${count(found.length)} of its ${count(facts.k)} ${run.nothing[j] ? "nearest training images; it gave no score" : "contributors"}, best first${found.length < facts.k ? "; all are in contributions.parquet" : ""}.`),
      make("ol", { class: "cons" }, ...found.map((c) => pairItem("train", c.row, c.score, c.distance, found[0].score, copied(c.row)))),
    ];
  },
};
const detail = $("detail");
const route = guarded(async () => {
  const match = /^#(train|generated)-(\d+)$/.exec(location.hash);
  if (!match || Number(match[2]) >= (match[1] === "train" ? facts.n : facts.m)) {
    if (detail.open) detail.close();
    return;
  }
  await load();
  $("detail-body").replaceChildren(...DETAILS[match[1]](Number(match[2])));
  if (!detail.open) detail.showModal();
  detail.scrollTop = 0;
});
detail.addEventListener("close", () => {
  if (/^#(train|generated)-\d+$/.test(location.hash)) history.replaceState(null, "", location.pathname + location.search);
});
detail.addEventListener("click", (event) => { if (event.target === detail) detail.close(); });
addEventListener("hashchange", route);

// ---- keys: arrows lead from picture to picture ------------------------------------------------
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
    next = ahead.length ? ahead.reduce((best, each) => (cost(each) < cost(best) ? each : best))[0] : undefined;
  }
  if (next) {
    event.preventDefault();
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  }
});

// ---- light and dark --------------------------------------------------------------------------
const theme = $("theme");
const THEMES = ["system", "light", "dark"];
const stored = () => { try { return localStorage.getItem("gmvaluator-theme"); } catch { return null; } };
const setTheme = (name) => {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.textContent = { system: "◐ System", light: "☀ Light", dark: "☾ Dark" }[name];
  theme.setAttribute("aria-label", `Colours: ${name}. Change`);
  theme.dataset.name = name;
};
setTheme(THEMES.includes(stored()) ? stored() : "system");
theme.hidden = false;
theme.addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(theme.dataset.name) + 1) % 3];
  setTheme(next);
  try { localStorage.setItem("gmvaluator-theme", next); } catch { /* a page from disk may have no storage */ }
});

// ---- start ----------------------------------------------------------------------------------
const gallery = browser("gallery", "generated", facts.m, facts.galleryPage, (rows) => $("gallery").replaceChildren(...rows.map(generatedCard)));
const every = browser("train", "train", facts.n, facts.valuesPage, (rows) => $("train-list").replaceChildren(make("ol", { class: "values" }, ...rows.map(valueCard))));
const start = guarded(async () => {
  document.querySelectorAll(".scripted").forEach((element) => { element.hidden = false; });
  document.querySelectorAll(".static").forEach((element) => { element.hidden = true; });
  document.documentElement.classList.add("scripting");
  await gallery();
  const first = await every();
  // the tables open when the list comes near, not before the page is shown
  const near = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) { near.disconnect(); first(); }
  }, { rootMargin: "800px" });
  near.observe($("every"));
  await route();
  document.documentElement.dataset.ready = "yes";
});
start();
})();
