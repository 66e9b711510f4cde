// JPEGs at a scale of M/8, as Python's decoder (libjpeg-turbo) gives them: each block of 8 by 8
// pixels becomes M by M, from the frequencies that the file holds. A browser gives the whole
// picture only, in rounded pixels, from which the scale can be reached no more than nearly.
// Terms: ITU-T T.81.

import { COEFFICIENTS, ORDER, readHuffmanTables, readScan } from "./jpeg_scans.js";

const BLOCK = 8;
const MOST_PIXELS = 32e6;  // above, the frequencies would take 100 to 200 MB
const MOST_SCANS = 100;  // each costs a pass over the whole picture, and next to no bytes
const HEAD = 0xd8, END = 0xd9, START_OF_SCAN = 0xda, QUANTIZATION = 0xdb, RESTART_INTERVAL = 0xdd;
const BASELINE = 0xc0, EXTENDED = 0xc1, PROGRESSIVE = 0xc2, HUFFMAN = 0xc4;
const APP0 = 0xe0, APP1 = 0xe1, APP14 = 0xee, ORIENTATION = 0x0112;
const LONG = 4;  // a type of EXIF's values
const HALF = 128.5 + 1e-9;  // the middle of the range, and what rounds halves up in spite of float

// Reads a JPEG's bytes (Uint8Array). chooseEighths(height, width) names M, 1 to 8.
// Returns { width, height, pixels: Uint8Array (height * width * 3), fileWidth, fileHeight,
// orientation: 1 to 8 of EXIF }, or null for what is left to the browser: M = 8, and rare kinds.
export function decodeReduced(bytes, chooseEighths) {
  const file = {
    tables: {}, quantization: [], restartInterval: 0, orientation: 0, isJfif: false, transform: -1,
  };
  let position = 2, eighths = BLOCK, scanCount = 0;
  for (;;) {
    while (bytes[position] !== 0xff && position < bytes.length) position += 1;
    while (bytes[position] === 0xff) position += 1;
    const marker = bytes[position++];
    if (marker === undefined) throw new Error("the file ends too early");
    if (marker === END) break;
    if (marker === HEAD || marker === 0 || marker === 1 || (marker & 0xf8) === 0xd0) continue;
    const start = position + 2, end = position + bytes[position] * 256 + bytes[position + 1];
    position = end;
    if (marker === HUFFMAN) readHuffmanTables(bytes, start, end, file.tables);
    else if (marker === QUANTIZATION) readQuantization(bytes, start, end, file.quantization);
    else if (marker === RESTART_INTERVAL) file.restartInterval = word(bytes, start);
    else if (marker === APP1) file.orientation ||= readOrientation(bytes, start, end);
    else if (marker === APP0) file.isJfif ||= isNamed(bytes, start, end, "JFIF\0", 12);
    else if (marker === APP14 && isNamed(bytes, start, end, "Adobe", 12)) {
      file.transform = bytes[start + 11];
    }
    else if (marker === START_OF_SCAN) {
      if (!file.frame || ++scanCount > MOST_SCANS) throw new Error("no frame, or too many scans");
      position = readScan(bytes, start, file);
    } else if (marker === BASELINE || marker === EXTENDED || marker === PROGRESSIVE) {
      if (file.frame) throw new Error("two frames");
      file.frame = readFrame(bytes, start, marker === PROGRESSIVE);
      if (!isUsual(file)) return null;
      eighths = chooseEighths(file.frame.height, file.frame.width);
      if (eighths === BLOCK) return null;
      allocate(file.frame);
    } else if ((marker & 0xf0) === 0xc0 && marker !== 0xc8 && marker !== 0xcc) return null;
  }
  const { width: fileWidth, height: fileHeight } = file.frame;
  const orientation = file.orientation || 1;
  return { ...toPixels(file.frame, eighths, isRgb(file)), fileWidth, fileHeight, orientation };
}

// Whether a segment begins with a text, and has so many bytes.
function isNamed(bytes, start, end, name, length) {
  const text = String.fromCharCode(...bytes.subarray(start, start + name.length));
  return end - start >= length && text === name;
}

function word(bytes, at) {
  return bytes[at] * 256 + bytes[at + 1];
}

// --- headers ---

function readFrame(bytes, start, isProgressive) {
  const [height, width] = [word(bytes, start + 1), word(bytes, start + 3)];
  const components = Array.from({ length: bytes[start + 5] }, (_, i) => {
    const at = start + 6 + 3 * i;
    const [id, sampling, table] = bytes.subarray(at, at + 3);
    return { id, across: sampling >> 4, down: sampling & 15, table };
  });
  return { precision: bytes[start], height, width, components, isProgressive };
}

// Grey, or three colours whose second and third are stored alike: 4:4:4, 4:2:2 or 4:2:0.
function isUsual({ frame: { precision, width, height, components } }) {
  if (precision !== 8 || !width || !height || width * height > MOST_PIXELS) return false;
  if (new Set(components.map(({ id }) => id)).size < components.length) return false;
  const samplings = components.map(({ across, down }) => `${across}x${down}`).join(" ");
  if (components.length === 1) return true;
  return /^(1x1|2x1|2x2) 1x1 1x1$/.test(samplings);
}

// As libjpeg guesses: JFIF is never RGB, whatever else the file says.
function isRgb({ isJfif, transform, frame: { components } }) {
  if (isJfif) return false;
  if (transform >= 0) return transform === 0;
  return components.map(({ id }) => String.fromCharCode(id)).join("") === "RGB";
}

function allocate({ width, height, components }) {
  const single = components.length === 1;  // whose sampling means nothing
  const [mostAcross, mostDown] = [components[0].across, components[0].down];
  for (const component of components) {
    if (single) component.across = component.down = 1;
    const share = (length, own, most) => single ? length : Math.ceil(length * own / most);
    component.blocksAcross = Math.ceil(share(width, component.across, mostAcross) / BLOCK);
    component.blocksDown = Math.ceil(share(height, component.down, mostDown) / BLOCK);
    const unit = [(single ? 1 : mostAcross) * BLOCK, (single ? 1 : mostDown) * BLOCK];
    component.stride = Math.ceil(width / unit[0]) * component.across;
    const rows = Math.ceil(height / unit[1]) * component.down;
    component.coefficients = new Int16Array(component.stride * rows * COEFFICIENTS);
  }
}

function readQuantization(bytes, at, end, tables) {
  while (at < end) {
    const isLong = bytes[at] >> 4, table = tables[bytes[at++] & 15] = new Uint16Array(COEFFICIENTS);
    for (let i = 0; i < COEFFICIENTS; i++, at += isLong ? 2 : 1) {
      table[ORDER[i]] = isLong ? word(bytes, at) : bytes[at];
    }
  }
}

// The orientation in an EXIF block, or 1; 0 where the segment is none.
function readOrientation(bytes, start, end) {
  if (!isNamed(bytes, start, end, "Exif\0\0", 6)) return 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset + start + 6, end - start - 6);
  try {
    const isLittle = view.getUint16(0) === 0x4949, directory = view.getUint32(4, isLittle);
    for (let i = 0; i < view.getUint16(directory, isLittle); i++) {
      const entry = directory + 2 + 12 * i;
      if (view.getUint16(entry, isLittle) !== ORIENTATION) continue;
      const isLong = view.getUint16(entry + 2, isLittle) === LONG;
      const value = isLong ? view.getUint32(entry + 8, isLittle)
        : view.getUint16(entry + 8, isLittle);
      return value >= 1 && value <= 8 ? value : 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;  // a damaged block is no reason to refuse
  }
  return 1;
}

// --- pixels ---

function toPixels({ width, height, components }, eighths, isRgb) {
  const reduced = length => Math.ceil(length * eighths / BLOCK);
  const [outWidth, outHeight] = [reduced(width), reduced(height)];
  const [{ across: mostAcross, down: mostDown }] = components;
  const planes = components.map(component => {
    // A colour stored at half the size in both directions is brought to the size of the others.
    const isHalf = mostAcross === 2 * component.across && mostDown === 2 * component.down;
    const plane = toPlane(component, isHalf ? 2 * eighths : eighths);
    if (isHalf || mostAcross === component.across) return plane;
    const share = Math.ceil(width * component.across * eighths / (mostAcross * BLOCK));
    return widen(plane, share, outHeight, eighths > 1 && share > 2);
  });
  const pixels = new Uint8ClampedArray(outWidth * outHeight * 3);
  const [one, two = one, three = one] = planes, isLuma = planes.length === 3 && !isRgb;
  for (let y = 0, at = 0; y < outHeight; y++) {
    for (let x = 0; x < outWidth; x++, at += 3) {
      const first = one.bytes[y * one.stride + x], second = two.bytes[y * two.stride + x];
      const third = three.bytes[y * three.stride + x];
      if (isLuma) {
        setColor(pixels, at, first, second - 128, third - 128);
      } else {
        pixels[at] = first;
        pixels[at + 1] = second;
        pixels[at + 2] = third;
      }
    }
  }
  return { width: outWidth, height: outHeight, pixels };
}

// Rounded as libjpeg rounds, with 16 bits behind the point.
function setColor(pixels, at, luma, blue, red) {
  pixels[at] = luma + (91881 * red + 32768 >> 16);
  pixels[at + 1] = luma + (-22554 * blue - 46802 * red + 32768 >> 16);
  pixels[at + 2] = luma + (116130 * blue + 32768 >> 16);
}

// Every block of a component as side * side pixels.
function toPlane({ coefficients, stride: blocks, quantization }, side) {
  const weights = inverseWeights(side), stride = blocks * side;
  const blockCount = coefficients.length / COEFFICIENTS;
  const bytes = new Uint8ClampedArray(blockCount * side * side);
  const lines = new Float64Array(BLOCK * side);
  for (let block = 0; block < blockCount; block++) {
    const place = block * COEFFICIENTS;
    const corner = Math.floor(block / blocks) * side * stride + block % blocks * side;
    lines.fill(0);
    let used = 0;  // rows of frequencies
    for (let k = 0; k < COEFFICIENTS; k++) {
      if (!coefficients[place + k]) continue;
      const value = coefficients[place + k] * quantization[k], row = k >> 3, column = k & 7;
      for (let x = 0; x < side; x++) lines[row * side + x] += value * weights[x * BLOCK + column];
      used = row + 1;
    }
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        let sum = HALF;
        for (let row = 0; row < used; row++) {
          sum += weights[y * BLOCK + row] * lines[row * side + x];
        }
        bytes[corner + y * stride + x] = Math.floor(sum);
      }
    }
  }
  return { bytes, stride };
}

// weights[position * 8 + frequency]. At 1, 2 and 4 libjpeg takes means of the eight pixels; else
// it is the cosine transform of that length, of the frequencies that both lengths have.
function inverseWeights(side) {
  const isMean = side === 1 || side === 2 || side === 4, length = isMean ? BLOCK : side;
  const weight = (position, k) => k === 0 ? Math.SQRT1_2 / 2
    : k < length ? Math.cos(Math.PI * (2 * position + 1) * k / (2 * length)) / 2 : 0;
  const weights = new Float64Array(side * BLOCK), group = length / side;
  for (let i = 0; i < side; i++) {
    for (let k = 0; k < BLOCK; k++) {
      for (let j = 0; j < group; j++) weights[i * BLOCK + k] += weight(i * group + j, k) / group;
    }
  }
  return weights;
}

// A plane of half the width at the whole width, between neighbours as three to one.
function widen({ bytes, stride }, width, height, isSmooth) {
  const wide = new Uint8ClampedArray(2 * width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * stride + x, to = 2 * (y * width + x), own = bytes[at];
      const left = isSmooth && x > 0 ? bytes[at - 1] : own;
      const right = isSmooth && x < width - 1 ? bytes[at + 1] : own;
      wide[to] = 3 * own + left + 1 >> 2;
      wide[to + 1] = 3 * own + right + 2 >> 2;
    }
  }
  return { bytes: wide, stride: 2 * width };
}
