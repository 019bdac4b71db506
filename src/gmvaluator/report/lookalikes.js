// ---- pictures that look alike: every embedded picture at 8 × 8 pixels ----------------------------
const GRID = 8;
const CELLS = 3 * GRID * GRID;
const canvasOf = (width, height) => {
  const canvas = make("canvas", {});
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  return context;
};
// (n × 192) red, green and blue of n pictures at 8 × 8; transparent pixels lie on white
const signatures = (bitmaps) => {
  const context = canvasOf(GRID, GRID * bitmaps.length);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, GRID, GRID * bitmaps.length);
  bitmaps.forEach((bitmap, i) => context.drawImage(bitmap, 0, GRID * i, GRID, GRID));
  return context.getImageData(0, 0, GRID, GRID * bitmaps.length).data.filter((_, i) => i % 4 < 3);
};
// a picture as the thumbnails are made: at most `facts.thumbnail` pixels a side, and then 8 × 8
const signatureOf = async (file) => {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, facts.thumbnail / Math.max(bitmap.width, bitmap.height));
  const context = canvasOf(Math.max(1, Math.round(scale * bitmap.width)), Math.max(1, Math.round(scale * bitmap.height)));
  context.fillStyle = "#fff";
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  context.drawImage(bitmap, 0, 0, context.canvas.width, context.canvas.height);
  return signatures([context.canvas]);
};

// signatures of all embedded pictures: { side, row } and cells; made once, a part at a time
const embeddedSignatures = async (advance) => {
  const { columns } = await source.tables();
  const images = ["train", "generated"].flatMap((side) => Array.from(columns[side].picture, (code, row) => ({ side, row, code })))
    .filter(({ code }) => code >= facts.states.length);
  const cells = new Uint8Array(CELLS * images.length);
  const size = 256;
  for (let start = 0; start < images.length; start += size) {
    const part = images.slice(start, start + size).map(({ code }) => new Promise((done) => {
      // loading an element takes a third of the time that createImageBitmap takes
      const image = new Image();
      image.onload = () => done(image);
      image.src = addressOf(encodedPicture(code));
    }));
    cells.set(signatures(await Promise.all(part)), CELLS * start);
    advance(Math.min(images.length, start + size), images.length);
  }
  return { images, cells };
};
let embedded = null;

// root of the mean squared difference of all cells, as a share of the largest there can be
const difference = (cells, at, wanted) => {
  let sum = 0;
  for (let i = 0; i < CELLS; i++) sum += (cells[at + i] - wanted[i]) ** 2;
  return Math.sqrt(sum / CELLS) / 255;
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
const alikeAtGrid = async (file, known, advance) => {
  const wanted = await signatureOf(file);
  embedded ??= embeddedSignatures(advance);
  const { images, cells } = await embedded;
  const names = new Set(known.map(({ side, row }) => `${side}-${row}`));
  const alike = images.map(({ side, row }, i) => ({ side, row, difference: difference(cells, CELLS * i, wanted) }))
    .filter((image) => image.difference <= ALIKE && !names.has(`${image.side}-${image.row}`))
    .sort((a, b) => a.difference - b.difference);
  return { images: alike.slice(0, MOST_ALIKE), compared: images.length };
};
