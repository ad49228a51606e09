// A frame -> its edge map: videorwkv/preprocess/edges.py in JavaScript, to the pixel. The steps are
// those of OpenCV, in whole numbers where it takes whole numbers and in float32 where it takes that.

import { rounded } from "./resize.js";

const fround = Math.fround;
// As in videorwkv/preprocess/edges.py.
const SOBEL_SCALE = 0.5;
const LAPLACIAN_SCALE = 1.5;

/**
 * @param {Uint8Array} frame RGB, [size, size, 3]
 * @param {string} method canny, sobel, laplacian or none
 * @param {object} options as EdgeOptions of videorwkv/preprocess/edges.py
 * @returns {Uint8Array} [size, size], 0 (no edge) to 255
 */
export function edgeMap(frame, size, method, options) {
  if (method === "none") return new Uint8Array(size * size);
  const grey = blurred(greyed(frame, size), size, options.blur_size, options.blur_sigma);
  if (method === "laplacian") return laplacian(grey, size);
  const { dx, dy } = gradient(grey, size);
  if (method === "sobel") return sobel(dx, dy, options);
  if (method === "canny") return canny(dx, dy, size, options);
  throw new Error(`Unknown edge method '${method}'; allowed: canny, sobel, laplacian, none.`);
}

function greyed(frame, size) {
  const grey = new Uint8Array(size * size);
  for (let i = 0, j = 0; i < grey.length; i++, j += 3) {
    grey[i] = (9798 * frame[j] + 19235 * frame[j + 1] + 3735 * frame[j + 2] + 16384) >> 15;
  }
  return grey;
}

/** Gaussian blur with weights of 8 bits; the frame is mirrored at its border. */
function blurred(grey, size, side, sigma) {
  if (side <= 1) return grey;
  const weights = gaussianWeights(side, sigma);
  const half = side >> 1;
  const at = new Int32Array(size + 2 * half);
  for (let i = 0; i < at.length; i++) at[i] = mirrored(i - half, size);
  const across = new Int32Array(grey.length);
  for (let y = 0, i = 0; y < size; y++) {
    for (let x = 0; x < size; x++, i++) {
      let sum = 0;
      for (let k = 0; k < side; k++) sum += weights[k] * grey[y * size + at[x + k]];
      across[i] = Math.min(sum, 65535);
    }
  }
  const out = new Uint8Array(grey.length);
  for (let y = 0, i = 0; y < size; y++) {
    for (let x = 0; x < size; x++, i++) {
      let sum = 0;
      for (let k = 0; k < side; k++) sum += weights[k] * across[at[y + k] * size + x];
      out[i] = Math.min(255, Math.floor((sum + 32768) / 65536));
    }
  }
  return out;
}

function mirrored(i, length) {
  if (length === 1) return 0;
  while (i < 0 || i >= length) i = i < 0 ? -i : 2 * length - 2 - i;
  return i;
}

// Binomial weights where no sigma is given, as OpenCV.
const SMALL = {
  3: [0.25, 0.5, 0.25],
  5: [0.0625, 0.25, 0.375, 0.25, 0.0625],
  7: [0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125],
  9: [4, 13, 30, 51, 60, 51, 30, 13, 4].map((x) => x / 256),
};

/** Weights in 1/256; what rounding takes from one goes to the next, and the rest to the middle. */
function gaussianWeights(side, sigma) {
  let weights = sigma > 0 ? undefined : SMALL[side];
  if (weights === undefined) {
    const width = sigma > 0 ? sigma : 0.15 * side + 0.35;
    const middle = (side - 1) / 2;
    weights = Array.from({ length: side }, (_, i) => Math.exp(-((i - middle) ** 2) / (2 * width * width)));
    const sum = weights.reduce((a, b) => a + b);
    weights = weights.map((weight) => weight / sum);
  }
  const out = new Int32Array(side);
  let error = 0;
  let total = 0;
  for (let i = 0; i < side >> 1; i++) {
    const wanted = weights[i] * 256 + error;
    out[i] = out[side - 1 - i] = rounded(wanted);
    error = wanted - out[i];
    total += 2 * out[i];
  }
  out[side >> 1] = 256 - total;
  return out;
}

/** 3x3 Sobel derivatives; the border is repeated. */
function gradient(grey, size) {
  const dx = new Int32Array(grey.length);
  const dy = new Int32Array(grey.length);
  for (let y = 0, i = 0; y < size; y++) {
    const above = Math.max(y - 1, 0) * size;
    const here = y * size;
    const below = Math.min(y + 1, size - 1) * size;
    for (let x = 0; x < size; x++, i++) {
      const l = Math.max(x - 1, 0);
      const r = Math.min(x + 1, size - 1);
      const [a, b, c] = [grey[above + l], grey[above + x], grey[above + r]];
      const [d, f] = [grey[here + l], grey[here + r]];
      const [g, h, k] = [grey[below + l], grey[below + x], grey[below + r]];
      dx[i] = c - a + 2 * (f - d) + k - g;
      dy[i] = g - a + 2 * (h - b) + k - c;
    }
  }
  return { dx, dy };
}

/** Length of the gradient: |dx| + |dy|, or the Euclidean one in float32. */
function magnitude(dx, dy, isL2) {
  const out = new Float32Array(dx.length);
  for (let i = 0; i < out.length; i++) {
    out[i] = isL2
      ? Math.sqrt(dx[i] * dx[i] + dy[i] * dy[i])
      : Math.abs(dx[i]) + Math.abs(dy[i]);
  }
  return out;
}

/** Scaled, rounded and cut off at 255. */
function toBytes(values, scale) {
  const factor = fround(scale);
  const out = new Uint8Array(values.length);
  for (let i = 0; i < out.length; i++) {
    out[i] = Math.min(255, rounded(fround(Math.abs(values[i]) * factor)));
  }
  return out;
}

function sobel(dx, dy, options) {
  return toBytes(magnitude(dx, dy, options.norm === "l2"), SOBEL_SCALE);
}

function laplacian(grey, size) {
  const out = new Int32Array(grey.length);
  for (let y = 0, i = 0; y < size; y++) {
    const above = Math.max(y - 1, 0) * size;
    const below = Math.min(y + 1, size - 1) * size;
    for (let x = 0; x < size; x++, i++) {
      const l = Math.max(x - 1, 0);
      const r = Math.min(x + 1, size - 1);
      const corners = grey[above + l] + grey[above + r] + grey[below + l] + grey[below + r];
      out[i] = 2 * corners - 8 * grey[i];
    }
  }
  return toBytes(out, LAPLACIAN_SCALE);
}

/** Otsu's split of gradient magnitudes, in their own unit; 0 for a flat frame. */
function otsuHigh(steepness) {
  let top = 0;
  for (const value of steepness) top = Math.max(top, value);
  if (top === 0) return 0;
  const counts = new Float64Array(256);
  for (const value of toBytes(steepness, 255 / top)) counts[value]++;
  const scale = 1 / steepness.length;
  let mean = 0;
  for (let i = 0; i < 256; i++) mean += i * counts[i];
  mean *= scale;
  const least = 2 ** -23;
  let [mean1, share1, best, split] = [0, 0, 0, 0];
  for (let i = 0; i < 256; i++) {
    const share = counts[i] * scale;
    mean1 *= share1;
    share1 += share;
    const share2 = 1 - share1;
    if (Math.min(share1, share2) < least || Math.max(share1, share2) > 1 - least) continue;
    mean1 = (mean1 + i * share) / share1;
    const mean2 = (mean - share1 * mean1) / share2;
    const between = share1 * share2 * (mean1 - mean2) * (mean1 - mean2);
    if (between > best) [best, split] = [between, i];
  }
  return (split * top) / 255;
}

// The tangent of 22.5 degrees with 15 bits behind the point.
const TAN_22 = 13573;

function canny(dx, dy, size, options) {
  const isL2 = options.norm === "l2";
  const chosen =
    options.high || Math.max(otsuHigh(magnitude(dx, dy, isL2)), options.min_high);
  // OpenCV compares squares of lengths, as whole numbers. Not `** 2`, which can round otherwise.
  const whole = (limit) => {
    const length = Math.min(limit, 32767);
    return Math.floor(isL2 ? length * length : limit);
  };
  const high = whole(chosen);
  const low = whole(options.low_high_ratio * chosen);
  // With a border of zeros.
  const wide = size + 2;
  const steep = new Int32Array(wide * wide);
  for (let y = 0, i = 0; y < size; y++) {
    for (let x = 0, j = (y + 1) * wide + 1; x < size; x++, i++, j++) {
      steep[j] = isL2 ? dx[i] * dx[i] + dy[i] * dy[i] : Math.abs(dx[i]) + Math.abs(dy[i]);
    }
  }
  // 1: a maximum across the edge, kept if a chain of such leads to one above the high threshold.
  const marks = new Uint8Array(wide * wide);
  const chain = [];
  for (let y = 0, i = 0; y < size; y++) {
    for (let x = 0, j = (y + 1) * wide + 1; x < size; x++, i++, j++) {
      if (steep[j] <= low || !isMaximum(steep, j, wide, dx[i], dy[i])) continue;
      marks[j] = 1;
      if (steep[j] > high) {
        marks[j] = 2;
        chain.push(j);
      }
    }
  }
  const around = [-wide - 1, -wide, -wide + 1, -1, 1, wide - 1, wide, wide + 1];
  while (chain.length > 0) {
    const j = chain.pop();
    for (const step of around) {
      if (marks[j + step] === 1) {
        marks[j + step] = 2;
        chain.push(j + step);
      }
    }
  }
  const out = new Uint8Array(size * size);
  for (let y = 0, i = 0; y < size; y++) {
    for (let x = 0, j = (y + 1) * wide + 1; x < size; x++, i++, j++) {
      if (marks[j] === 2) out[i] = 255;
    }
  }
  return out;
}

/** Whether no neighbour across the edge is steeper; of two equal ones the first counts. */
function isMaximum(steep, j, wide, dx, dy) {
  const x = Math.abs(dx);
  const y = Math.abs(dy) * 32768;
  const flat = x * TAN_22;
  if (y < flat) return steep[j] > steep[j - 1] && steep[j] >= steep[j + 1];
  if (y > flat + x * 65536) return steep[j] > steep[j - wide] && steep[j] >= steep[j + wide];
  const side = (dx ^ dy) < 0 ? -1 : 1;
  return steep[j] > steep[j - wide - side] && steep[j] > steep[j + wide + side];
}
