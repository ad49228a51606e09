// From the times and probabilities of frames to what is said about them: `videorwkv stream` in
// JavaScript (videorwkv/inference/stream.py and pacing.py), in seconds. Nothing here knows a browser.

/** Which frames of a source are due at a rate, as `paced` in pacing.py. */
export class Pace {
  constructor(fps, gap) {
    this.fps = fps;
    this.gap = gap;
    this.tick = -1;
    this.last = 0;
    this.steps = [];
    this.isFirst = true;
  }

  /** Whether the frame of this time is due, and whether the source paused before it. */
  next(time) {
    const step = time - this.last;
    // Half a frame of slack: the nearest frame is due, not the first one past its time.
    const slack = Math.min(step, 1 / this.fps) / 2;
    const now = this.isFirst ? 0 : Math.ceil((time + slack) * this.fps) - 1;
    // A source may be slower than that by nature: time lapse, a camera at night.
    const isUsual = this.steps.length > 0 && step <= 3 * median(this.steps);
    const paused = step > this.gap && !isUsual;
    this.last = time;
    if (!this.isFirst) this.steps = [...this.steps.slice(-4), step];
    this.isFirst = false;
    if (now <= this.tick && !paused) return { due: false, paused: false };
    this.tick = Math.max(now, this.tick);
    return { due: true, paused };
  }
}

/** Probabilities smoothed over time, and the label by threshold and hysteresis. */
export class Naming {
  constructor(options) {
    this.options = options; // threshold, smooth, background (numbers of classes never named)
    this.reset();
  }

  /** Forget all that came before. */
  reset() {
    this.scores = null;
    this.label = null;
    this.last = 0;
  }

  /** The probabilities of a frame -> the smoothed scores and the label's number or null. */
  next(time, probabilities) {
    const { threshold, smooth, background = [] } = this.options;
    if (this.scores === null || smooth === 0) this.scores = Float32Array.from(probabilities);
    else {
      const share = Math.fround(-Math.expm1(-(time - this.last) / smooth));
      this.scores = this.scores.map((old, k) => old + share * (probabilities[k] - old));
    }
    this.last = time;
    const best = largest(this.scores);
    const stays = this.label !== null && this.scores[this.label] >= threshold / 2;
    if (this.scores[best] >= threshold) this.label = background.includes(best) ? null : best;
    else if (!stays) this.label = null;
    return { scores: this.scores, label: this.label };
  }
}

/** When each action began and ended. */
export class Segments {
  constructor() {
    this.list = []; // {label, start, end, score}: score is the largest one
  }

  /** A frame's label (a number or null) and its score. */
  add(time, label, score, isNew) {
    const open = this.list.at(-1);
    const goes = open !== undefined && open.isOpen;
    if (goes) open.end = time;
    if (goes && (open.label !== label || isNew)) open.isOpen = false;
    if (label === null) return;
    if (goes && open.isOpen) open.score = Math.max(open.score, score);
    else this.list.push({ label, start: time, end: time, score, isOpen: true });
  }
}

export function softmax(logits) {
  const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = Array.from(logits, (x) => Math.exp(x - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return Float32Array.from(powers, (x) => x / sum);
}

export function sigmoid(logits) {
  return Float32Array.from(logits, (x) => 1 / (1 + Math.exp(-x)));
}

/** The number of the first of the largest values. */
export function largest(values) {
  let best = 0;
  for (let k = 1; k < values.length; k++) if (values[k] > values[best]) best = k;
  return best;
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** 61.25 -> "1:01.3". */
export function clock(seconds) {
  const tenths = Math.max(0, Math.round(seconds * 10));
  const rest = (tenths % 600) / 10;
  return `${Math.floor(tenths / 600)}:${rest < 10 ? "0" : ""}${rest.toFixed(1)}`;
}
