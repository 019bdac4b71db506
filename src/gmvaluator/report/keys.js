// ---- content keys: BLAKE2b with 16 bytes, as Python's hashlib.blake2b(digest_size=16) ------------
// RFC 7693. A 64-bit word is two halves of 32 bits, the lower first.
const IV = new Uint32Array([
  0xf3bcc908, 0x6a09e667, 0x84caa73b, 0xbb67ae85, 0xfe94f82b, 0x3c6ef372, 0x5f1d36f1, 0xa54ff53a,
  0xade682d1, 0x510e527f, 0x2b3e6c1f, 0x9b05688c, 0xfb41bd6b, 0x1f83d9ab, 0x137e2179, 0x5be0cd19,
]);
const SIGMA = [
  "0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d",
  "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0",
].map((row) => Uint8Array.from(row, (digit) => 2 * parseInt(digit, 16)));
// the words that each of eight mixings takes, as places of their lower halves
const MIXED = ["048c", "159d", "26ae", "37bf", "05af", "16bc", "278d", "349e"]
  .map((row) => Uint8Array.from(row, (digit) => 2 * parseInt(digit, 16)));
const contentKey = (bytes) => {
  const state = IV.slice();
  state[0] ^= 0x01010000 ^ 16;
  const block = new Uint8Array(128);
  const words = new DataView(block.buffer);
  const message = new Uint32Array(32);
  const v = new Uint32Array(32);
  const add = (a, low, high) => {
    const sum = v[a] + low;
    v[a + 1] += high + (sum > 0xffffffff ? 1 : 0);
    v[a] = sum;
  };
  // v[d] = (v[d] xor v[a]) turned right by a number of bits
  const turn = (d, a, bits) => {
    const swap = bits >= 32 ? 1 : 0;
    const by = bits & 31;
    const low = v[d + swap] ^ v[a + swap];
    const high = v[d + 1 - swap] ^ v[a + 1 - swap];
    v[d] = by ? (low >>> by) | (high << (32 - by)) : low;
    v[d + 1] = by ? (high >>> by) | (low << (32 - by)) : high;
  };
  const mix = (a, b, c, d, m, first, second) => {
    add(a, v[b], v[b + 1]);
    add(a, message[m], message[m + 1]);
    turn(d, a, first);
    add(c, v[d], v[d + 1]);
    turn(b, c, second);
  };
  for (let start = 0; start === 0 || start < bytes.length; start += 128) {
    const part = bytes.subarray(start, start + 128);
    block.fill(0).set(part);
    for (let i = 0; i < 32; i++) message[i] = words.getUint32(4 * i, true);
    v.set(state);
    v.set(IV, 16);
    const done = start + part.length;
    v[24] ^= done;
    v[25] ^= Math.floor(done / 2 ** 32);
    if (done === bytes.length) { v[28] = ~v[28]; v[29] = ~v[29]; }
    for (let round = 0; round < 12; round++) {
      const order = SIGMA[round % 10];
      for (let i = 0; i < 8; i++) {
        const at = MIXED[i];
        mix(at[0], at[1], at[2], at[3], order[2 * i], 32, 24);
        mix(at[0], at[1], at[2], at[3], order[2 * i + 1], 16, 63);
      }
    }
    for (let i = 0; i < 16; i++) state[i] ^= v[i] ^ v[i + 16];
  }
  return new Uint8Array(state.buffer, 0, 16);
};
