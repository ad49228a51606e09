// The recogniser in a thread of its own, so that the page answers while a frame is worked on.
// In: {do: "open", backend, threads}, then {do: "frame", ...} for each.
// Out: {is: "progress" | "ready" | "result" | "error", ...}.

import { Recogniser } from "./recogniser.js";
import { median } from "./stream.js";

// Frames that tell which backend is faster, after as many that warm it up.
const TRIAL = 8;
// Probabilities that are further from those of WebAssembly than this are wrong: there are graphics
// drivers, and operations of the runtime on them, that compute something else.
const AGREEMENT = 1e-3;

let recogniser;

self.onmessage = async ({ data }) => {
  try {
    if (data.do === "open") await open(data);
    else await frame(data);
  } catch (error) {
    self.postMessage({ is: "error", id: data.id, text: String(error?.message ?? error) });
  }
};

async function open({ backend, threads: wanted }) {
  const say = (text) => self.postMessage({ is: "progress", text });
  say("Loading the model");
  const site = await (await fetched("./site.json")).json();
  const about = await (await fetched(`./${site.model}.json`)).json();
  const file = await (await fetched(`./${site.model}`)).arrayBuffer();
  say("Starting ONNX Runtime");
  const notes = [];
  const hasGpu = backend !== "wasm" && (await hasAdapter());
  if (backend === "webgpu" && !hasGpu) throw new Error("This browser offers no WebGPU.");
  let wasm = null;
  if (backend !== "webgpu") {
    recogniser = await Recogniser.open(file, about, "wasm", wanted);
    wasm = await tried(recogniser);
  }
  if (hasGpu) {
    say("Trying WebGPU");
    try {
      const other = await Recogniser.open(file, about, "webgpu");
      const gpu = await tried(other);
      notes.push(...(await chosen(other, gpu, wasm)));
    } catch (error) {
      if (backend === "webgpu") throw error;
      notes.push(`WebGPU failed (${error?.message ?? error})`);
    }
  }
  recogniser.reset();
  const { threads } = recogniser;
  self.postMessage({ is: "ready", site, about, backend: recogniser.backend, threads, notes });
}

/** Keep the faster of the two, if they agree; what is worth knowing about it. */
async function chosen(other, gpu, wasm) {
  if (wasm === null) {
    recogniser = other;
    return [];
  }
  const times = `WebGPU ${gpu.ms.toFixed(1)} ms a frame, WebAssembly ${wasm.ms.toFixed(1)} ms`;
  const apart = Math.max(...gpu.found.map((p, k) => Math.abs(p - wasm.found[k])));
  const agrees = apart <= AGREEMENT;
  const [kept, left] = agrees && gpu.ms < wasm.ms ? [other, recogniser] : [recogniser, other];
  recogniser = kept;
  await left.close();
  return agrees ? [times] : [`WebGPU gives other numbers here (by ${apart.toFixed(4)})`];
}

async function hasAdapter() {
  try {
    return Boolean(await navigator.gpu?.requestAdapter());
  } catch {
    return false;
  }
}

/** The median time of a step in milliseconds, and all probabilities, on a picture that moves. */
async function tried(one) {
  const { height, width } = one.about.frame;
  const times = [];
  const found = [];
  for (let n = 0; n < 2 * TRIAL; n++) {
    const pixels = new Uint8ClampedArray(height * width * 4);
    for (let i = 0; i < pixels.length; i++) pixels[i] = (i * 7 + n * 40) % 251;
    const { probabilities, milliseconds } = await one.step(pixels, height, width);
    found.push(...probabilities);
    if (n >= TRIAL) times.push(milliseconds.model);
  }
  one.reset();
  return { ms: median(times), found };
}

async function frame({ id, pixels, height, width, reset }) {
  if (reset) recogniser.reset();
  const found = await recogniser.step(new Uint8ClampedArray(pixels), height, width);
  const { probabilities, square, edges, milliseconds } = found;
  self.postMessage(
    { is: "result", id, probabilities, square, edges, milliseconds },
    [probabilities.buffer, edges.buffer],
  );
}

async function fetched(address) {
  const answer = await fetch(new URL(address, import.meta.url));
  if (!answer.ok) throw new Error(`${address} is missing on this server (${answer.status}).`);
  return answer;
}
