// The page: what a person presses, and what they see. The recogniser runs in worker.js.

import { colour, draw } from "./chart.js";
import { Camera, Pictures, REASONS, VideoFile } from "./sources.js";
import { clock, largest, median, Naming, Pace, Segments } from "./stream.js";

const BARS = 8;
// What is kept for the timeline and for saving: a stream may run for days.
const MOST_NUMBERS = 2_000_000;
const MOST_SEGMENTS = 5_000;
const LISTED = 50;
const RECENT = 30; // frames that the figures are taken over

const at = (id) => document.getElementById(id);

/** One source from its start to its end: which frames go to the worker, and what came back. */
class Session {
  constructor(app, source) {
    const { stream } = app.about;
    this.app = app;
    this.source = source;
    this.pace = new Pace(app.options.fps, stream.gap);
    this.naming = new Naming(app.options);
    this.segments = new Segments();
    this.frames = [];
    this.recent = [];
    this.dropped = this.count = 0;
    this.began = 0; // when the state was last reset
    this.isBusy = this.isOver = false;
    this.waiting = null;
  }

  /** A frame of the source; a promise where the source has to wait until it is taken. */
  offer(grab, height, width, time) {
    if (this.isOver) return undefined;
    const { due, paused } = this.pace.next(time);
    if (!due) return undefined;
    const job = { pixels: grab(), height, width, time, paused };
    if (!this.isBusy) {
      this.submit(job);
      return undefined;
    }
    if (this.source.isLive) {
      // The newest frame waits; one that it replaces is lost.
      if (this.waiting) {
        this.dropped += 1;
        job.paused ||= this.waiting.paused;
      }
      this.waiting = job;
      return undefined;
    }
    return new Promise((taken) => {
      this.waiting = { ...job, taken };
    });
  }

  submit(job) {
    const life = this.app.about.stream.reset_every;
    const { fps } = this.pace;
    // Half a frame early: times are rounded, and the nearest frame is meant.
    const isOld = life !== null && job.time - this.began >= life - 0.5 / fps;
    job.reset = this.count === 0 || job.paused || isOld;
    if (job.reset) {
      this.naming.reset();
      this.began = job.time;
    }
    this.count += 1;
    this.isBusy = true;
    this.job = job;
    job.sent = performance.now();
    const { pixels, height, width, reset } = job;
    const message = { do: "frame", id: this.app.number, pixels: pixels.buffer, height, width, reset };
    this.app.worker.postMessage(message, [pixels.buffer]);
  }

  /** The worker's answer. */
  answer(found) {
    const { time, reset } = this.job;
    const { scores, label } = this.naming.next(time, found.probabilities);
    const best = label ?? largest(scores);
    this.segments.add(time, label, scores[best], reset);
    const { probabilities, milliseconds } = found;
    this.frames.push({ time, label, probabilities, scores, milliseconds });
    const most = Math.ceil(MOST_NUMBERS / (2 * scores.length));
    if (this.frames.length > most) this.frames.splice(0, this.frames.length - most);
    if (this.segments.list.length > MOST_SEGMENTS) this.segments.list.shift();
    this.recent = [...this.recent.slice(1 - RECENT), { milliseconds, at: performance.now() }];
    this.isBusy = false;
    const next = this.waiting;
    this.waiting = null;
    if (next) {
      this.submit(next);
      next.taken?.();
    } else if (this.isEnding) this.over();
  }

  /** The source has no more frames; the last ones are waited for. */
  end(text) {
    this.text = text;
    this.isEnding = true;
    if (!this.isBusy) this.over();
  }

  over() {
    if (this.isOver) return;
    this.isOver = true;
    this.source.stop();
    this.app.ended(this.text);
  }

  /** What is saved: every frame that is kept, and what was recognised when. */
  results() {
    const { about, site } = this.app;
    const { labels } = about;
    const round = (values) => Array.from(values, (x) => Number(x.toFixed(6)));
    return {
      title: site.title,
      labels,
      model: about.weights_sha256,
      backend: this.app.backend,
      fps: this.pace.fps,
      dropped: this.dropped,
      segments: this.segments.list.map(({ label, start, end, score }) => ({
        start,
        end,
        label: labels[label],
        score: Number(score.toFixed(6)),
      })),
      frames: this.frames.map((frame) => ({
        time: frame.time,
        label: frame.label === null ? null : labels[frame.label],
        probabilities: round(frame.probabilities),
        scores: round(frame.scores),
        milliseconds: frame.milliseconds,
      })),
    };
  }
}

class App {
  constructor() {
    this.number = 0; // of the session: answers to an older one are dropped
    this.session = null;
    this.facing = "user";
    const asked = new URLSearchParams(location.search);
    at("backend").value = asked.get("backend") ?? "auto";
    if (at("backend").selectedIndex < 0) at("backend").value = "auto";
    // In a frame of another page, which says the rest.
    document.body.classList.toggle("embedded", asked.has("embedded"));
    this.threads = Math.max(0, Math.floor(Number(asked.get("threads")) || 0));
    this.listen();
    this.open();
  }

  /** Start the worker, which loads the model. */
  open() {
    this.stop();
    this.about = null;
    this.worker?.terminate();
    document.body.dataset.state = "loading";
    this.enable();
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.heard(data);
    this.worker.onerror = (event) => this.failed(event.message || "The worker did not start.");
    const { threads } = this;
    this.worker.postMessage({ do: "open", backend: at("backend").value, threads });
  }

  heard(data) {
    if (data.is === "progress") this.say(`${data.text} …`);
    if (data.is === "error") this.failed(data.text);
    if (data.is === "ready") this.ready(data);
    if (data.is === "result" && data.id === this.number && this.session) {
      this.session.answer(data);
      this.show(data);
    }
  }

  ready({ site, about, backend, threads, notes }) {
    Object.assign(this, { site, about, backend });
    const { stream, labels } = about;
    const { threshold, smooth, fps, background } = stream;
    this.options = { threshold, smooth, fps, background };
    at("threshold").value = threshold;
    at("smooth").value = smooth;
    at("fps-wanted").value = Number(fps.toFixed(3));
    document.title = `${site.title}: live action recognition`;
    at("title").textContent = site.title;
    const named = labels.slice(0, 12).join(", ") + (labels.length > 12 ? ", …" : "");
    at("classes").textContent = `It tells ${labels.length} classes apart: ${named}.`;
    at("square").width = at("square").height = about.frame.height;
    at("edges").width = at("edges").height = about.frame.height;
    at("edges-box").hidden = at("edges-time").hidden = about.edges.method === "none";
    at("edges-name").textContent = `its edges (${about.edges.method})`;
    const where = backend === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}`;
    at("where").textContent = where;
    at("notes").textContent = [...stream.notes, ...notes].map(sentence).join(" ");
    this.bars();
    this.changed();
    document.body.dataset.state = "ready";
    this.enable();
    this.say("Ready. Start the camera, or open a video.");
  }

  listen() {
    at("camera").onclick = () => this.start(new Camera(at("video"), this.facing), at("video"));
    at("turn").onclick = () => {
      this.facing = this.facing === "user" ? "environment" : "user";
      at("camera").onclick();
    };
    at("open").onclick = () => at("files").click();
    at("files").onchange = () => {
      this.files([...at("files").files]);
      at("files").value = ""; // so that the same file can be chosen again
    };
    at("stop").onclick = () => this.stop();
    at("save").onclick = () => this.save();
    at("backend").onchange = () => this.open();
    for (const id of ["threshold", "smooth"]) at(id).oninput = () => this.changed();
    at("fps-wanted").onchange = () => this.changed();
    const stage = at("stage");
    for (const kind of ["dragenter", "dragover"]) {
      document.addEventListener(kind, (event) => {
        event.preventDefault();
        stage.classList.add("aimed");
      });
    }
    for (const kind of ["dragleave", "drop"]) {
      document.addEventListener(kind, (event) => {
        event.preventDefault();
        if (kind === "drop" || event.relatedTarget === null) stage.classList.remove("aimed");
      });
    }
    document.addEventListener("drop", (event) => this.files([...event.dataTransfer.files]));
    addEventListener("resize", () => this.chart());
    addEventListener("pagehide", () => this.stop());
  }

  changed() {
    if (!this.options) return;
    this.options.threshold = Number(at("threshold").value);
    this.options.smooth = Number(at("smooth").value);
    const fps = Number(at("fps-wanted").value);
    // What was left as it is stays so to the last digit.
    if (fps > 0 && Math.abs(fps - this.options.fps) > 0.001) {
      this.options.fps = fps;
      this.stop(); // a stream has one rate
    }
    at("threshold-value").textContent = this.options.threshold.toFixed(2);
    at("smooth-value").textContent = `${this.options.smooth.toFixed(1)} s`;
    this.chart();
  }

  files(files) {
    if (!this.about || files.length === 0) return;
    const pictures = files.filter((file) => file.type.startsWith("image/") && file.type !== "image/gif");
    if (pictures.length > 0 && pictures.length === files.length) {
      this.start(new Pictures(at("picture"), pictures, this.options.fps), at("picture"));
    } else if (files.length === 1) this.start(new VideoFile(at("video"), files[0]), at("video"));
    else this.say("Give one video, or several pictures, which are taken as its frames.", true);
  }

  async start(source, screen) {
    if (!this.about) return;
    this.stop();
    const session = new Session(this, source);
    this.session = session;
    this.number += 1;
    at("video").hidden = screen !== at("video");
    at("picture").hidden = screen !== at("picture");
    document.body.dataset.state = "running";
    this.enable();
    this.say(source.isLive ? "Waiting for the camera …" : "");
    at("segments").replaceChildren();
    try {
      await source.start(
        (...frame) => session.offer(...frame),
        (text) => session.end(text),
      );
      if (!session.isOver) this.say("");
    } catch (error) {
      session.end(REASONS[error.name] ?? error.message);
    }
  }

  stop() {
    this.session?.over();
  }

  ended(text) {
    document.body.dataset.state = "ended";
    this.enable();
    const { count } = this.session;
    this.say(text ?? `Ended after ${count} frame${count === 1 ? "" : "s"}.`, text !== undefined);
    this.chart();
  }

  failed(text) {
    this.stop(); // no answer will come any more, and a camera must not stay on
    document.body.dataset.state = "failed";
    this.enable();
    this.say(text, true);
  }

  enable() {
    const { state } = document.body.dataset;
    const isReady = this.about !== null && this.about !== undefined && state !== "failed";
    for (const id of ["camera", "open"]) at(id).disabled = !isReady;
    at("stop").hidden = state !== "running";
    at("turn").hidden = !(state === "running" && this.session?.source instanceof Camera);
    at("save").disabled = !(this.session?.frames.length > 0);
    at("backend").disabled = state === "loading";
  }

  say(text, isError = false) {
    at("message").textContent = text;
    at("message").classList.toggle("error", isError);
  }

  bars() {
    const rows = Array.from({ length: Math.min(BARS, this.about.labels.length) }, () => {
      const row = document.createElement("li");
      row.append(...["name", "value", "bar"].map((name) => {
        const part = document.createElement("span");
        part.className = name;
        return part;
      }));
      return row;
    });
    at("bars").replaceChildren(...rows);
    this.fill(new Float32Array(this.about.labels.length));
  }

  /** With few classes each keeps its place; of many the best are shown. */
  fill(scores) {
    const { labels } = this.about;
    const order = [...labels.keys()];
    if (labels.length > BARS) order.sort((a, b) => scores[b] - scores[a]);
    [...at("bars").children].forEach((row, n) => {
      const k = order[n];
      const [name, value, bar] = row.children;
      name.textContent = labels[k];
      value.textContent = scores[k].toFixed(2);
      bar.style.width = `${100 * scores[k]}%`;
      bar.style.background = colour(k);
      row.classList.toggle("best", k === this.session?.frames.at(-1)?.label);
    });
  }

  show({ square, edges }) {
    const { session } = this;
    const { time, label, scores } = session.frames.at(-1);
    at("label").textContent = label === null ? "(no class)" : this.about.labels[label];
    at("label").classList.toggle("none", label === null);
    at("time").textContent = clock(time);
    this.fill(scores);
    paint(at("square"), square, 3);
    if (this.about.edges.method !== "none") paint(at("edges"), edges, 1);
    const took = (step) => `${median(session.recent.map((x) => x.milliseconds[step])).toFixed(1)} ms`;
    for (const step of ["resize", "edges", "model"]) at(`ms-${step}`).textContent = took(step);
    const [first, last] = [session.recent[0].at, session.recent.at(-1).at];
    const rate = (1000 * (session.recent.length - 1)) / (last - first);
    at("fps").textContent = session.recent.length > 1 ? rate.toFixed(1) : "–";
    at("dropped").textContent = String(session.dropped);
    at("save").disabled = false;
    this.list();
    this.chart();
  }

  list() {
    const rows = this.session.segments.list.slice(-LISTED).reverse();
    at("segments").replaceChildren(...rows.map(({ label, start, end, score }) => {
      const row = document.createElement("li");
      const dot = document.createElement("i");
      dot.style.background = colour(label);
      const name = document.createElement("b");
      name.textContent = this.about.labels[label];
      row.append(dot, `${clock(start)} – ${clock(end)} `, name, ` ${score.toFixed(2)}`);
      return row;
    }));
  }

  chart() {
    if (!this.about) return;
    const frames = this.session?.frames ?? [];
    const segments = this.session?.segments.list ?? [];
    draw(at("chart"), frames, segments, this.about.labels, this.options.threshold);
  }

  save() {
    const text = JSON.stringify(this.session.results());
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "timeline.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

/** Bytes of one or three channels into a canvas. */
function paint(canvas, bytes, channels) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const { data } = image;
  for (let i = 0, j = 0; i < data.length; i += 4, j += channels) {
    data[i] = bytes[j];
    data[i + 1] = bytes[j + (channels === 3 ? 1 : 0)];
    data[i + 2] = bytes[j + (channels === 3 ? 2 : 0)];
    data[i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

globalThis.videorwkv = new App(); // for a look from the browser's console
