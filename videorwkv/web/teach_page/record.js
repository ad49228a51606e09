// The camera, and clips of it: a countdown, then a red mark while it is recorded.

import { Camera } from "./sources.js";

// The first one that the browser can write: VP8 takes the least time.
const KINDS = ["video/webm;codecs=vp8", "video/webm", "video/mp4"];
const BITS = 2_500_000; // a second

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Recorder {
  /**
   * @param {HTMLVideoElement} video shows the camera
   * @param {(what: object) => void} onChange told of {isOn}, {count}, {share}, {lost}
   */
  constructor(video, onChange) {
    this.video = video;
    this.onChange = onChange;
    this.facing = "user";
    this.camera = null;
    this.isWanted = false;
  }

  /** Start the camera, if it is not on. */
  async open() {
    if (this.camera) return;
    if (!globalThis.MediaRecorder) throw new Error("This browser can't record: add files instead.");
    const camera = new Camera(this.video, this.facing);
    try {
      await camera.start(() => undefined, (text) => {
        this.close();
        this.onChange({ lost: text });
      });
    } catch (error) {
      camera.stop();
      throw error;
    }
    this.camera = camera;
    this.onChange({ isOn: true });
  }

  close() {
    this.cancel();
    this.camera?.stop();
    this.camera = null;
    this.onChange({ isOn: false });
  }

  async turn() {
    this.close();
    this.facing = this.facing === "user" ? "environment" : "user";
    await this.open();
  }

  /** End a row of clips; one that is being recorded is dropped. */
  cancel() {
    this.isWanted = false;
    this.skip?.();
  }

  /**
   * Record clips in a row.
   *
   * @param {number} clips
   * @param {number} seconds of each
   * @param {number} countdown seconds before each
   * @param {(clip: Blob, n: number) => void} onClip
   */
  async row(clips, seconds, countdown, onClip) {
    await this.open();
    this.isWanted = true;
    try {
      for (let n = 1; n <= clips && this.isWanted; n++) {
        for (let left = countdown; left > 0 && this.isWanted; left--) {
          this.onChange({ count: left, n, clips });
          await Promise.race([pause(1000), new Promise((resolve) => (this.skip = resolve))]);
        }
        if (!this.isWanted) return;
        const clip = await this.one(seconds, n, clips);
        if (clip) onClip(clip, n);
      }
    } finally {
      this.isWanted = false;
      this.onChange({ count: 0 });
    }
  }

  /** A clip, or nothing if it was cancelled. */
  one(seconds, n, clips) {
    const mimeType = KINDS.find((kind) => MediaRecorder.isTypeSupported(kind));
    const recorder = new MediaRecorder(this.camera.stream, { mimeType, videoBitsPerSecond: BITS });
    const pieces = [];
    recorder.ondataavailable = ({ data }) => pieces.push(data);
    return new Promise((resolve, reject) => {
      let timer = 0;
      const end = () => {
        clearInterval(timer);
        if (recorder.state !== "inactive") recorder.stop();
      };
      this.skip = end;
      recorder.onerror = ({ error }) => reject(error ?? new Error("The recording failed."));
      recorder.onstop = () => {
        clearInterval(timer);
        resolve(this.isWanted ? new Blob(pieces, { type: mimeType }) : null);
      };
      // Not before: the encoder takes its time to start.
      recorder.onstart = () => {
        const began = performance.now();
        timer = setInterval(() => {
          const share = (performance.now() - began) / (1000 * seconds);
          this.onChange({ share: Math.min(1, share), n, clips });
          if (share >= 1) end();
        }, 50);
      };
      this.onChange({ share: 0, n, clips });
      recorder.start();
    });
  }
}
