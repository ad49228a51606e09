// The page of `videorwkv teach`: classes and clips, a training, and the trained model in a frame.
// What it shows is what the server says (`state`), which looks into the folder each time.

import { address, ask, counted } from "./ask.js";
import { BACKGROUNDS, Card } from "./card.js";
import { drawCurve } from "./curve.js";
import { Recorder } from "./record.js";
import { REASONS } from "./sources.js";

const QUICK = 1000; // milliseconds between two looks while a training runs
const SLOW = 5000;

const at = (id) => document.getElementById(id);

class App {
  constructor() {
    this.cards = new Map(); // name of a class -> its card
    this.state = null;
    this.shown = null; // what the frame shows
    this.recorder = new Recorder(at("video"), (what) => this.heard(what));
    this.listen();
    this.say("");
    this.look();
  }

  listen() {
    at("add").onsubmit = (event) => {
      event.preventDefault();
      this.addClass(at("name").value);
    };
    at("background").onclick = () => this.addClass("background");
    at("camera").onclick = () => {
      if (this.recorder.camera) this.recorder.close();
      else this.tried(() => this.openCamera());
    };
    at("turn").onclick = () => this.tried(() => this.recorder.turn());
    at("stop").onclick = () => this.recorder.cancel();
    at("begin").onclick = () => this.begin();
    at("cancel").onclick = () => this.tried(() => ask("POST", "cancel").then(() => this.look()));
    at("close").onclick = () => at("player").close();
    at("player").onclose = () => this.played(null);
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !at("player").open) this.recorder.cancel();
    });
    // A file that misses its class must not replace this page.
    for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
    addEventListener("resize", () => this.curve());
    addEventListener("pagehide", () => this.recorder.close());
    at("live").onload = () => this.fit();
  }

  /** Fetch the state, now and again. */
  async look() {
    clearTimeout(this.timer);
    try {
      this.state = await ask("GET", "state");
      if (this.isLost) this.say("");
      this.isLost = false;
      this.show();
    } catch (error) {
      this.isLost = true;
      this.say(error.message, true);
    }
    const isBusy = ["training", "exporting"].includes(this.state?.training.phase);
    clearTimeout(this.timer); // another look may have begun meanwhile
    this.timer = setTimeout(() => this.look(), isBusy ? QUICK : SLOW);
  }

  /** Do something; what goes wrong is said. */
  async tried(action, say = (text) => this.say(text, true)) {
    try {
      return await action();
    } catch (error) {
      say(REASONS[error.name] ?? error.message);
      return undefined;
    }
  }

  say(text, isError = false) {
    at("message").textContent = text;
    at("message").classList.toggle("error", isError);
  }

  // -- recording --------------------------------------------------------------------------------

  async openCamera() {
    // Some devices give their camera to one at a time.
    at("live").contentWindow?.videorwkv?.stop();
    await this.recorder.open();
  }

  heard({ isOn, count, share, n, clips, lost }) {
    if (isOn !== undefined) {
      at("stage").classList.toggle("on", isOn);
      at("camera").textContent = isOn ? "Stop camera" : "Start camera";
      at("turn").hidden = !isOn;
    }
    if (lost) this.say(lost, true);
    const isOver = count === 0 || isOn === false;
    at("stop").hidden = !(count || share !== undefined) || isOver;
    at("mark").hidden = at("stop").hidden;
    at("count").textContent = count || "";
    document.body.classList.toggle("recording", share !== undefined && !isOver);
    at("gone").hidden = share === undefined;
    at("gone").style.width = `${100 * (share ?? 0)}%`;
    if (clips === undefined || isOver) return;
    at("mark-text").textContent = count
      ? `${this.target}: clip ${n} of ${clips} in ${count} s`
      : `Recording ${this.target}: clip ${n} of ${clips}`;
  }

  async record(name) {
    if (this.recorder.isWanted) return;
    const card = this.cards.get(name);
    card.say("");
    const [seconds, countdown, clips] = ["seconds", "countdown", "row"].map((id) => Number(at(id).value));
    this.target = name;
    this.enable();
    at("stage").scrollIntoView({ block: "nearest" });
    await this.tried(async () => {
      await this.openCamera();
      await this.recorder.row(clips, seconds, countdown, (clip) => this.upload(name, clip));
    });
    this.target = null;
    this.enable();
    card.element.scrollIntoView({ block: "nearest" });
  }

  async upload(name, clip, called = "The clip") {
    const card = this.cards.get(name);
    const most = this.state.most_bytes;
    card.busy(1);
    await this.tried(
      async () => {
        if (clip.size > most) {
          throw new Error(`${called} has ${Math.round(clip.size / 1e6)} MB; at most ${most / 1e6} MB are taken. Cut it.`);
        }
        // A folder that was dropped, or a file that has gone: not the program's fault, as `ask` would say.
        await (clip.size ? clip.slice(0, 1) : clip).arrayBuffer().catch(() => {
          throw new Error(`${called === "The clip" ? called : "It"} can't be read. Is it a file, and still there?`);
        });
        await ask("POST", address("clips", name), clip);
      },
      (text) => card.say(called === "The clip" ? text : `${called}: ${text}`),
    );
    card.busy(-1);
    await this.look();
  }

  async files(name, files) {
    this.cards.get(name).say("");
    for (const file of files) await this.upload(name, file, file.name);
  }

  // -- classes and clips ------------------------------------------------------------------------

  async addClass(name) {
    const found = await this.tried(() => ask("POST", "classes", JSON.stringify({ name })));
    if (!found) return;
    this.say("");
    at("name").value = "";
    await this.look();
    this.cards.get(found.name)?.element.querySelector(".record").focus();
  }

  show() {
    const { classes, folder, missing, training } = this.state;
    at("folder").textContent = `The clips lie in ${folder}`;
    const names = classes.map(({ name }) => name);
    for (const [name, card] of this.cards) {
      if (names.includes(name)) continue;
      card.element.remove();
      this.cards.delete(name);
    }
    for (const { name, clips } of classes) {
      if (!this.cards.has(name)) this.cards.set(name, new Card(this, name));
      const card = this.cards.get(name);
      card.show(clips);
      at("classes").append(...(card.element.isConnected ? [] : [card.element]));
    }
    at("background-offer").hidden = names.length === 0 || names.some((name) => BACKGROUNDS.includes(name));
    at("missing").replaceChildren(...missing.map(item));
    this.showTraining(training);
    this.enable();
  }

  enable() {
    if (!this.state) return;
    const { missing, training } = this.state;
    const isBusy = ["training", "exporting"].includes(training.phase);
    const isRecording = this.target !== null && this.target !== undefined;
    at("begin").disabled = missing.length > 0 || isBusy || isRecording;
    at("begin").textContent = training.tried ? "Train again" : "Train";
    at("cancel").hidden = !isBusy;
    for (const card of this.cards.values()) card.enable(isRecording, isBusy, this.target);
  }

  play(name, clip, canDelete) {
    at("player-title").textContent = `${name}: ${clip}`;
    at("player-message").textContent = "";
    const isRunning = ["training", "exporting"].includes(this.state.training.phase);
    at("delete").disabled = !canDelete || isRunning;
    at("delete").title = isRunning ? "The training reads the clips." : "";
    at("delete").onclick = () => this.tried(
      async () => {
        await ask("DELETE", address("clips", name, clip));
        at("player").close();
        await this.look();
      },
      (text) => (at("player-message").textContent = text),
    );
    at("player").showModal();
    this.played(address("clips", name, clip));
  }

  /** Show a clip in the player; null: nothing. */
  async played(path) {
    const video = at("played");
    this.playing = path;
    if (video.src) URL.revokeObjectURL(video.src);
    video.onerror = null;
    video.removeAttribute("src");
    video.load();
    if (path === null) return;
    const no = () => {
      at("player-message").textContent = "This browser can't play this clip; training can read it.";
    };
    const answer = await fetch(path).catch(() => null);
    if (this.playing !== path) return;
    if (!answer?.ok) return void no();
    const content = await answer.blob();
    if (this.playing !== path) return;
    video.onerror = no;
    video.src = URL.createObjectURL(content);
    video.play().catch(() => undefined);
  }

  // -- training ---------------------------------------------------------------------------------

  async begin() {
    this.recorder.close(); // it takes time from the training
    at("live").contentWindow?.videorwkv?.stop();
    at("begin").disabled = true;
    await this.tried(() => ask("POST", "train"), (text) => this.sayTraining(text, true));
    await this.look();
  }

  sayTraining(text, isError = false) {
    if (at("train-message").textContent !== text) at("train-message").textContent = text;
    at("train-message").classList.toggle("error", isError);
  }

  showTraining(training) {
    const { phase, step, total, error, run, result } = training;
    const isBusy = phase === "training" || phase === "exporting";
    at("progress").hidden = !isBusy;
    const bar = at("bar");
    if (phase === "training" && step && total && !training.scoring) {
      bar.max = total;
      bar.value = step;
    } else bar.removeAttribute("value");
    at("progress-text").textContent = words(training);
    const texts = {
      idle: "",
      training: "",
      exporting: "",
      done: `Trained. The run lies in ${run}`,
      failed: `The training failed. ${error}`,
      cancelled: step ? `Cancelled after ${counted(step, "step")}, which lie in ${run}` : "Cancelled.",
    };
    this.sayTraining(texts[phase], phase === "failed");
    at("result").replaceChildren(...(result ?? []).map(item));
    this.curve();
    this.showLive(training);
  }

  curve() {
    const training = this.state?.training;
    const points = training?.curve ?? [];
    at("curve-box").hidden = points.length < 2;
    if (points.length < 2) return;
    at("held-key").hidden = training.validations.length === 0;
    const [, loss, accuracy] = points.at(-1);
    const now = `Loss ${loss?.toFixed(2) ?? "not finite"}, accuracy ${Math.round(100 * accuracy)} % after ${training.step} steps`;
    at("curve").setAttribute("aria-label", now);
    drawCurve(at("curve"), points, training.validations, training.total);
  }

  showLive({ tried, run }) {
    at("try").hidden = tried === null;
    at("earlier").hidden = tried === run;
    if (tried === null || tried === this.shown) return;
    this.shown = tried;
    // A relative address: it has the token in it.
    at("live").src = `live/index.html?embedded&run=${encodeURIComponent(tried)}`;
    const quoted = (text) => (/^[\w./~-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
    at("commands").textContent = [
      `videorwkv predict ${quoted(tried)} CLIP.mp4`,
      `videorwkv stream ${quoted(tried)} 0`,
      `videorwkv serve ${quoted(tried)}`,
      `videorwkv train ${quoted(this.state.folder)} --out runs/another`,
    ].join("\n");
  }

  /** The frame is as high as what it shows. */
  fit() {
    const frame = at("live");
    const inner = frame.contentDocument?.body;
    if (!inner || !frame.src) return;
    const set = () => (frame.style.height = `${Math.ceil(inner.getBoundingClientRect().height) + 2}px`);
    this.fitter?.disconnect();
    this.fitter = new frame.contentWindow.ResizeObserver(set);
    this.fitter.observe(inner);
    set();
  }
}

/** How far a training is, in words. */
function words({ phase, step, total, left, scoring, curve }) {
  if (phase === "exporting") return "Writing the page that tries it …";
  if (phase !== "training") return "";
  if (scoring) return "Comparing it with simple rules on the clips held back …";
  if (!step) return "Starting: clips are looked at and decoded …";
  const [, loss, accuracy] = curve.at(-1);
  const parts = [`Step ${step}${total ? ` of ${total}` : ""}`];
  if (loss !== null) parts.push(`loss ${loss.toFixed(2)}`);
  parts.push(`accuracy ${Math.round(100 * accuracy)} %`);
  if (left !== null) parts.push(left < 90 ? `about ${Math.ceil(left)} s left` : `about ${Math.round(left / 60)} min left`);
  return parts.join(", ");
}

function item(text) {
  const row = document.createElement("li");
  row.textContent = text;
  return row;
}

globalThis.videorwkv = new App(); // for a look from the browser's console
