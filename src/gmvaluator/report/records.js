"use strict";
// Records of a run's images, from the tables inside this file.
//
// A record is what a card shows of one image: { side, row, number, picture, state } and a cell for
// each column. `picture` is an address, or null for the reason in `state`. A generated image has
// `contributors`: records of training images with score, distance and place. The page asks a
// source for three things; another source may fetch them.
//   first               records that are drawn at once, by list
//   list(side, query)   { total, at(start, end) → records } of a query { order, label, search }
//   image(side, row)    { record, pairs, all }: pairs are records of the other side, best first
const facts = JSON.parse(document.getElementById("facts").textContent);

// ---- pictures: base64 in numbered parts, a picture a line ------------------------------------
const parts = new Map();
const pictureOf = (code) => {
  if (code < facts.states.length) return { picture: null, state: facts.states[code] };
  const place = code - facts.states.length;
  const part = Math.floor(place / facts.picturesPerPart);
  if (!parts.has(part)) parts.set(part, document.getElementById(`pictures-${part}`).textContent.split("\n"));
  const text = parts.get(part)[place % facts.picturesPerPart];
  const png = text.startsWith("iVBOR");
  const head = png ? atob(text.slice(0, 32)) : "";
  const side = (at) => 256 * head.charCodeAt(at + 2) + head.charCodeAt(at + 3);
  return {
    picture: `data:image/${png ? "png" : "jpeg"};base64,${text}`,
    state: "shown",
    tiny: png && Math.max(side(16), side(20)) <= facts.tiny,
  };
};
const withPicture = (record) => ({ ...record, ...pictureOf(record.picture) });

// ---- tables ----------------------------------------------------------------------------------
const TYPES = { Uint8Array, Uint32Array, Float32Array, Float64Array };
const bytesOf = (text) => {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
};
const opened = async (name) => {
  const element = document.getElementById(`table-${name}`);
  const stream = new Blob([bytesOf(element.textContent)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const kind = element.dataset.kind;
  element.remove();
  if (kind === "strings") return JSON.parse(new TextDecoder().decode(bytes));
  // stored as one plane of bytes after the other
  const size = TYPES[kind].BYTES_PER_ELEMENT;
  const n = bytes.length / size;
  const joined = new Uint8Array(bytes.length);
  for (let b = 0; b < size; b++) for (let i = 0, at = b * n; i < n; i++) joined[i * size + b] = bytes[at + i];
  return new TYPES[kind](joined.buffer);
};
const openedTables = async (prefix, names) => {
  const cells = await Promise.all(names.map((name) => opened(prefix + name)));
  return Object.fromEntries(names.map((name, i) => [name, cells[i]]));
};

const embeddedSource = () => {
  // all tables of the run, opened once
  let run = null;
  const load = () => { run ??= loaded(); return run; };
  const loaded = async () => {
    // the first page is drawn while the file is still read
    if (document.readyState === "loading") await new Promise((done) => document.addEventListener("DOMContentLoaded", done));
    const [train, generated, pairs, stored] = await Promise.all([
      openedTables("train-", facts.columns.train), openedTables("generated-", facts.columns.generated),
      openedTables("pair-", ["row", "score", "distance"]), opened("stored"),
    ]);
    const slots = new Map();
    stored.forEach((row, slot) => slots.set(row, slot));
    const record = (side, row) => {
      const columns = side === "train" ? train : generated;
      const made = { side, row, number: row + 1 };
      for (const name of facts.columns[side]) made[name] = columns[name][row];
      return withPicture(made);
    };
    const pair = (at, shown) => ({ ...shown, score: pairs.score[at], distance: pairs.distance[at], place: at % facts.storedK + 1 });
    const contributors = (row, most) => {
      if (!slots.has(row)) return [];
      const start = slots.get(row) * facts.storedK;
      return Array.from({ length: Math.min(most, facts.storedK) }, (_, i) => pair(start + i, record("train", pairs.row[start + i])));
    };
    // of each training image, the pairs with a score: those of image i from starts[i] to starts[i + 1]
    let inverse = null;
    const inverted = () => {
      const starts = new Uint32Array(facts.n.train + 1);
      pairs.row.forEach((row, at) => { if (pairs.score[at] !== 0) starts[row + 1]++; });
      for (let i = 0; i < facts.n.train; i++) starts[i + 1] += starts[i];
      const next = starts.slice();
      const places = new Uint32Array(starts[facts.n.train]);
      pairs.row.forEach((row, at) => { if (pairs.score[at] !== 0) places[next[row]++] = at; });
      return { starts, places };
    };
    const supported = (row, most) => {
      inverse ??= inverted();
      // copies score by the image that stands for them
      const leader = train.leader ? train.leader[row] : row;
      const places = Array.from(inverse.places.subarray(inverse.starts[leader], inverse.starts[leader + 1]));
      places.sort((a, b) => pairs.score[b] - pairs.score[a]);
      const shown = places.slice(0, most).map((at) => pair(at, record("generated", stored[Math.floor(at / facts.storedK)])));
      return { pairs: shown, all: places.length };
    };
    return { columns: { train, generated }, record, contributors, supported };
  };

  const full = (side, row, { record, contributors }) =>
    side === "train" ? record(side, row) : { ...record(side, row), contributors: contributors(row, facts.shown) };
  const sorted = new Map();
  const ordered = (side, place, columns) => {
    if (sorted.has(side) && sorted.get(side).place === place) return sorted.get(side).rows;
    const { column, descending } = facts.orders[side][place];
    const rows = Uint32Array.from({ length: facts.n[side] }, (_, i) => i);
    const cells = columns[side][column];
    const sign = descending ? -1 : 1;
    if (cells) rows.sort((a, b) => sign * (cells[a] - cells[b]) || a - b);
    sorted.set(side, { place, rows });
    return rows;
  };
  return {
    first: Object.fromEntries(Object.entries(facts.first).map(([name, records]) => [name, records.map((record) => ({
      ...withPicture(record), ...(record.contributors && { contributors: record.contributors.map(withPicture) }),
    }))])),
    list: async (side, { order, label, search }) => {
      const loadedRun = await load();
      const { id, label: labels } = loadedRun.columns[side];
      let rows = ordered(side, order, loadedRun.columns);
      const wanted = search.trim().toLowerCase();
      if (wanted || label) rows = rows.filter((row) => (!label || labels[row] === label) && (!wanted || id[row].toLowerCase().includes(wanted)));
      return { total: rows.length, at: (start, end) => Array.from(rows.subarray(start, end), (row) => full(side, row, loadedRun)) };
    },
    image: async (side, row) => {
      const { record, contributors, supported } = await load();
      if (side === "train") return { record: record(side, row), ...supported(row, 60) };
      const pairs = contributors(row, facts.storedK);
      return { record: record(side, row), pairs, all: pairs.length };
    },
  };
};
