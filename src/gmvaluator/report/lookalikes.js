// ---- pictures that look alike: `signature` of lookalikes.py, of the picture that is looked for ----
const { grid, colourGrid, step, colourStep, nudge } = facts.signature;
const [cellsOf, colourCells] = [grid ** 2, colourGrid ** 2];
const signatureLength = cellsOf + 2 * colourCells;
// pixels a side that are read; larger pictures are drawn smaller
const MOST_SIDE = 1024;
// the pixels of a picture as its file has them, on white
const pixelsOf = async (file) => {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  const scale = Math.min(1, MOST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = make("canvas", {});
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(scale * side)));
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
};
// [pixel, cell, part of the cell that the pixel fills] along a side
const areas = (length) => Array.from({ length: grid }, (_, cell) => {
  const [start, end] = [(cell * length) / grid, ((cell + 1) * length) / grid];
  const first = Math.floor(start);
  return Array.from({ length: Math.ceil(end) - first }, (__, i) => [
    first + i, cell, ((Math.min(end, first + i + 1) - Math.max(start, first + i)) * grid) / length,
  ]);
}).flat();
// levels of brightness, of red − blue, and of 2·green − red − blue, row by row
const signature = ({ data, width, height }) => {
  const means = new Float64Array(3 * cellsOf);
  const across = areas(width);
  for (const [y, row, down] of areas(height)) {
    for (const [x, column, part] of across) {
      const [from, to] = [4 * (y * width + x), 3 * (row * grid + column)];
      for (let c = 0; c < 3; c++) means[to + c] += down * part * data[from + c];
    }
  }
  const levels = new Float64Array(signatureLength);
  const [half, ofColours] = [grid / colourGrid, colourCells / cellsOf / colourStep];
  levels.fill(128 / colourStep, cellsOf);
  for (let cell = 0; cell < cellsOf; cell++) {
    const [red, green, blue] = means.subarray(3 * cell, 3 * cell + 3);
    const colour = cellsOf + Math.floor(cell / grid / half) * colourGrid + Math.floor((cell % grid) / half);
    levels[cell] = (red + green + blue) / (3 * step);
    levels[colour] += (ofColours * (red - blue)) / 2;
    levels[colour + colourCells] += (ofColours * (2 * green - red - blue)) / 4;
  }
  return Uint8Array.from(levels, (level) => Math.floor(level + 0.5 + nudge));
};
const signatureOf = async (file) => signature(await pixelsOf(file));

// root of the mean squared difference of red, green and blue, as a share of the largest there can be
const weights = [...Array(cellsOf).fill(step ** 2 / cellsOf), ...Array(colourCells).fill((2 / 3) * (colourStep ** 2 / colourCells)), ...Array(colourCells).fill((8 / 9) * (colourStep ** 2 / colourCells))];
const difference = (signatures, at, wanted) => {
  let sum = 0;
  for (let i = 0; i < signatureLength; i++) sum += weights[i] * (signatures[at + i] - wanted[i]) ** 2;
  return Math.sqrt(sum) / 255;
};
const MOST_ALIKE = 12;
const ALIKE = 0.12;

// { side, row } of all images with the content of a file
const sameContent = async (file) => {
  const key = contentKey(new Uint8Array(await file.arrayBuffer())).subarray(0, facts.keyBytes);
  const images = [];
  for (const side of ["train", "generated"]) {
    const keys = await source.keys(side);
    for (let row = 0; keys && row < facts.n[side]; row++) {
      if (key.every((byte, i) => keys[facts.keyBytes * row + i] === byte)) images.push({ side, row });
    }
  }
  return images;
};
// { images, compared }: { side, row, difference } of pictures that look like a file's, nearest first,
// without the `known` ones, and the number of pictures compared
const alikeAtGrid = async (file, known) => {
  const wanted = await signatureOf(file);
  const { columns } = await source.tables();
  const signatures = await source.signatures();
  const names = new Set(known.map(({ side, row }) => `${side}-${row}`));
  const alike = [];
  for (const side of ["train", "generated"]) {
    columns[side].picture.forEach((code, row) => {
      const place = code - facts.states.length;
      if (place < 0 || names.has(`${side}-${row}`)) return;
      const image = { side, row, difference: difference(signatures, signatureLength * place, wanted) };
      if (image.difference <= ALIKE) alike.push(image);
    });
  }
  alike.sort((a, b) => a.difference - b.difference);
  return { images: alike.slice(0, MOST_ALIKE), compared: signatures.length / signatureLength };
};
