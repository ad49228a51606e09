// A frame -> the square that the model reads: videorwkv/preprocess/inputs.py in JavaScript, to the
// pixel. Sums are rounded to float32 in OpenCV's order, because a pixel's last bit hangs on it.

const fround = Math.fround;

/** The part of a frame that becomes the square: its largest centred square, or all of it. */
export function fitBox(height, width, frameFit) {
  if (frameFit === "stretch") return { top: 0, left: 0, height, width };
  const side = Math.min(height, width);
  return { top: (height - side) >> 1, left: (width - side) >> 1, height: side, width: side };
}

/**
 * One frame as a square.
 *
 * @param {Uint8ClampedArray|Uint8Array} pixels RGBA, [height, width, 4], as a canvas gives them
 * @param {"crop"|"stretch"} frameFit as in videorwkv/preprocess/inputs.py
 * @returns {Uint8Array} RGB, [size, size, 3]
 */
export function fitFrame(pixels, height, width, size, frameFit) {
  const box = fitBox(height, width, frameFit);
  if (box.height === size && box.width === size) return copied(pixels, width, box);
  if (Math.min(box.height, box.width) <= size) return linear(pixels, width, box, size);
  const fast = box.height % size === 0 && box.width % size === 0;
  return fast ? blocks(pixels, width, box, size) : area(pixels, width, box, size);
}

function copied(pixels, width, box) {
  const out = new Uint8Array(box.height * box.width * 3);
  for (let y = 0, o = 0; y < box.height; y++) {
    let i = ((y + box.top) * width + box.left) * 4;
    for (let x = 0; x < box.width; x++, i += 4) {
      out[o++] = pixels[i];
      out[o++] = pixels[i + 1];
      out[o++] = pixels[i + 2];
    }
  }
  return out;
}

/** INTER_AREA where a whole number of pixels becomes one: their mean. */
function blocks(pixels, width, box, size) {
  const rows = box.height / size;
  const columns = box.width / size;
  const share = fround(1 / (rows * columns));
  const isHalved = rows === 2 && columns === 2; // OpenCV rounds these up at one half
  const out = new Uint8Array(size * size * 3);
  for (let y = 0, o = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let v = 0; v < rows; v++) {
        let i = ((box.top + y * rows + v) * width + box.left + x * columns) * 4;
        for (let u = 0; u < columns; u++, i += 4) {
          red += pixels[i];
          green += pixels[i + 1];
          blue += pixels[i + 2];
        }
      }
      for (const sum of [red, green, blue]) {
        out[o++] = isHalved ? (sum + 2) >> 2 : rounded(fround(sum * share));
      }
    }
  }
  return out;
}

/** INTER_AREA: every pixel counts by how much of it lies in the new one. */
function area(pixels, width, box, size) {
  const across = areaTable(box.width, size);
  const down = areaTable(box.height, size);
  const row = new Float32Array(size * 3);
  const sum = new Float32Array(size * 3);
  const out = new Uint8Array(size * size * 3);
  for (let n = 0; n < down.to.length; n++) {
    row.fill(0);
    const start = (box.top + down.from[n]) * width + box.left;
    for (let m = 0; m < across.to.length; m++) {
      const i = (start + across.from[m]) * 4;
      const o = across.to[m] * 3;
      const weight = across.weight[m];
      row[o] += fround(pixels[i] * weight);
      row[o + 1] += fround(pixels[i + 1] * weight);
      row[o + 2] += fround(pixels[i + 2] * weight);
    }
    const weight = down.weight[n];
    const isFirst = n === 0 || down.to[n] !== down.to[n - 1];
    for (let o = 0; o < row.length; o++) {
      sum[o] = isFirst ? weight * row[o] : sum[o] + fround(weight * row[o]);
    }
    if (n + 1 === down.to.length || down.to[n + 1] !== down.to[n]) {
      const place = down.to[n] * row.length;
      for (let o = 0; o < row.length; o++) out[place + o] = rounded(sum[o]);
    }
  }
  return out;
}

/** Which of `length` pixels make each of `size`, and how much of them. */
function areaTable(length, size) {
  const table = { from: [], to: [], weight: [] };
  const scale = length / size;
  const add = (from, to, weight) => {
    table.from.push(from);
    table.to.push(to);
    table.weight.push(fround(weight));
  };
  for (let to = 0; to < size; to++) {
    const begin = to * scale;
    const end = begin + scale;
    const cell = Math.min(scale, length - begin);
    const last = Math.min(Math.floor(end), length - 1);
    const first = Math.min(Math.ceil(begin), last);
    if (first - begin > 1e-3) add(first - 1, to, (first - begin) / cell);
    for (let from = first; from < last; from++) add(from, to, 1 / cell);
    if (end - last > 1e-3) add(last, to, Math.min(Math.min(end - last, 1), cell) / cell);
  }
  return table;
}

/** INTER_LINEAR, in the fixed point of OpenCV: 11 bits for each weight. */
function linear(pixels, width, box, size) {
  const across = linearTable(box.width, size, true);
  const down = linearTable(box.height, size, false);
  const out = new Uint8Array(size * size * 3);
  const rows = [new Int32Array(size * 3), new Int32Array(size * 3)];
  for (let y = 0, o = 0; y < size; y++) {
    [down.near[y], down.far[y]].forEach((line, side) => {
      const start = (box.top + line) * width + box.left;
      for (let x = 0; x < size; x++) {
        const near = (start + across.near[x]) * 4;
        const far = (start + across.far[x]) * 4;
        for (let c = 0; c < 3; c++) {
          rows[side][x * 3 + c] =
            pixels[near + c] * across.nearWeight[x] + pixels[far + c] * across.farWeight[x];
        }
      }
    });
    for (let i = 0; i < size * 3; i++) {
      const near = (down.nearWeight[y] * (rows[0][i] >> 4)) >> 16;
      const far = (down.farWeight[y] * (rows[1][i] >> 4)) >> 16;
      out[o++] = Math.min(255, Math.max(0, (near + far + 2) >> 2));
    }
  }
  return out;
}

/** At the border OpenCV gives a column one weight of 1 (`isWhole`), and a row two that make 1. */
function linearTable(length, size, isWhole) {
  const table = { near: [], far: [], nearWeight: [], farWeight: [] };
  const scale = length / size;
  const inside = (place) => Math.min(Math.max(place, 0), length - 1);
  for (let x = 0; x < size; x++) {
    let place = fround((x + 0.5) * scale - 0.5);
    const near = Math.floor(place);
    place = fround(place - near);
    if (isWhole && (near < 0 || near >= length - 1)) place = 0;
    table.near.push(inside(near));
    table.far.push(inside(near + 1));
    table.nearWeight.push(rounded(fround(fround(1 - place) * 2048)));
    table.farWeight.push(rounded(fround(place * 2048)));
  }
  return table;
}

/** To the nearest whole number, halves to the even one, as a processor does. */
export function rounded(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}
