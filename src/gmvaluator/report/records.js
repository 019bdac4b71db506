"use strict";
// Records of a run's images, from the tables inside this file.
//
// A record is what a card shows of one image: { side, row, number, picture, state } and a cell for
// each column. `picture` is an address, or null for the reason in `state`. A generated image has
// `contributors`: records of training images with share, score, distance and place. `share` is a
// part of the generated image, or null where the image gave none. A cluster of copies is the record
// of the image that stands for it, with `members`. The page asks a source for:
//   first               records that are drawn at once, by list
//   list(name, query)   { total, rows, at(start, end) → records } of a query { order, label, search, filter }
//   image(side, row)    { record, pairs, all, copies }: pairs are records of the other side, best first
//   tables()            { columns, pairs, stored }: all cells of the run, for downloads
//   record(side, row)   one record
//   keys(side)          bytes of all content keys, facts.keyBytes each; null: not recorded
//   signatures()        levels of the signatures of all pictures, one after the other
const facts = JSON.parse(document.getElementById("facts").textContent);

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
};

// ---- pictures: base64 in numbered parts, a picture a line ------------------------------------
const parts = new Map();
// base64 of a picture; null: it has none
const encodedPicture = (code) => {
  const place = code - facts.states.length;
  if (place < 0) return null;
  const part = Math.floor(place / facts.picturesPerPart);
  if (!parts.has(part)) parts.set(part, document.getElementById(`pictures-${part}`).textContent.split("\n"));
  return parts.get(part)[place % facts.picturesPerPart];
};
const pictureOf = (code) => {
  const text = encodedPicture(code);
  if (text === null) return { picture: null, state: facts.states[code] };
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

// ---- shares: the parts of a generated image that its contributors are credited with --------------
// τ at which shares are shown; null: the run's own
let shownTemperature = null;
const divided = (weights) => {
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
};
// e^(−d/τ) / Σ e^(−d/τ) (Eq. 6)
const softmax = (distances, temperature) => {
  const nearest = Math.min(...distances);
  return divided(Array.from(distances, (distance) => Math.exp((nearest - distance) / temperature)));
};
// weighting expected-rank: shares go with rank^(−1/τ), rank = (d/d₁)^D; the rest of a score stays
const byRank = (distances, scores, temperature) => {
  const least = facts.leastDistance * Math.max(...distances);
  const logarithms = Array.from(distances, (distance) => (least ? Math.log(Math.max(distance, least)) : 0));
  const nearest = Math.min(...logarithms);
  const change = facts.dimension * (1 / facts.temperature - 1 / temperature);
  const exponents = logarithms.map((logarithm, i) => change * (logarithm - nearest) + Math.log(scores[i]));
  // the greatest weight is 1, so that none is infinite
  const greatest = Math.max(...exponents);
  return divided(exponents.map((exponent) => Math.exp(exponent - greatest)));
};
// shares of contributors by their scores, as parts of 1; null: the image gave none
const sharesOf = ({ silent, quality }, scores) => Array.from(scores, (score) => (facts.shares && !silent ? score / quality : null));

const embeddedSource = () => {
  // all tables of the run, opened once
  let run = null;
  let signatures = null;
  const keys = {};
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
    const pair = (at, shown, share) => ({ ...shown, share, score: pairs.score[at], distance: pairs.distance[at], place: at % facts.storedK + 1 });
    const shares = (slot) => {
      const [start, end] = [slot * facts.storedK, (slot + 1) * facts.storedK];
      const [silent, quality] = [generated.silent[stored[slot]], generated.quality[stored[slot]]];
      const [distances, scores] = [pairs.distance.subarray(start, end), pairs.score.subarray(start, end)];
      if (shownTemperature === null || silent) return sharesOf({ silent, quality }, scores);
      return facts.dimension === null ? softmax(distances, shownTemperature) : byRank(distances, scores, shownTemperature);
    };
    const contributors = (row, most) => {
      if (!slots.has(row)) return [];
      const slot = slots.get(row);
      const start = slot * facts.storedK;
      return shares(slot).slice(0, most).map((share, i) => pair(start + i, record("train", pairs.row[start + i]), share));
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
      const shown = places.slice(0, most).map((at) => {
        const slot = Math.floor(at / facts.storedK);
        return pair(at, record("generated", stored[slot]), shares(slot)[at % facts.storedK]);
      });
      return { pairs: shown, all: places.length };
    };
    // rows of the images of each cluster of two or more, by the image that stands for the cluster
    let clusters = null;
    const grouped = () => {
      const rows = new Map();
      train.copies.forEach((size, row) => {
        if (size < 2) return;
        const leader = train.leader[row];
        if (!rows.has(leader)) rows.set(leader, [leader]);
        if (row !== leader) rows.get(leader).push(row);
      });
      return rows;
    };
    const members = () => (clusters ??= train.copies ? grouped() : new Map());
    const copiesOf = (row, most) => (members().get(train.leader?.[row]) ?? []).slice(0, most).map((member) => record("train", member));
    return { columns: { train, generated }, pairs, stored, record, contributors, supported, members, copiesOf };
  };

  const sideOf = (name) => (name === "generated" ? "generated" : "train");
  const full = {
    generated: (row, { record, contributors }) => ({ ...record("generated", row), contributors: contributors(row, facts.shown) }),
    train: (row, { record }) => record("train", row),
    clusters: (row, { record, copiesOf }) => ({ ...record("train", row), members: copiesOf(row, facts.membersShown) }),
  };
  const sorted = new Map();
  const ordered = (name, place, { columns, members }) => {
    if (sorted.get(name)?.place === place) return sorted.get(name).rows;
    const { column, descending } = facts.orders[name][place];
    const rows = name === "clusters" ? Uint32Array.from(members().keys()).sort() : Uint32Array.from({ length: facts.n[name] }, (_, i) => i);
    const cells = columns[sideOf(name)][column];
    const sign = descending ? -1 : 1;
    if (cells) rows.sort((a, b) => sign * (cells[a] - cells[b]) || a - b);
    sorted.set(name, { place, rows });
    return rows;
  };
  const withShares = (record) => {
    const shares = sharesOf(record, record.contributors.map(({ score }) => score));
    return record.contributors.map((contributor, i) => ({ ...withPicture(contributor), share: shares[i] }));
  };
  return {
    first: Object.fromEntries(Object.entries(facts.first).map(([name, records]) => [name, records.map((record) => ({
      ...withPicture(record),
      ...(record.contributors && { contributors: withShares(record) }),
      ...(record.members && { members: record.members.map(withPicture) }),
    }))])),
    list: async (name, { order, label, search, filter }) => {
      const run = await load();
      const columns = run.columns[sideOf(name)];
      const { id, label: labels } = columns;
      const part = filter === "" ? null : facts.filters[name][filter];
      const cells = part && columns[part.column];
      const wanted = search.trim().toLowerCase();
      // a cluster matches where one of its images does
      const images = (row) => (name === "clusters" ? run.members().get(row) : [row]);
      let rows = ordered(name, order, run);
      if (part) rows = rows.filter((row) => (part.low === null || cells[row] >= part.low) && (part.high === null || cells[row] <= part.high));
      if (label) rows = rows.filter((row) => images(row).some((image) => labels[image] === label));
      if (wanted) rows = rows.filter((row) => images(row).some((image) => id[image].toLowerCase().includes(wanted)));
      return { total: rows.length, rows, at: (start, end) => Array.from(rows.subarray(start, end), (row) => full[name](row, run)) };
    },
    image: async (side, row) => {
      const { record, contributors, supported, copiesOf } = await load();
      if (side === "train") return { record: record(side, row), ...supported(row, 60), copies: copiesOf(row, 60) };
      const pairs = contributors(row, facts.storedK);
      return { record: record(side, row), pairs, all: pairs.length, copies: [] };
    },
    tables: load,
    record: async (side, row) => (await load()).record(side, row),
    signatures: () => { signatures ??= opened("signature"); return signatures; },
    keys: (side) => { keys[side] ??= document.getElementById(`table-${side}-key`) ? opened(`${side}-key`) : Promise.resolve(null); return keys[side]; },
  };
};
const source = embeddedSource();
