import { address, ask, counted } from "./ask.js";

/** Classes that are learnt and never named (videorwkv/data/background.py). */
export const BACKGROUNDS = ["background", "none"];

/** A class: its name, its clips, and what can be done with it. */
export class Card {
  constructor(app, name) {
    this.app = app;
    this.name = name;
    this.uploads = 0;
    this.clips = new Map();
    this.element = document.createElement("li");
    this.element.className = "class";
    const title = document.createElement("h3");
    this.count = document.createElement("span");
    this.count.className = "count";
    title.append(name, " ", this.count);
    this.grid = document.createElement("div");
    this.grid.className = "clips";
    this.note = document.createElement("p");
    this.note.className = "note error";
    this.note.setAttribute("role", "status");
    this.element.append(title, this.buttons(), this.note, this.grid);
    this.drop();
  }

  buttons() {
    const row = document.createElement("div");
    row.className = "controls";
    const button = (text, kind, action) => {
      const one = document.createElement("button");
      one.textContent = text;
      one.className = kind;
      one.setAttribute("aria-label", `${text} ${this.name}`);
      one.onclick = action;
      row.append(one);
      return one;
    };
    const chosen = document.createElement("input");
    Object.assign(chosen, { type: "file", accept: "video/*", multiple: true, hidden: true });
    chosen.onchange = () => {
      this.app.files(this.name, [...chosen.files]);
      chosen.value = ""; // so that the same file can be chosen again
    };
    this.recordButton = button("Record", "record", () => this.app.record(this.name));
    button("Add files …", "files", () => chosen.click());
    this.removeButton = button("Remove", "remove", () => this.app.tried(
      () => ask("DELETE", address("classes", this.name)).then(() => this.app.look()),
      (text) => this.say(text),
    ));
    row.append(chosen);
    return row;
  }

  drop() {
    const { element } = this;
    element.ondragenter = element.ondragover = () => element.classList.add("aimed");
    element.ondragleave = (event) => {
      if (!element.contains(event.relatedTarget)) element.classList.remove("aimed");
    };
    element.ondrop = (event) => {
      element.classList.remove("aimed");
      this.app.files(this.name, [...event.dataTransfer.files]);
    };
  }

  say(text) {
    this.note.textContent = text;
  }

  busy(change) {
    this.uploads += change;
    this.counts();
  }

  counts() {
    const { size } = this.clips;
    const { fewest, enough } = this.app.state;
    const more = size >= fewest && size < enough ? `, ${enough} or more are better` : "";
    const never = BACKGROUNDS.includes(this.name) ? "never named, " : "";
    this.count.textContent = `${never}${counted(size, "clip")}${more}${this.uploads ? ", reading …" : ""}`;
  }

  show(clips) {
    const names = clips.map(([clip]) => clip);
    for (const [clip, thumb] of this.clips) {
      if (names.includes(clip)) continue;
      thumb.remove();
      this.clips.delete(clip);
    }
    for (const [clip, canDelete] of clips) {
      if (this.clips.has(clip)) continue;
      const thumb = this.thumb(clip, canDelete);
      this.clips.set(clip, thumb);
      this.grid.append(thumb);
    }
    this.removeButton.hidden = this.clips.size > 0;
    this.counts();
  }

  thumb(clip, canDelete) {
    const one = document.createElement("button");
    const picture = document.createElement("img");
    picture.loading = "lazy";
    picture.alt = `Play ${clip}`;
    picture.onerror = () => {
      picture.alt = `${clip} can't be read`;
      picture.removeAttribute("src");
    };
    picture.src = address("pictures", this.name, clip);
    one.append(picture);
    one.title = clip;
    one.onclick = () => this.app.play(this.name, clip, canDelete);
    return one;
  }

  enable(isRecording, isBusy, target) {
    this.recordButton.disabled = isRecording || isBusy;
    this.element.classList.toggle("target", isRecording && target === this.name);
  }
}
