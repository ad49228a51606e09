// Where frames come from: a camera, a video file, or pictures in the order of their names. A source
// calls `onFrame(grab, height, width, time)` at each frame, where `grab()` gives its pixels. If that
// returns a promise, the next frame has to wait for it; a camera can't wait, and gets none.

/** What the errors of a camera mean, by their names. */
export const REASONS = {
  NotAllowedError: "The camera is not allowed here. Allow it in the browser's settings of this page.",
  NotFoundError: "This device has no camera.",
  NotReadableError: "The camera is in use by another program.",
};

const NATURAL = new Intl.Collator("en", { numeric: true });

/** RGBA pixels of whatever a canvas can draw. */
class Grabber {
  constructor() {
    this.canvas = new OffscreenCanvas(1, 1);
  }

  pixels(image, width, height) {
    if (this.canvas.width !== width || this.canvas.height !== height || !this.context) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    }
    this.context.drawImage(image, 0, 0, width, height);
    return this.context.getImageData(0, 0, width, height).data;
  }
}

/** Calls back at each new frame of a <video> with its time in seconds; returns how to end it. */
function eachFrame(video, callback) {
  let isOn = true;
  if (typeof video.requestVideoFrameCallback === "function") {
    const next = (now, frame) => {
      if (!isOn) return;
      callback(frame.mediaTime, now / 1000);
      video.requestVideoFrameCallback(next);
    };
    video.requestVideoFrameCallback(next);
  } else {
    let last = -1;
    const next = (now) => {
      if (!isOn) return;
      if (video.readyState >= 2 && video.currentTime !== last) {
        last = video.currentTime;
        callback(last, now / 1000);
      }
      requestAnimationFrame(next);
    };
    requestAnimationFrame(next);
  }
  return () => {
    isOn = false;
  };
}

/** A camera: frames that come while the model is busy are dropped. */
export class Camera {
  constructor(video, facing) {
    this.video = video;
    this.facing = facing;
    this.isLive = true;
    this.grabber = new Grabber();
  }

  async start(onFrame, onEnd) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error(
        "Browsers give a camera only to pages that came by https, or from this machine.",
      );
    }
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: this.facing },
    });
    const [track] = this.stream.getVideoTracks();
    track.addEventListener("ended", () => onEnd("The camera has gone."));
    // What faces the person is shown as a mirror; the model gets the picture as it is.
    const facing = track.getSettings().facingMode ?? "user";
    this.video.classList.toggle("mirrored", facing === "user");
    this.video.removeAttribute("src"); // of a file that has ended
    this.video.srcObject = this.stream;
    await this.video.play();
    let first = null;
    this.cancel = eachFrame(this.video, (_, now) => {
      first ??= now;
      const { videoWidth: width, videoHeight: height } = this.video;
      const grab = () => this.grabber.pixels(this.video, width, height);
      if (width) onFrame(grab, height, width, now - first);
    });
  }

  stop() {
    this.cancel?.();
    this.stream?.getTracks().forEach((track) => track.stop());
    this.video.srcObject = null;
    this.video.classList.remove("mirrored");
  }
}

/** A video file, played; it pauses where the model is slower, so that no frame is lost. */
export class VideoFile {
  constructor(video, file) {
    this.video = video;
    this.file = file;
    this.isLive = false;
    this.grabber = new Grabber();
  }

  async start(onFrame, onEnd) {
    const { video } = this;
    this.address = URL.createObjectURL(this.file);
    video.src = this.address;
    video.muted = true;
    await new Promise((resolve, reject) => {
      video.onloadeddata = resolve;
      video.onerror = () => {
        const advice = "Try mp4 with H.264, or webm.";
        reject(new Error(`This browser can't read ${this.file.name} as a video. ${advice}`));
      };
    });
    let first = null;
    this.cancel = eachFrame(video, (time) => {
      first ??= time;
      const { videoWidth: width, videoHeight: height } = video;
      const grab = () => this.grabber.pixels(video, width, height);
      const isTaken = onFrame(grab, height, width, time - first);
      if (isTaken === undefined) return;
      video.pause();
      isTaken.then(() => (this.isOver || video.ended ? undefined : video.play())).catch(() => {});
    });
    video.onended = () => onEnd();
    await video.play();
  }

  stop() {
    this.isOver = true;
    this.cancel?.();
    this.video.pause();
    this.video.onended = this.video.onerror = this.video.onloadeddata = null;
    // At its end, the last picture stays, until another source comes.
    if (!this.video.ended) {
      this.video.removeAttribute("src");
      this.video.load();
    }
    URL.revokeObjectURL(this.address);
  }
}

/** Pictures, in the order of their names: frames at the model's own rate, none is lost. */
export class Pictures {
  constructor(canvas, files, fps) {
    this.canvas = canvas;
    this.files = [...files].sort((a, b) => NATURAL.compare(a.name, b.name));
    this.fps = fps;
    this.isLive = false;
    this.grabber = new Grabber();
  }

  async start(onFrame, onEnd) {
    const context = this.canvas.getContext("2d");
    const run = async () => {
      for (const [n, file] of this.files.entries()) {
        if (this.isOver) return;
        // The numbers that stand in the file, not what a screen would make of them.
        const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
        const image = await createImageBitmap(file, options).catch(() => {
          throw new Error(`This browser can't read ${file.name} as a picture.`);
        });
        const { width, height } = image;
        this.canvas.width = width;
        this.canvas.height = height;
        context.drawImage(image, 0, 0);
        const pixels = () => this.grabber.pixels(image, width, height);
        await onFrame(pixels, height, width, n / this.fps);
        image.close();
        // A picture that nobody can see shows nothing.
        await new Promise((resolve) => setTimeout(resolve, 0));
      }
      onEnd();
    };
    run().catch((error) => onEnd(error.message));
  }

  stop() {
    this.isOver = true;
  }
}
