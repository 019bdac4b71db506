// ---- tables as CSV (RFC 4180), made of the columns in this file ----------------------------------
const ROWS_AT_ONCE = 20000;
// as a spreadsheet takes them for the start of a formula: these get an apostrophe in front
const FORMULA = /^'*[=+\-@\t\r\n＝＋－＠]/;
const csvText = (text) => {
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};
// the fewest digits that give the same float32 again
const shortest = (x) => {
  for (let digits = 6; digits < 9; digits++) {
    const text = x.toPrecision(digits);
    if (Math.fround(Number(text)) === x) return String(Number(text));
  }
  return String(Number(x.toPrecision(9)));
};
const csvCell = (cell) => {
  if (cell === null || cell === undefined) return "";
  return typeof cell === "string" ? csvText(cell) : String(cell);
};
// columns: [heading, row → cell]; the mark at the start tells spreadsheets that the text is UTF-8
const csv = (columns, rows) => {
  const line = (cells) => `${cells.join(",")}\r\n`;
  const parts = [`\ufeff${line(columns.map(([heading]) => heading))}`];
  for (let start = 0; start < rows.length; start += ROWS_AT_ONCE) {
    parts.push(Array.from(rows.slice(start, start + ROWS_AT_ONCE), (row) => line(columns.map(([, cell]) => csvCell(cell(row))))).join(""));
  }
  return new Blob(parts, { type: "text/csv;charset=utf-8" });
};
const download = (name, blob) => {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
};

// headings as in the Parquet files of the run
const HEADINGS = {
  train: [["train_id", "id"], ["value", "value"], ["rank", "rank"], ["n_supported", "supports"], ["label", "label"]],
  generated: [["generated_id", "id"], ["quality", "quality"], ["match_p", "match"], ["label", "label"]],
};
const listCsv = (side, rows, { columns }) => {
  const cells = columns[side];
  const shown = HEADINGS[side].filter(([, name]) => cells[name]).map(([heading, name]) => [heading, (row) => cells[name][row]]);
  if (side === "train" && cells.leader) shown.push(["representative", (row) => cells.id[cells.leader[row]]]);
  return csv(shown, rows);
};
const contributionsCsv = ({ columns, pairs, stored }) => csv([
  ["generated_id", (at) => columns.generated.id[stored[Math.floor(at / facts.storedK)]]],
  ["rank", (at) => (at % facts.storedK) + 1],
  ["train_id", (at) => columns.train.id[pairs.row[at]]],
  ["distance", (at) => shortest(pairs.distance[at])],
  ["score", (at) => shortest(pairs.score[at])],
], Uint32Array.from(pairs.row, (_, at) => at));
const everyRow = (side) => Uint32Array.from({ length: facts.n[side] }, (_, row) => row);
