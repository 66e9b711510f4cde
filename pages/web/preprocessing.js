// From the file of a picture to the pixels that the model takes, as the Python of this project
// makes them (data/decoding.py, data/geometry.py). This file is the reference for everyone who
// deploys outside Python; docs/deploy-elsewhere.md has it in words, in C++ and in C#.

import { decodeReduced } from "./jpeg.js";

const BAND = 1 << 20;  // pixels read from the browser at once: a large photo is never held whole
const WHOLE = 2048;  // what the weights of two neighbours add up to
const BLOCK = 8;  // side of the blocks that a JPEG is coded in, in pixels

// The model's pixels of a Blob: Uint8ClampedArray (size * size * 3), row by row, red, green, blue.
// settings: { size, resize: "letterbox" | "crop" | "stretch", fill_color: [red, green, blue] }.
// A file that the browser cannot decode throws a DOMException.
export async function preprocess(blob, settings) {
  const head = new Uint8Array(await blob.slice(0, 3).arrayBuffer());
  const isJpeg = head[0] === 0xff && head[1] === 0xd8 && head[2] === 0xff;
  const reduced = isJpeg && await reducedJpeg(blob, settings);
  if (reduced) return toSquare(reduced, settings, false);
  // Upright by the file's EXIF block, and its numbers as they are: no colour profile is applied.
  const bitmap = await createImageBitmap(blob, {
    imageOrientation: "from-image", colorSpaceConversion: "none",
  });
  try {
    return toSquare(pictureOf(bitmap, settings.fill_color), settings, isJpeg);
  } finally {
    bitmap.close();
  }
}

// A large JPEG at the scale of M/8 that is enough, upright; null for what the browser decodes.
async function reducedJpeg(blob, settings) {
  let decoded;
  try {
    decoded = decodeReduced(new Uint8Array(await blob.arrayBuffer()),
      (height, width) => enoughEighths(height, width, targetSize(height, width, settings)));
  } catch {
    return null;  // a damaged file: the browser says what it makes of it
  }
  if (!decoded) return null;
  const { fileWidth, fileHeight, orientation } = decoded;
  const fileSize = orientation > 4 ? [fileHeight, fileWidth] : [fileWidth, fileHeight];
  return { ...pictureOfPixels(upright(decoded)), fileSize };
}

// Turns and mirrors { width, height, pixels, orientation } as EXIF says.
function upright({ width, height, pixels, orientation }) {
  if (orientation === 1) return { width, height, pixels };
  const swaps = orientation > 4, [toWidth, toHeight] = swaps ? [height, width] : [width, height];
  const turned = new Uint8ClampedArray(pixels.length);
  for (let y = 0, to = 0; y < toHeight; y++) {
    for (let x = 0; x < toWidth; x++, to += 3) {
      let [column, row] = swaps ? [y, x] : [x, y];
      if ([2, 3, 7, 8].includes(orientation)) column = width - 1 - column;
      if ([3, 4, 6, 7].includes(orientation)) row = height - 1 - row;
      const from = 3 * (row * width + column);
      for (let i = 0; i < 3; i++) turned[to + i] = pixels[from + i];
    }
  }
  return { width: toWidth, height: toHeight, pixels: turned };
}

function pictureOfPixels({ width, height, pixels }) {
  return {
    width, height, channels: 3, bandHeight: height,
    rows: (top, count) => pixels.subarray(top * width * 3, (top + count) * width * 3),
  };
}

// A picture: its size, and a function that gives some of its rows as bytes of `channels` per pixel.
// fileSize, [width, height], is that of the file where the picture is reduced already.
// Transparent pixels show the fill colour.
function pictureOf(bitmap, [red, green, blue]) {
  const { width, height } = bitmap;
  const bandHeight = Math.min(height, Math.max(1, Math.floor(BAND / width)));
  const canvas = newCanvas(width, bandHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  context.fillStyle = `rgb(${red} ${green} ${blue})`;
  const rows = (top, count) => {
    context.fillRect(0, 0, width, count);
    context.drawImage(bitmap, 0, top, width, count, 0, 0, width, count);
    return context.getImageData(0, 0, width, count).data;
  };
  return { width, height, channels: 4, bandHeight, rows };
}

// Workers have no other than the first, and old browsers no other than the second.
function newCanvas(width, height) {
  if (typeof OffscreenCanvas !== "undefined") return new OffscreenCanvas(width, height);
  return Object.assign(document.createElement("canvas"), { width, height });
}

// The square that the model takes, of a picture of any size.
export function toSquare(picture, settings, isJpeg) {
  const { size, resize, fill_color: fill } = settings;
  const [fileWidth, fileHeight] = picture.fileSize ?? [picture.width, picture.height];
  const [height, width] = targetSize(fileHeight, fileWidth, settings);
  if (isJpeg) picture = reduce(picture, height, width);
  const part = { left: 0, top: 0, width: picture.width, height: picture.height };
  const box = { left: (size - width) >> 1, top: (size - height) >> 1, width, height };
  if (resize === "crop") {
    part.width = part.height = Math.min(picture.width, picture.height);
    part.left = (picture.width - part.width) >> 1;
    part.top = (picture.height - part.height) >> 1;
    Object.assign(box, { left: 0, top: 0, width: size, height: size });
  }
  const averages = Math.max(part.width / box.width, part.height / box.height) >= 2;
  const pixels = averages ? resample(
    picture,
    resizingTaps(part.left, part.width, box.width),
    resizingTaps(part.top, part.height, box.height),
  ) : interpolate(
    picture,
    neighbourTaps(part.left, part.width, box.width),
    neighbourTaps(part.top, part.height, box.height),
  );
  const square = new Uint8ClampedArray(size * size * 3);
  for (let i = 0; i < square.length; i++) square[i] = fill[i % 3];
  for (let y = 0; y < box.height; y++) {
    const row = pixels.subarray(y * box.width * 3, (y + 1) * box.width * 3);
    square.set(row, ((box.top + y) * size + box.left) * 3);
  }
  return square;
}

// The size of the whole picture after scaling, before it is cut or padded: [height, width].
function targetSize(height, width, { size, resize }) {
  if (resize === "stretch") return [size, size];
  const side = resize === "crop" ? Math.min(height, width) : Math.max(height, width);
  return [height, width].map(length => Math.max(1, roundHalfEven(length * size / side)));
}

// As Python's round(): halves go to the even neighbour.
function roundHalfEven(value) {
  const below = Math.floor(value), rest = value - below;
  return rest < 0.5 || rest === 0.5 && below % 2 === 0 ? below : below + 1;
}

function scaled(length, eighths) {
  return Math.ceil(length * eighths / BLOCK);
}

// Python's JPEG decoder gives a large picture at a scale of M/8, the smallest that is not below
// what the square needs.
function enoughEighths(height, width, [targetHeight, targetWidth]) {
  let eighths = 1;
  while (eighths < BLOCK && (scaled(height, eighths) < Math.min(targetHeight, height)
    || scaled(width, eighths) < Math.min(targetWidth, width))) eighths += 1;
  return eighths;
}

// For JPEGs of rare kinds: what libjpeg does to each block of 8 by 8 pixels, done to the pixels.
function reduce(picture, targetHeight, targetWidth) {
  const { width, height } = picture;
  const eighths = enoughEighths(height, width, [targetHeight, targetWidth]);
  if (eighths === BLOCK) return picture;
  const across = blockTaps(width, scaled(width, eighths), eighths);
  const down = blockTaps(height, scaled(height, eighths), eighths);
  const pixels = resample(picture, across, down);
  return pictureOfPixels({ width: across.length, height: down.length, pixels });
}

// For each pixel of a reduced line: which pixels of the whole line make it, by which weights.
function blockTaps(length, target, eighths) {
  const weights = Array.from({ length: eighths }, (_, to) => Array.from(
    { length: BLOCK }, (_, from) => blockWeight(eighths, to, from)));
  return Array.from({ length: target }, (_, i) => {
    const start = Math.floor(i / eighths) * BLOCK;
    const own = weights[i % eighths].slice(0, length - start);
    // A block at the border repeats the last pixel.
    for (let j = length - start; j < BLOCK; j++) own[own.length - 1] += weights[i % eighths][j];
    return { start, weights: own };
  });
}

// libjpeg means areas at 1/8, 2/8 and 4/8; else it keeps the block's lowest frequencies.
function blockWeight(eighths, to, from) {
  if (BLOCK % eighths === 0) {
    return Math.floor(from * eighths / BLOCK) === to ? eighths / BLOCK : 0;
  }
  let sum = 1 / 8;
  for (let k = 1; k < eighths; k++) {
    sum += Math.cos(Math.PI * (2 * to + 1) * k / (2 * eighths))
      * Math.cos(Math.PI * (2 * from + 1) * k / (2 * BLOCK)) / 4;
  }
  return sum;
}

// The same for the resize where one side shrinks to half or less: the mean of the area that a
// pixel covers, on each side that shrinks, and on the other between the two nearest pixels.
function resizingTaps(offset, length, target) {
  const step = length / target;
  return Array.from({ length: target }, (_, i) => {
    if (length === target) return { start: offset + i, weights: [1] };
    if (length > target) {
      const from = i * step, to = Math.min(from + step, length);
      const first = Math.floor(from), end = Math.ceil(to - 1e-9);
      const weights = Array.from({ length: end - first }, (_, j) =>
        (Math.min(first + j + 1, to) - Math.max(first + j, from)) / (to - from));
      return { start: offset + first, weights };
    }
    const center = Math.min(Math.max((i + 0.5) * step - 0.5, 0), length - 1);
    const first = Math.min(Math.floor(center), Math.max(length - 2, 0)), share = center - first;
    return { start: offset + first, weights: length > 1 ? [1 - share, share] : [1] };
  });
}

// For each pixel of any other resized line: the two nearest pixels, by weights that add up to 2048,
// in float32 as OpenCV has them.
function neighbourTaps(offset, length, target) {
  const step = length / target, weightOf = share => roundHalfEven(Math.fround(share * WHOLE));
  return Array.from({ length: target }, (_, i) => {
    const center = Math.fround((i + 0.5) * step - 0.5), near = Math.floor(center);
    const isInside = near >= 0 && near < length - 1;
    const first = Math.min(Math.max(near, 0), length - 1);
    const share = isInside ? Math.fround(center - near) : 0;
    return {
      first: offset + first, second: offset + Math.min(first + 1, length - 1),
      nearWeight: weightOf(Math.fround(1 - share)), farWeight: weightOf(share),
    };
  });
}

// Pixels (down.length * across.length * 3) between the nearest ones of a picture, in the whole
// numbers that OpenCV computes in.
function interpolate(picture, across, down) {
  const rowLength = across.length * 3, pixels = new Uint8ClampedArray(down.length * rowLength);
  const { channels, bandHeight, height, width } = picture;
  let band, bandTop = 0, bandEnd = 0, lines = [];
  const lineOf = y => {
    let line = lines.find(known => known.y === y);
    if (line) return line.values;
    if (y >= bandEnd) {
      [bandTop, bandEnd] = [y, Math.min(y + bandHeight, height)];
      band = picture.rows(bandTop, bandEnd - bandTop);
    }
    const values = new Int32Array(rowLength), start = (y - bandTop) * width * channels;
    across.forEach(({ first, second, nearWeight, farWeight }, x) => {
      for (let i = 0; i < 3; i++) {
        values[3 * x + i] = band[start + first * channels + i] * nearWeight
          + band[start + second * channels + i] * farWeight;
      }
    });
    lines = [...lines.slice(-1), { y, values }];
    return values;
  };
  down.forEach(({ first, second, nearWeight, farWeight }, y) => {
    const near = lineOf(first), far = lineOf(second);
    for (let x = 0; x < rowLength; x++) {
      pixels[y * rowLength + x] = ((nearWeight * (near[x] >> 4) >> 16)
        + (farWeight * (far[x] >> 4) >> 16) + 2) >> 2;
    }
  });
  return pixels;
}

// Pixels (down.length * across.length * 3) from a picture, rounded to bytes, halves to even.
function resample(picture, across, down) {
  const { channels, bandHeight } = picture, rowLength = across.length * 3;
  const sums = new Float64Array(down.length * rowLength), line = new Float64Array(rowLength);
  const end = Math.max(...down.map(({ start, weights }) => start + weights.length));
  let first = 0, band, bandTop = -1, bandEnd = -1;
  for (let y = down[0].start; y < end; y++) {
    if (y >= bandEnd) {
      [bandTop, bandEnd] = [y, Math.min(y + bandHeight, picture.height)];
      band = picture.rows(bandTop, bandEnd - bandTop);
    }
    shrinkLine(band, (y - bandTop) * picture.width * channels, channels, across, line);
    while (down[first].start + down[first].weights.length <= y) first += 1;
    for (let i = first; i < down.length && down[i].start <= y; i++) {
      const weight = down[i].weights[y - down[i].start], place = i * rowLength;
      for (let x = 0; x < rowLength; x++) sums[place + x] += weight * line[x];
    }
  }
  return Uint8ClampedArray.from(sums);
}

function shrinkLine(bytes, place, channels, across, line) {
  for (let i = 0; i < across.length; i++) {
    const { start, weights } = across[i];
    let red = 0, green = 0, blue = 0, at = place + start * channels;
    for (let j = 0; j < weights.length; j++, at += channels) {
      const weight = weights[j];
      red += weight * bytes[at];
      green += weight * bytes[at + 1];
      blue += weight * bytes[at + 2];
    }
    line[3 * i] = red;
    line[3 * i + 1] = green;
    line[3 * i + 2] = blue;
  }
}
