// What a source in the browser captures: devices, remedies, level.

const WORDS = {
  camera: { thing: "camera", video: "videoinput", audio: "audioinput" },
  microphone: { thing: "microphone", audio: "audioinput" },
  screen: { thing: "screen" },
};

// Why a device could not be opened, and what to do, in one sentence.
function remedy(error, thing) {
  const said = {
    NotAllowedError: /permissions policy|feature policy/i.test(error.message)
      ? `This page may not use the ${thing}: open the notebook in a browser tab of its own.`
      : thing === "screen"
        ? "Nothing was shared: press Start again and choose a screen, window or tab."
        : `The browser refuses the ${thing}: allow it at the left end of the address bar, then press Start again.`,
    NotFoundError: `There is no ${thing} here: plug one in, then press Start again.`,
    NotReadableError: `Another program uses the ${thing}: close it there, then press Start again.`,
    OverconstrainedError: `No ${thing} here can do what was asked for: choose another size or device.`,
    InvalidStateError: "The browser wants a click first: press Start.",
    Named: error.message,
  }[error.name];
  return said ?? `The ${thing} did not start (${error.name}: ${error.message}): press Start again.`;
}

function insecure(thing) {
  if (!globalThis.isSecureContext) {
    return `Browsers give the ${thing} to secure pages only: open the notebook over https, or as http://localhost (through an SSH tunnel).`;
  }
  if (!navigator.mediaDevices) return `This browser gives no ${thing} to this page: open the notebook in a browser tab of its own.`;
  return "";
}

// What is captured: one stream whose tracks may be replaced while it runs.
class Capture {
  constructor(ask, changed) {
    this.ask = ask;
    this.changed = changed;
    this.words = WORDS[ask.kind];
    this.stream = null;
    this.chosen = {};
  }

  wants(kind) {
    return this.ask.tracks.includes(kind);
  }

  constraints(kind) {
    const { ask, chosen } = this;
    const device = chosen[kind] ? { deviceId: { exact: chosen[kind] } } : {};
    if (kind === "audio") return { ...device, echoCancellation: ask.voice, noiseSuppression: ask.voice, autoGainControl: ask.voice };
    const [width, height] = ask.size ?? [];
    const size = ask.kind === "screen" ? { width: width && { max: width }, height: height && { max: height } } : { width: { ideal: width }, height: { ideal: height } };
    return { ...device, ...JSON.parse(JSON.stringify(size)), frameRate: ask.kind === "screen" ? { max: ask.rate } : { ideal: ask.rate } };
  }

  async open(kinds) {
    const wanted = Object.fromEntries(kinds.map((kind) => [kind, this.constraints(kind)]));
    return this.ask.kind === "screen" ? navigator.mediaDevices.getDisplayMedia(wanted) : navigator.mediaDevices.getUserMedia(wanted);
  }

  async start() {
    let stream = await this.open(this.ask.tracks);
    try {
      const { device, kind } = this.ask;
      const main = kind === "microphone" ? "audio" : "video";
      if (device && !this.chosen[main]) {
        const found = await this.named(device, main);
        if (stream.getTracks().find((track) => track.kind === main).getSettings().deviceId !== found.deviceId) {
          stream.getTracks().forEach((track) => track.stop());
          this.chosen[main] = found.deviceId;
          stream = await this.open(this.ask.tracks);
        }
      }
    } catch (error) {
      stream.getTracks().forEach((track) => track.stop());
      throw error;
    }
    this.stream = stream;
    stream.getTracks().forEach((track) => this.mind(track));
  }

  async named(text, main) {
    const all = (await navigator.mediaDevices.enumerateDevices()).filter((each) => each.kind === this.words[main]);
    const found = all.find((each) => each.label.toLowerCase().includes(text.toLowerCase()));
    if (found) return found;
    const there = all.map((each) => each.label).join(", ") || "none";
    throw Object.assign(new Error(`No ${this.words.thing} is called "${text}" (there are: ${there}): change device=.`), { name: "Named" });
  }

  mind(track) {
    if (this.ask.kind === "screen" && track.kind === "video") track.contentHint = "detail";
    track.onended = () => this.changed("ended", track);
  }

  // Another device in the place of the one before; returns the new track.
  async choose(kind, deviceId) {
    const before = this.track(kind);
    this.chosen[kind] = deviceId;
    let stream;
    try {
      stream = await this.open([kind]);
    } catch (error) {
      if (error.name !== "NotReadableError" || !before) throw error;
      before.stop(); // a phone opens one camera at a time
      stream = await this.open([kind]);
    }
    const [track] = stream.getTracks();
    track.enabled = before?.enabled ?? true;
    if (before) {
      before.stop();
      this.stream.removeTrack(before);
    }
    this.stream.addTrack(track);
    this.mind(track);
    return track;
  }

  track(kind) {
    return this.stream?.getTracks().find((track) => track.kind === kind);
  }

  stop() {
    this.stream?.getTracks().forEach((track) => {
      track.onended = null;
      track.stop();
    });
    this.stream = null;
  }
}

// How loud a track is: root mean square, 0 to 1.
class Meter {
  constructor(track) {
    this.context = new AudioContext();
    this.analyser = this.context.createAnalyser();
    this.analyser.fftSize = 1024;
    this.context.createMediaStreamSource(new MediaStream([track])).connect(this.analyser);
    this.samples = new Float32Array(this.analyser.fftSize);
  }

  level() {
    this.analyser.getFloatTimeDomainData(this.samples);
    return Math.sqrt(this.samples.reduce((sum, sample) => sum + sample * sample, 0) / this.samples.length);
  }

  close() {
    this.context.close();
  }
}
