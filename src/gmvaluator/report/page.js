// The page: cards, lists with pages, one image by itself, search by picture, downloads, keys.

// ---- text ------------------------------------------------------------------------------------
const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const count = (n) => whole.format(n);
// making a formatter takes longer than using it a hundred times
const formatters = new Map();
const fixed = (x, digits) => {
  if (!formatters.has(digits)) formatters.set(digits, new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits, roundingMode: "halfEven" }));
  return formatters.get(digits).format(x);
};
// four significant digits, as Python's format_number
const number = (x) => {
  if (Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "-inf";
  const size = Math.abs(x);
  if (x === 0 || (Number.isInteger(x) && size < 1e9)) return count(x);
  if (size < 1e-4 || size >= 1e9) return x.toExponential(2).replace(/e([+-])(\d)$/, "e$10$2");
  const digits = Math.max(0, 3 - Math.floor(Math.log10(size)));
  return fixed(x, digits);
};

// a part of 1 in per cent; neither a trace nor all but a trace is rounded away
const percent = (part) => {
  if (part > 0 && part < 0.0005) return "< 0.1\u00a0%";
  // shares of one image add up to 1 within the digits of a float32
  if (part > 0.9995 && part < 1 - 1e-6) return "> 99.9\u00a0%";
  return `${fixed(100 * part, 1)}\u00a0%`;
};

// ---- elements: text of the run is only ever set as text ----------------------------------------
const bdi = (text) => make("bdi", {}, text);
// a part of 1 of the bar's length, and a part above 0 is seen
const bar = (part) => {
  const length = Math.min(1, Math.max(0, part));
  return make("i", { class: "bar", style: `--s:${length > 0 ? `max(2px,${(100 * length).toFixed(1)}%)` : "0%"}` });
};

// ---- cards: every card is drawn here, from a record --------------------------------------------
// the text of a line (`Line` in columns.py) with the record's cell in it; null: no such line
const filled = (line, record) => {
  const cell = record[line.column];
  if (cell === null || cell === undefined) return null;
  if ((line.low !== null && cell < line.low) || (line.high !== null && cell > line.high)) return null;
  // a number stays beside its name
  const [before, after] = line.text.replace(" {}", "\u00a0{}").split("{}");
  if (after === undefined) return [before];
  if (typeof cell !== "number") return [before, bdi(cell), after];
  if (line.percent) return [before, percent(cell), after];
  return [before, line.decimals === null ? number(line.scale * cell) : fixed(line.scale * cell, line.decimals), after];
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
// an id is cut where it says least: what all ids end with, and all before the last word or two
const JOINT = /[\s/\\_.:-]/;
const idParts = (id, { shared, telling }) => {
  const letters = Array.from(id);
  if (letters.length <= 11) return ["", id, ""];
  const stop = shared < letters.length ? letters.length - shared : letters.length;
  let cut = Math.max(0, stop - telling);
  // letters of one word stay together where a word begins nearby: joined scripts need that
  const start = Math.max(0, cut - 4);
  const joint = letters.slice(start, cut).findLastIndex((letter) => JOINT.test(letter));
  if (joint >= 0) cut = start + joint + 1;
  else while (cut > 0 && /\p{M}/u.test(letters[cut])) cut--;
  if (cut <= 3) cut = 0;
  return [letters.slice(0, cut), letters.slice(cut, stop), letters.slice(stop)].map((part) => part.join(""));
};
// a long tail differs at its beginning, and is cut at its end
const idOf = (record, tag = "span") => {
  const [head, tail, end] = idParts(record.id, facts.idEnds[record.side]);
  return make(tag, { class: "id", title: record.id, "aria-label": tag === "h3" && record.id }, make("bdi", { class: "cut" },
    head ? make("span", { class: Array.from(tail).length > 10 ? "end" : "lead-in" }, make("span", {}, head)) : null, make("span", { class: head && facts.idEnds[record.side].telling <= 12 ? "tail" : "" }, tail), end ? make("span", { class: "end" }, make("span", {}, end)) : null));
};
// the parts of a cut id would come as lines of their own
document.addEventListener("copy", (event) => {
  const at = (node) => (node?.parentElement ?? document.body).closest(".id");
  const { anchorNode, focusNode, isCollapsed } = getSelection();
  if (isCollapsed || !at(anchorNode) || at(anchorNode) !== at(focusNode)) return;
  event.clipboardData.setData("text/plain", at(anchorNode).title);
  event.preventDefault();
});
const shareBar = (share) => (share === null ? [] : [bar(share)]);
const pairItems = (card, pairs) => pairs.map((record) => make("li", {},
  linked(record), ...shareBar(record.share), ...lines(card, record), idOf(record)));
// the contributors that are not shown, as one
const restItems = (row, pairs) => {
  const others = facts.k - pairs.length;
  if (others < 1 || !pairs.length || pairs[0].share === null) return [];
  const left = 1 - pairs.reduce((sum, { share }) => sum + share, 0);
  const share = left < 1e-6 ? 0 : left;
  return [make("li", { class: "rest" }, make("a", { class: "more", href: `#generated-${row}` }, `+${count(others)}`), bar(share),
    make("small", { class: "strong" }, percent(share)), make("small", {}, others === 1 ? "1 other" : `${count(others)} others`))];
};
const generatedCard = (record) => {
  const items = [...pairItems("contributor", record.contributors), ...restItems(record.row, record.contributors)];
  if (!items.length) items.push(make("li", { class: "soft" }, "In contributions.parquet."));
  return make("article", { class: "gen" },
    make("div", { class: "who" }, linked(record), idOf(record, "h3"), ...lines("generated", record)),
    make("ol", { class: facts.shares && facts.k > facts.shown ? "cons rests" : "cons", "aria-label": record.silent ? "Nearest training images" : "Contributors" }, ...items));
};
const valueCard = (record) => make("li", {}, linked(record), make("div", {},
  make("b", { class: "val" }, number(record.value)), make("small", {}, `rank ${count(record.rank)}`),
  bar(facts.topValue > 0 ? record.value / facts.topValue : 0), idOf(record), ...lines("train", record)));
const tile = (record, ...rest) => make("li", {}, linked(record), ...rest, idOf(record));
const clusterCard = (record) => {
  const rest = record.copies - record.members.length;
  const members = record.members.map((member, i) => (i ? tile(member, ...lines("copy", member)) : tile(member, make("small", { class: "strong" }, "counted"))));
  if (rest > 0) members.push(make("li", {}, make("a", { class: "more", href: `#train-${record.row}` }, `+${count(rest)} more`)));
  return make("article", { class: "cluster" },
    make("p", { class: "top" }, make("b", {}, `${count(record.copies)} images`), make("span", {}, "value of all ", make("b", {}, number(record.copies * record.value)))),
    make("ol", { class: "cons", "aria-label": "Images of the cluster" }, ...members));
};
const drawn = {
  clusters: (records) => records.map(clusterCard),
  generated: (records) => records.map(generatedCard),
  train: (records) => [make("ol", { class: "values" }, ...records.map(valueCard))],
};

// ---- lists with pages --------------------------------------------------------------------------
const guarded = (action) => async (...inputs) => {
  try {
    return await action(...inputs);
  } catch (error) {
    $("failed").textContent = ` The tables in this file could not be opened: ${error}. The page shows a part of them.`;
    console.error(error);
    return null;
  }
};
const listWithPages = (listed) => {
  const size = facts.pageSize[listed];
  const side = listed === "generated" ? "generated" : "train";
  const part = (name) => $(`${listed}-${name}`);
  const draw = (records, start, total) => {
    const last = start + records.length;
    part("list").replaceChildren(...drawn[listed](records));
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
  const query = () => ({ order: Number(part("order").value), label: part("label").value, search: part("search").value, filter: part("filter").value });
  const refresh = guarded(async (at) => {
    const mine = ++turn;
    const result = await source.list(listed, query());
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
  for (const name of ["order", "label", "filter"]) part(name).addEventListener("change", () => refresh(0));
  part("csv")?.addEventListener("click", guarded(async () => {
    const { rows } = await source.list(listed, query());
    download(`${listed}-list.csv`, listCsv(side, rows, await source.tables()));
  }));
  part("form").addEventListener("submit", (event) => { event.preventDefault(); refresh(0); });
  part("back").addEventListener("click", () => move(-size));
  part("next").addEventListener("click", () => move(size));
  if (facts.labels[side].length) {
    part("label").append(make("option", {}, "any"), ...facts.labels[side].map((text) => make("option", { value: text }, text)));
    part("label").firstChild.value = "";
    part("label").closest("label").hidden = false;
  }
  draw(source.first[listed], 0, facts.lists[listed]);
  return () => refresh(start);
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
    const none = ["", " This image gave no score.", " The quality of this image is withheld: it gave no score."][record.silent];
    const rest = pairs.length < facts.k ? " All are in contributions.parquet." : "";
    return `${count(pairs.length)} of ${count(facts.k)} ${names}, best first.${none}${rest}`;
  },
};
const copyButton = (id) => {
  const button = make("button", { type: "button", class: "copy" }, "Copy id");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(id);
      button.textContent = "Copied";
    } catch {
      // without the right to write, the reader's own keys copy what is selected
      getSelection().selectAllChildren($("detail-title"));
      button.textContent = "Selected: press Ctrl+C";
    }
  });
  return button;
};
const about = (image) => {
  const { side, id } = image.record;
  const rows = facts.lines[`about-${side}`].map((line) => [line.name, filled(line, image.record)]).filter(([, text]) => text);
  return [
    make("div", { class: "about" }, picture(image.record), make("div", {}, make("h2", { id: "detail-title" }, bdi(id)), copyButton(id),
      make("dl", { class: "pairs" }, ...rows.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, ...text)))))),
    make("p", { class: "soft" }, NOTES[side](image)),
    shownTemperature === null || !image.pairs.some(({ share }) => share !== null) ? null : make("p", { class: "notice" }, viewText()),
    make("ol", { class: "cons" }, ...pairItems(side === "train" ? "supported" : "about-contributor", image.pairs), ...(side === "train" ? [] : restItems(image.record.row, image.pairs))),
    ...(image.copies.length ? copiesOf(image) : []),
  ];
};
const copiesOf = ({ record, copies }) => [
  make("h3", {}, copies.length < record.copies ? `The first ${count(copies.length)} of its ${count(record.copies)} copies` : "The copies that count once"),
  make("ol", { class: "cons" }, ...copies.map((copy) => tile(copy, ...(copy.row === copy.leader ? [make("small", { class: "strong" }, "counted")] : lines("copy", copy))))),
];
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

// ---- shares at another temperature: a view, of which nothing else on the page knows --------------
const viewText = () => `A view: shares at τ = ${shownTemperature}. Scores, values, payouts and downloads are those of the run, at τ = ${Number(facts.temperature.toPrecision(4))}.`;
const temperatureControl = (redraw) => {
  const [tau, said, mark, reset] = [$("tau"), $("tau-said"), $("tau-mark"), $("tau-run")];
  const asInRun = said.textContent;
  const view = () => {
    const steps = Number(tau.value);
    shownTemperature = steps ? Number((facts.temperature * 2 ** (steps / 2)).toPrecision(2)) : null;
    said.textContent = steps ? viewText() : asInRun;
    said.className = steps ? "notice" : "soft";
    tau.setAttribute("aria-valuetext", steps ? `τ = ${shownTemperature}` : "as in the run");
    document.documentElement.toggleAttribute("data-view", steps !== 0);
    if (steps) mark.firstChild.textContent = `View: τ = ${shownTemperature}`;
    mark.hidden = !steps;
    reset.hidden = !steps;
  };
  view();
  tau.addEventListener("input", () => { view(); redraw(); });
  reset.addEventListener("click", () => { tau.value = 0; tau.focus(); view(); redraw(); });
};

// ---- search by picture --------------------------------------------------------------------------
const said = $("find-said");
const foundCard = (record) => tile(record,
  make("small", { class: "strong" }, record.difference === undefined ? "same file" : `${fixed(100 * record.difference, 1)}\u00a0% apart`),
  make("small", {}, record.side === "train" ? "training" : "generated"));
const foundCards = (images) => Promise.all(images.map(async (image) => foundCard({ ...(await source.record(image.side, image.row)), ...image })));
let searches = 0;
const find = guarded(async (file) => {
  const mine = ++searches;
  const say = (text) => { if (mine === searches) said.textContent = text; };
  const items = make("ol", { class: "cons", "aria-label": "Pictures found" });
  $("find-list").replaceChildren(items);
  say("Reading the picture …");
  try {
    const same = await sameContent(file);
    items.append(...(await foundCards(same)));
    const itself = same.length ? `The picture itself is in the run${same.length > 1 ? ` ${count(same.length)} times` : ""}.` : "The file itself is not in the run.";
    say(`${itself} Comparing looks …`);
    const { images, compared } = await alikeAtGrid(file, same);
    items.append(...(await foundCards(images)));
    const others = images.length === 1 ? " One other picture looks like it at 8×8." : ` ${count(images.length)} other pictures look like it at 8×8, most alike first.`;
    const every = facts.n.train + facts.n.generated;
    const part = compared < every ? ` Looks could be compared with the ${count(compared)} of ${count(every)} images whose pictures are in this file.` : "";
    say(itself + (images.length ? others : " No other picture looks like it at 8×8.") + part);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    say(`${file.name || "The file"} is no picture that this browser can read. Choose a PNG or JPEG.`);
  }
});
const drop = $("find-drop");
$("find-file").addEventListener("change", (event) => { if (event.target.files[0]) find(event.target.files[0]); event.target.value = ""; });
for (const name of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.toggle("over", name === "dragover"); });
}
drop.addEventListener("drop", (event) => { if (event.dataTransfer.files[0]) find(event.dataTransfer.files[0]); });
addEventListener("paste", (event) => {
  if (!event.clipboardData?.files[0]) return;
  find(event.clipboardData.files[0]);
  $("find").scrollIntoView();
});

// ---- downloads ---------------------------------------------------------------------------------
const DOWNLOADS = {
  values: (run) => listCsv("train", everyRow("train"), run),
  generated: (run) => listCsv("generated", everyRow("generated"), run),
  contributions: contributionsCsv,
};
for (const [name, made] of Object.entries(DOWNLOADS)) {
  $(`csv-${name}`).addEventListener("click", guarded(async () => download(`${name}.csv`, made(await source.tables()))));
}

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
  const redraw = listWithPages("generated");
  for (const name of ["train", "clusters"]) if ($(`${name}-form`)) listWithPages(name);
  if ($("tau")) temperatureControl(redraw);
  await route();
  document.documentElement.dataset.ready = "yes";
});
start();
