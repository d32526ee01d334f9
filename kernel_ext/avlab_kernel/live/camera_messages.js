// The lowest rung of a source in the browser: coded pictures and sound as messages (H.264 and Opus through WebCodecs; JPEG and plain
// samples where there is none). The kernel acknowledges what has come, and no more is sent than arrives.

const GROUP = 60; // pictures from one key picture to the next, where the kernel asks for none earlier
const BLOCK = 960; // samples of one block of sound at 48 kHz: 20 ms
const TOGETHER = 2; // blocks in one message
const QUEUE = 100; // ms that a picture may take beyond what the quickest one took, for more than a few to be on their way
const H264 = { codec: "avc1.42E028", latencyMode: "realtime", avc: { format: "annexb" } };
const OPUS = { codec: "opus", sampleRate: 48000, numberOfChannels: 2, bitrate: 64000 };
const EAR = `registerProcessor("avlab-ear", class extends AudioWorkletProcessor {
  block = new Float32Array(2 * ${BLOCK});
  filled = 0;
  process([[left, right]]) {
    for (let i = 0; left && i < left.length; i++) {
      this.block.set([left[i], (right ?? left)[i]], 2 * this.filled++);
      if (this.filled < ${BLOCK}) continue;
      this.port.postMessage({ block: this.block, at: (currentFrame + i + 1 - ${BLOCK}) / 48 });
      [this.block, this.filled] = [new Float32Array(2 * ${BLOCK}), 0];
    }
    return true;
  }
});`;

// What is on its way: a few messages always, more where the way is long, but none while the oldest takes longer than it should.
class Flight {
  constructor(few, most) {
    [this.few, this.most] = [few, most];
    this.sent = new Map();
    this.least = null; // ms from sending to acknowledgement at best
  }

  get free() {
    if (this.sent.size < this.few) return true;
    const [oldest] = this.sent.values();
    return this.sent.size < this.most && this.least !== null && performance.now() - oldest < this.least + QUEUE;
  }

  went(number) {
    this.sent.set(number, performance.now());
  }

  came(number) {
    if (this.sent.has(number)) this.least = Math.min(this.least ?? Infinity, performance.now() - this.sent.get(number));
    for (const each of [...this.sent.keys()]) if (each <= number) this.sent.delete(each);
  }
}

// The page's time of what has a clock of its own: what came quickest tells how far the two are apart.
class Clock {
  apart = Infinity;

  page(own) {
    this.apart = Math.min(this.apart + 0.01, performance.now() - own); // clocks drift
    return own + this.apart;
  }
}

class Pictures {
  constructor(messages) {
    this.messages = messages;
    this.flight = new Flight(3, 12);
    this.clock = new Clock();
    this.number = this.encoded = 0;
  }

  take(track) {
    this.stop?.();
    const Processor = globalThis.MediaStreamTrackProcessor;
    this.stop = Processor ? this.process(new Processor({ track })) : this.watch(this.messages.view.ui.video);
  }

  // Also while the page is hidden.
  process({ readable }) {
    const reader = readable.getReader();
    const next = ({ done, value }) => {
      if (done) return;
      this.picture(value, value.displayWidth, value.displayHeight, value.timestamp / 1000);
      value.close();
      return reader.read().then(next);
    };
    reader.read().then(next).catch((error) => this.messages.failed(error));
    return () => reader.cancel().catch(() => {});
  }

  watch(video) {
    const seen = (now) => {
      this.picture(video, video.videoWidth, video.videoHeight, now);
      handle = video.requestVideoFrameCallback(seen);
    };
    let handle = video.requestVideoFrameCallback(seen);
    return () => video.cancelVideoFrameCallback(handle);
  }

  picture(image, width, height, at) {
    const page = this.clock.page(at);
    if (!width || !this.flight.free || this.busy || this.encoder?.encodeQueueSize > 1) return;
    [width, height] = [width & ~1, height & ~1]; // H.264 knows no odd sizes
    const before = this.size;
    this.size = [width, height];
    if (this.messages.h264) this.encode(image, `${before}` !== `${this.size}`, at);
    else this.still(image, width, height, at, page);
  }

  encode(image, anew, at) {
    if (anew || this.encoder?.state !== "configured") {
      this.close();
      const [width, height] = this.size;
      this.encoded = 0;
      this.encoder = new VideoEncoder({ output: (chunk) => this.coded(chunk), error: (error) => this.messages.failed(error) });
      const { bit_rate, ask } = this.messages.view.welcomed;
      this.encoder.configure({ ...H264, width, height, bitrate: bit_rate.messages, framerate: ask.rate });
    }
    const own = image instanceof VideoFrame ? image : new VideoFrame(image, { timestamp: at * 1000 });
    this.encoder.encode(own, { keyFrame: this.encoded++ % GROUP === 0 });
    if (own !== image) own.close();
  }

  coded(chunk) {
    const data = new ArrayBuffer(chunk.byteLength);
    chunk.copyTo(data);
    const at = chunk.timestamp / 1000;
    this.send("h264", at, at + this.clock.apart, data, chunk.type === "key");
  }

  async still(image, width, height, at, page) {
    this.canvas ??= element("canvas");
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    this.canvas.getContext("2d").drawImage(image, 0, 0, width, height);
    this.busy = true;
    const blob = await new Promise((done) => this.canvas.toBlob(done, "image/jpeg", 0.7));
    this.busy = false;
    if (blob) this.send("jpeg", at, page, await blob.arrayBuffer(), true);
  }

  send(form, at, page, data, key) {
    if (this.messages.closed) return;
    this.flight.went(++this.number);
    this.messages.send("picture", { form, n: this.number, at, page, key }, [data]);
  }

  // The next picture shall need no other.
  begin() {
    this.encoded = 0;
  }

  close() {
    if (this.encoder && this.encoder.state !== "closed") this.encoder.close();
    this.encoder = null;
  }
}

class Sound {
  constructor(messages) {
    this.messages = messages;
    this.flight = new Flight(50, 50); // two seconds
    this.clock = new Clock();
    this.number = 0;
    this.blocks = [];
  }

  take(track) {
    this.stop?.();
    const context = new AudioContext({ sampleRate: 48000 });
    this.stop = () => context.close();
    this.begun = this.listen(context, track).catch((error) => this.messages.failed(error));
  }

  async listen(context, track) {
    const url = URL.createObjectURL(new Blob([EAR], { type: "text/javascript" }));
    await context.audioWorklet.addModule(url).finally(() => URL.revokeObjectURL(url));
    const ear = new AudioWorkletNode(context, "avlab-ear", { numberOfOutputs: 0, channelCount: 2, channelCountMode: "explicit" });
    // Another device's sound goes on after what was sent of the one before.
    const since = this.last === undefined ? 0 : this.last + performance.now() - this.spoke;
    ear.port.onmessage = ({ data: { block, at } }) => this.block(block, since + at);
    this.source = context.createMediaStreamSource(new MediaStream([track])); // kept, or it would be collected
    this.source.connect(ear);
  }

  block(block, at) {
    [this.last, this.spoke] = [at, performance.now()];
    this.clock.page(at);
    if (this.messages.closed || !this.flight.free) return;
    if (!this.messages.opus) return this.coded("s16", at, Int16Array.from(block, (sample) => Math.max(-1, Math.min(1, sample)) * 32767).buffer);
    if (this.encoder?.state !== "configured") {
      this.encoder = new AudioEncoder({ output: (chunk) => this.packet(chunk), error: (error) => this.messages.failed(error) });
      this.encoder.configure(OPUS);
    }
    const form = { format: "f32", sampleRate: 48000, numberOfFrames: BLOCK, numberOfChannels: 2 };
    const data = new AudioData({ ...form, timestamp: Math.round(at * 1000), data: block });
    this.encoder.encode(data);
    data.close();
  }

  packet(chunk) {
    const data = new ArrayBuffer(chunk.byteLength);
    chunk.copyTo(data);
    this.coded("opus", chunk.timestamp / 1000, data);
  }

  coded(form, at, data) {
    if (this.messages.closed || this.blocks.push({ at, data }) < TOGETHER) return;
    const blocks = this.blocks.splice(0);
    const times = blocks.map((each) => each.at);
    this.flight.went(this.number);
    this.messages.send("sound", { form, n: this.number, at: times, page: times[0] + this.clock.apart }, blocks.map((each) => each.data));
    this.number += blocks.length;
  }

  close() {
    if (this.encoder && this.encoder.state !== "closed") this.encoder.close();
    this.encoder = null;
  }
}

class Messages {
  // plain: without WebCodecs.
  constructor(view, run, plain, failed) {
    [this.view, this.run, this.plain, this.onFailed] = [view, run, plain, failed];
    this.tracks = { video: new Pictures(this), audio: new Sound(this) };
    view.send({ type: "path", path: "messages", run });
    this.start().catch((error) => this.failed(error));
  }

  async start() {
    const can = async (Coder, config) => !this.plain && Boolean(Coder && (await Coder.isConfigSupported(config)).supported);
    this.h264 = await can(globalThis.VideoEncoder, { ...H264, width: 1280, height: 720 });
    this.opus = await can(globalThis.AudioEncoder, OPUS);
    for (const track of this.closed ? [] : this.view.capture.stream?.getTracks() ?? []) this.replace(track);
  }

  replace(track) {
    if (this.view.capture.wants(track.kind)) this.tracks[track.kind].take(track);
  }

  send(type, content, buffers) {
    this.view.send({ type, run: this.run, ...content }, buffers);
  }

  receive(message) {
    if (message.run !== this.run) return;
    if (message.type === "key") this.tracks.video.begin();
    else this.tracks[message.track]?.flight.came(message.n);
  }

  figures() {
    const { size: [width, height] = [], number } = this.tracks.video;
    const [before, since] = this.counted ?? [0, performance.now() - 500];
    this.counted = [number, performance.now()];
    return { width, height, sent: number, fps: (1000 * (number - before)) / (performance.now() - since) };
  }

  failed(error) {
    if (this.closed) return;
    this.close();
    this.onFailed(`${error.name}: ${error.message}`);
  }

  close() {
    this.closed = true;
    for (const each of Object.values(this.tracks)) {
      each.stop?.();
      each.close();
    }
  }
}
