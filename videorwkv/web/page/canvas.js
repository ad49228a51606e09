// What every drawing on a canvas begins with.

/**
 * A canvas emptied, in the pixels of the screen; null where it is not shown.
 * @param {HTMLCanvasElement} canvas
 * @returns {?{pen: CanvasRenderingContext2D, width: number, height: number,
 *   colour: function(string): string}} width and height as CSS counts them; a colour of the style
 *   by its name
 */
export function begin(canvas) {
  const scale = globalThis.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width) return null;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const style = getComputedStyle(canvas);
  pen.font = `12px ${style.fontFamily}`;
  pen.fillStyle = pen.strokeStyle = style.color;
  return { pen, width, height, colour: (name) => style.getPropertyValue(`--${name}`) };
}

/** A line through points [x, y]. */
export function line(pen, points) {
  pen.beginPath();
  points.forEach(([x, y], n) => (n ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
}
