// The exported step in ONNX Runtime: a frame in, probabilities out, the state fed back. What the
// step takes and gives stands in the JSON beside it; see videorwkv/exporting/describe.py.

import { edgeMap } from "./edges.js";
import { fitFrame } from "./resize.js";
import { sigmoid, softmax } from "./stream.js";

const ARRAYS = {
  float32: Float32Array,
  uint8: Uint8Array,
  int64: BigInt64Array,
  int32: Int32Array,
};
const RUNTIMES = { wasm: "./ort/ort.wasm.min.mjs", webgpu: "./ort/ort.webgpu.min.mjs" };
const MOST_THREADS = 4;
// A step of a smaller model takes a few milliseconds: its threads would wait longer than they work
// (benchmarks/browser.py), and a phone's battery pays for that.
const WORTH_THREADS = 8_000_000; // bytes

export class Recogniser {
  /**
   * @param {ArrayBuffer} file the exported step
   * @param {object} about the JSON beside it
   * @param {"wasm"|"webgpu"} backend which of the two builds of ONNX Runtime
   * @param {number} threads of WebAssembly; 0: as many as are worth it
   */
  static async open(file, about, backend, threads = 0) {
    const ort = await import(RUNTIMES[backend]);
    const canShare = globalThis.crossOriginIsolated === true;
    const cores = globalThis.navigator?.hardwareConcurrency ?? 1;
    const most = about.bytes < WORTH_THREADS ? 1 : Math.min(MOST_THREADS, cores);
    ort.env.wasm.numThreads = canShare ? threads || most : 1;
    ort.env.logLevel = "error";
    const session = await ort.InferenceSession.create(new Uint8Array(file), {
      executionProviders: [backend],
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
    });
    return new Recogniser(ort, session, about, backend);
  }

  constructor(ort, session, about, backend) {
    this.ort = ort;
    this.session = session;
    this.about = about;
    this.backend = backend;
    this.threads = backend === "wasm" ? ort.env.wasm.numThreads : 0;
    this.inputs = new Map(about.inputs.map((port) => [port.name, port]));
    this.reset();
  }

  /** Begin a new stream: a state of zeros. */
  reset() {
    this.state = {};
    for (const { input } of this.about.state) {
      const { dtype, shape } = this.inputs.get(input);
      const size = shape.reduce((a, b) => a * b, 1);
      this.state[input] = new this.ort.Tensor(dtype, new ARRAYS[dtype](size), shape);
    }
  }

  /**
   * One frame, of any size.
   *
   * @param {Uint8ClampedArray} pixels RGBA, [height, width, 4]
   * @returns probabilities of the classes, the square that the model was given, its edges, and the
   *   milliseconds of each step
   */
  async step(pixels, height, width) {
    const { frame, edges } = this.about;
    const began = performance.now();
    const square = fitFrame(pixels, height, width, frame.height, frame.fit);
    const fitted = performance.now();
    const map = edgeMap(square, frame.height, edges.method, edges.options);
    const found = performance.now();
    const feeds = { ...this.state, frame: this.tensor("frame", square) };
    if (this.inputs.has("edges")) feeds.edges = this.tensor("edges", map);
    const outputs = await this.session.run(feeds);
    for (const { input, output } of this.about.state) this.state[input] = outputs[output];
    const milliseconds = {
      resize: fitted - began,
      edges: found - fitted,
      model: performance.now() - found,
    };
    // Of a model for several labels a clip, each class by itself.
    const score = this.about.activation === "sigmoid" ? sigmoid : softmax;
    const temperature = this.about.stream.temperature ?? 1;
    const probabilities = score(Array.from(outputs.logits.data, (x) => x / temperature));
    return { probabilities, square, edges: map, milliseconds };
  }

  tensor(name, data) {
    const { dtype, shape } = this.inputs.get(name);
    return new this.ort.Tensor(dtype, data, shape);
  }

  async close() {
    await this.session.release();
  }
}
