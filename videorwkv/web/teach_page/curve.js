// The curves of a training: the loss by the axis on the left, accuracies by that on the right.

import { begin, line } from "./canvas.js";

const MARGIN = { left: 40, right: 44, top: 10, bottom: 22 };

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number[][]} points [step, loss or null, accuracy], in their order
 * @param {number[][]} validations [step, accuracy]
 * @param {number|null} total steps of the whole training
 */
export function drawCurve(canvas, points, validations, total) {
  const sheet = begin(canvas);
  if (!sheet) return;
  const { pen, width, height, colour } = sheet;

  const most = total ?? points.at(-1)?.[0] ?? 1;
  const losses = points.map(([, loss]) => loss).filter((loss) => loss !== null);
  const top = Math.max(0.1, ...losses) * 1.05;
  const [right, bottom] = [width - MARGIN.right, height - MARGIN.bottom];
  const x = (step) => MARGIN.left + (step / most) * (right - MARGIN.left);
  const y = (share) => bottom - share * (bottom - MARGIN.top);

  pen.strokeStyle = colour("line");
  pen.textBaseline = "middle";
  for (const share of [0, 0.5, 1]) {
    line(pen, [[MARGIN.left, y(share)], [right, y(share)]]);
    pen.textAlign = "right";
    pen.fillText((share * top).toFixed(1), MARGIN.left - 6, y(share));
    pen.textAlign = "left";
    pen.fillText(`${100 * share} %`, right + 6, y(share));
  }
  pen.textBaseline = "alphabetic";
  pen.textAlign = "center";
  pen.fillText("steps", (MARGIN.left + right) / 2, height - 5);
  pen.textAlign = "left";
  pen.fillText("0", MARGIN.left, height - 5);
  pen.textAlign = "right";
  pen.fillText(String(most), right, height - 5);

  pen.lineWidth = 2;
  pen.lineJoin = "round";
  pen.strokeStyle = colour("loss");
  line(pen, points.filter(([, loss]) => loss !== null).map(([step, loss]) => [x(step), y(loss / top)]));
  pen.strokeStyle = colour("accuracy");
  line(pen, points.map(([step, , accuracy]) => [x(step), y(accuracy)]));
  pen.strokeStyle = pen.fillStyle = colour("held");
  const held = validations.map(([step, accuracy]) => [x(step), y(accuracy)]);
  line(pen, held);
  for (const [left, up] of held) {
    pen.beginPath();
    pen.arc(left, up, 4, 0, 2 * Math.PI);
    pen.fill();
  }
}
