// The scans of a JPEG: from its bits to the coefficients of every block (ITU-T T.81, annexes F, G).

export const COEFFICIENTS = 64;  // of a block
export const ORDER = zigzag();

// Position in a block (row by row) of each coefficient in the file's order (T.81, figure 5).
function zigzag() {
  const order = Array.from({ length: COEFFICIENTS }, (_, i) => i);
  const diagonal = i => (i >> 3) + (i & 7);
  const along = i => diagonal(i) % 2 ? i >> 3 : i & 7;
  return Uint8Array.from(order.sort((one, other) =>
    diagonal(one) - diagonal(other) || along(one) - along(other)));
}

// Each table: for any 16 bits, the length of the code at their beginning * 256 + what it means.
export function readHuffmanTables(bytes, at, end, tables) {
  while (at < end) {
    const table = tables[bytes[at] & 31] ??= new Uint16Array(65536), counts = at + 1;
    table.fill(0);
    at += 17;
    for (let length = 1, code = 0; length <= 16; length++, code <<= 1) {
      for (let i = 0; i < bytes[counts + length - 1]; i++, code++) {
        const first = code << (16 - length), after = code + 1 << (16 - length);
        table.fill(length * 256 + bytes[at++], first, after);
      }
    }
  }
}

// Reads one scan; returns the position behind it.
export function readScan(bytes, start, { frame, tables, quantization, restartInterval }) {
  const count = bytes[start], scanned = [];
  if (!count || count > frame.components.length) throw new Error("a scan of no such colours");
  for (let i = 0; i < count; i++) {
    const component = frame.components.find(({ id }) => id === bytes[start + 1 + 2 * i]);
    const selector = bytes[start + 2 + 2 * i];
    if (scanned.some(one => one.component === component)) throw new Error("a colour twice");
    component.quantization ??= quantization[component.table];
    scanned.push({ component, dc: tables[selector >> 4], ac: tables[16 + (selector & 15)] });
  }
  const [from, to, approximation] = bytes.subarray(start + 1 + 2 * count, start + 4 + 2 * count);
  if (frame.isProgressive && (from > to || to >= COEFFICIENTS || from && count > 1)) {
    throw new Error("a scan of no such frequencies");
  }
  const reader = new BlockReader(bytes, start + 4 + 2 * count);
  const read = frame.isProgressive
    ? progressive(reader, from, to, approximation >> 4, approximation & 15)
    : reader.baseline;
  readBlocks(reader, frame, scanned, read, restartInterval);
  return reader.position;
}

function readBlocks(reader, frame, scanned, read, restartInterval) {
  const isAlone = scanned.length === 1, [{ component: own }] = scanned;
  const largest = frame.components[0];
  const unitsAcross = isAlone ? own.blocksAcross : largest.stride / largest.across;
  const units = unitsAcross * (isAlone ? own.blocksDown
    : largest.coefficients.length / COEFFICIENTS / largest.stride / largest.down);
  for (let unit = 0; unit < units; unit++) {
    if (restartInterval && unit % restartInterval === 0) {
      if (unit) reader.restart();
      for (const one of scanned) one.predicted = 0;
    } else if (!unit) for (const one of scanned) one.predicted = 0;
    const row = Math.floor(unit / unitsAcross), column = unit % unitsAcross;
    for (const one of scanned) {
      const { component } = one;
      const across = isAlone ? 1 : component.across, down = isAlone ? 1 : component.down;
      for (let i = 0; i < across * down; i++) {
        const block = (row * down + Math.floor(i / across)) * component.stride
          + column * across + i % across;
        read.call(reader, component.coefficients, block * COEFFICIENTS, one);
      }
    }
  }
}

class BlockReader {
  constructor(bytes, position) {
    Object.assign(this, { bytes, position, bits: 0, bitCount: 0, made: 0, blocksToSkip: 0 });
  }

  restart() {
    Object.assign(this, { bits: 0, bitCount: 0, made: 0, blocksToSkip: 0 });
    const { bytes } = this;
    while (!(bytes[this.position] === 0xff && (bytes[this.position + 1] & 0xf8) === 0xd0)) {
      if (++this.position >= bytes.length) throw new Error("a restart marker is missing");
    }
    this.position += 2;
  }

  fill() {
    const { bytes } = this;
    while (this.bitCount <= 24) {
      let next = bytes[this.position];
      if (next === 0xff && bytes[this.position + 1] !== 0 || next === undefined) {
        if (++this.made > 8) throw new Error("a scan ends too early");
        next = 0;
      } else this.position += next === 0xff ? 2 : 1;
      this.bits = this.bits << 8 | next;
      this.bitCount += 8;
    }
  }

  symbol(table) {
    if (this.bitCount < 16) this.fill();
    const entry = table[this.bits >>> this.bitCount - 16 & 0xffff];
    if (!entry) throw new Error("a code that no table has");
    this.bitCount -= entry >> 8;
    return entry & 255;
  }

  number(length) {
    if (!length) return 0;
    if (this.bitCount < length) this.fill();
    this.bitCount -= length;
    return this.bits >>> this.bitCount & (1 << length) - 1;
  }

  // A number of `length` bits with its sign (T.81, F.2.2.1, EXTEND).
  signed(length) {
    const value = this.number(length);
    return length && value < 1 << length - 1 ? value - (1 << length) + 1 : value;
  }

  baseline(coefficients, place, one) {
    one.predicted += this.signed(this.symbol(one.dc));
    coefficients[place] = one.predicted;
    for (let k = 1; k < COEFFICIENTS; k++) {
      const symbol = this.symbol(one.ac), length = symbol & 15;
      k += symbol >> 4;
      if (length) coefficients[place + ORDER[k]] = this.signed(length);
      else if (symbol !== 0xf0) break;
    }
  }
}

// The function that reads a block of a progressive scan (T.81, annex G).
function progressive(reader, from, to, before, shift) {
  if (from === 0) {
    if (before) {
      return (coefficients, place) => { coefficients[place] |= reader.number(1) << shift; };
    }
    return (coefficients, place, one) => {
      one.predicted += reader.signed(reader.symbol(one.dc));
      coefficients[place] = one.predicted << shift;
    };
  }
  if (before) return refinement(reader, from, to, shift);
  return (coefficients, place, one) => {
    if (reader.blocksToSkip) { reader.blocksToSkip -= 1; return; }
    for (let k = from; k <= to; k++) {
      const symbol = reader.symbol(one.ac), run = symbol >> 4, length = symbol & 15;
      if (!length && run < 15) {
        reader.blocksToSkip = (1 << run) + reader.number(run) - 1;
        return;
      }
      k += run;
      if (length) coefficients[place + ORDER[k]] = reader.signed(length) * (1 << shift);
    }
  };
}

// One more bit of each coefficient that is not 0, and new ones among those that are.
function refinement(reader, from, to, shift) {
  const bit = 1 << shift;
  const refine = (coefficients, at) => {
    if (reader.number(1)) coefficients[at] += coefficients[at] > 0 ? bit : -bit;
  };
  return (coefficients, place, one) => {
    let k = from;
    while (k <= to && !reader.blocksToSkip) {
      const symbol = reader.symbol(one.ac);
      let run = symbol >> 4, added = 0;
      if (symbol & 15) added = reader.number(1) ? bit : -bit;
      else if (run < 15) {
        reader.blocksToSkip = (1 << run) + reader.number(run);
        break;
      }
      for (; k <= to; k++) {
        const at = place + ORDER[k];
        if (coefficients[at]) refine(coefficients, at);
        else if (run-- === 0) {
          coefficients[at] = added;
          k += 1;
          break;
        }
      }
    }
    if (!reader.blocksToSkip) return;
    for (; k <= to; k++) {
      const at = place + ORDER[k];
      if (coefficients[at]) refine(coefficients, at);
    }
    reader.blocksToSkip -= 1;
  };
}
