// The running timeline: the scores of the last seconds as lines, and below them a strip of what was
// recognised.

import { begin, line } from "./canvas.js";

// Okabe and Ito's colours, which people with any colour vision tell apart.
const COLOURS = [
  "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a500", "#7f7f7f",
];
const WINDOW = 30; // seconds
const LINES = 6;
const STRIP = 22; // pixels
const MARGIN = { left: 34, right: 8, top: 8, bottom: 20 };

export function colour(k) {
  return COLOURS[k % COLOURS.length];
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {{time: number, scores: Float32Array}[]} frames in the order of their times
 * @param {object[]} segments of stream.js
 * @param {string[]} labels
 * @param {number} threshold
 */
export function draw(canvas, frames, segments, labels, threshold) {
  const sheet = begin(canvas);
  if (!sheet) return;
  const { pen, width, height } = sheet;
  const ink = pen.fillStyle;
  const faint = sheet.colour("line");
  const end = Math.max(frames.at(-1)?.time ?? 0, WINDOW);
  const start = end - WINDOW;
  const bottom = height - MARGIN.bottom - STRIP - 6;
  const x = (time) =>
    MARGIN.left + ((time - start) / WINDOW) * (width - MARGIN.left - MARGIN.right);
  const y = (score) => bottom - score * (bottom - MARGIN.top);

  pen.strokeStyle = faint;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const score of [0, 0.5, 1]) {
    line(pen, [[MARGIN.left, y(score)], [width - MARGIN.right, y(score)]]);
    pen.fillText(score.toFixed(1), MARGIN.left - 6, y(score));
  }
  pen.textAlign = "center";
  pen.textBaseline = "alphabetic";
  for (let time = Math.ceil(start / 5) * 5; time <= end; time += 5) {
    const place = Math.min(Math.max(x(time), MARGIN.left + 8), width - MARGIN.right - 12);
    pen.fillText(`${time} s`, place, height - 5);
  }
  pen.setLineDash([4, 4]);
  pen.strokeStyle = ink;
  pen.globalAlpha = 0.5;
  line(pen, [[MARGIN.left, y(threshold)], [width - MARGIN.right, y(threshold)]]);
  pen.globalAlpha = 1;
  pen.setLineDash([]);

  pen.save();
  pen.beginPath();
  pen.rect(MARGIN.left, 0, width - MARGIN.left - MARGIN.right, height - MARGIN.bottom);
  pen.clip();
  const shown = frames.slice(Math.max(0, frames.findIndex((frame) => frame.time >= start) - 1));
  pen.lineWidth = 2;
  pen.lineJoin = "round";
  for (const k of strongest(shown, labels.length)) {
    pen.strokeStyle = colour(k);
    line(pen, shown.map((frame) => [x(frame.time), y(frame.scores[k])]));
  }
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  const top = bottom + 6;
  pen.fillStyle = faint;
  pen.fillRect(MARGIN.left, top, width, STRIP);
  for (const segment of segments) {
    if (segment.end < start) continue;
    const from = Math.max(x(segment.start), MARGIN.left);
    const length = Math.max(x(segment.end) - from, 2);
    pen.fillStyle = colour(segment.label);
    pen.fillRect(from, top, length, STRIP);
    const text = labels[segment.label];
    if (pen.measureText(text).width + 8 < length) {
      pen.fillStyle = "#fff";
      pen.shadowColor = "#000";
      pen.shadowBlur = 3;
      pen.fillText(text, from + 4, top + STRIP / 2);
      pen.shadowBlur = 0;
    }
  }
  pen.restore();
}

/** The classes with the largest scores in view. */
function strongest(frames, count) {
  const best = new Float32Array(count);
  for (const { scores } of frames) {
    for (let k = 0; k < count; k++) if (scores[k] > best[k]) best[k] = scores[k];
  }
  return [...best.keys()].sort((a, b) => best[b] - best[a]).slice(0, LINES).reverse();
}
