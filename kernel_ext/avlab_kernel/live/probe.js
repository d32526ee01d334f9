// Reads back what a measured view shows and plays. It stands before view.js in one module; what was read goes to the kernel's
// side, which painted it and reckons there.

const SETTLE = 2000; // ms after which a path that has just been taken, and a sound that is heard from now on, are measured
const STRAGGLE = 1000; // ms after the end in which late pictures still count
const PINGS = 40;
const SQUARES = 24; // of TestSource: white, black, twenty bits, two bits of the sum of its ones
const EAR = `registerProcessor("avlab-ear", class extends AudioWorkletProcessor {
  quiet = 0;
  process([[samples]]) {
    if (!samples) this.quiet += 128;
    else for (let i = 0; i < samples.length; i++) {
      const loud = Math.abs(samples[i]) > 0.25;
      if (loud && this.quiet > 0.3 * sampleRate) this.port.postMessage(currentTime + i / sampleRate);
      this.quiet = loud ? 0 : this.quiet + 1;
    }
    return true;
  }
});`;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

class Probe {
  constructor(view) {
    this.view = view;
    this.plan = view.model.get("plan");
    this.said = "";
    this.pings = [];
    this.readings = [];
    this.beeps = [];
    this.canvas = new OffscreenCanvas(SQUARES, 1);
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.context.imageSmoothingEnabled = false;
    this.run().catch((error) => this.tell("failed", { reason: `${error.name}: ${error.message}` }));
  }

  tell(step, content = {}) {
    this.view.send({ type: "probe", step, ...content });
  }

  settled() {
    const { path, direct } = this.view;
    return path === "direct" || (path === "messages" && (this.only() || !direct));
  }

  only() {
    return this.plan.path === "messages";
  }

  async run() {
    this.tell("here");
    while (!this.settled()) await pause(50);
    await this.clock();
    await pause(SETTLE); // for the sentence about the path
    const sentence = this.view.ui.path.textContent;
    this.said = "Measuring…";
    const deaf = await this.listen().then(() => "", (error) => `${error.name}: ${error.message}`);
    await pause(SETTLE);
    const began = performance.now();
    this.recording = true;
    await pause(this.plan.seconds * 1000 + STRAGGLE);
    this.recording = false;
    await this.clock();
    const { path } = this.view;
    this.said = "Measured.";
    const running = this.sound?.state === "running" ? "" : "the browser plays no sound before a click into the page";
    const { pings, readings, beeps } = this;
    this.tell("done", { began, pings, readings, beeps, path, sentence, deaf: deaf || running });
    this.view.hush();
    this.sound?.close();
  }

  async clock() {
    for (let i = 0; i < PINGS; i++) {
      const answer = new Promise((done) => (this.answered = done));
      const sent = performance.now();
      this.tell("clock", { sent });
      const at = await Promise.race([answer, pause(1000)]);
      if (at !== undefined) this.pings.push([sent, at, performance.now()]);
      await pause(10);
    }
  }

  // The sound that leaves the browser's audio engine, before the volume: nobody needs to hear it.
  async listen() {
    if (this.view.path === "direct") {
      const context = new AudioContext({ sampleRate: 48000, latencyHint: "interactive" });
      await this.hearing(context, context.createMediaStreamSource(this.view.direct.stream), 0);
    }
    this.listening = true;
    this.view.hush();
  }

  async hearing(context, source, volume) {
    this.sound = context;
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([EAR], { type: "text/javascript" })));
    const ear = new AudioWorkletNode(context, "avlab-ear");
    ear.port.onmessage = ({ data }) => {
      const { contextTime, performanceTime } = context.getOutputTimestamp();
      if (this.recording) this.beeps.push(performanceTime + (data - contextTime) * 1000);
    };
    const silent = new GainNode(context, { gain: volume });
    source.connect(ear).connect(silent).connect(context.destination);
    context.resume();
  }

  // Where sound that comes in messages goes to.
  output(context) {
    const gate = new GainNode(context);
    gate.connect(new GainNode(context, { gain: this.view.ui.video.muted ? 0 : 1 })).connect(context.destination);
    this.hearing(context, gate, 0);
    return gate;
  }

  picture(path, frame) {
    if (!this.recording) return;
    if (path === "direct") return this.read(this.view.ui.video, frame.expectedDisplayTime);
    if (this.waiting) return; // drawn over before it was presented
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.read(this.view.ui.canvas, performance.now());
    });
  }

  read(source, time) {
    const [width, height] = [source.videoWidth || source.width, source.videoHeight || source.height];
    this.context.drawImage(source, 0, Math.floor(height / 24), width, 1, 0, 0, SQUARES, 1);
    const row = this.context.getImageData(0, 0, SQUARES, 1).data;
    const marks = Array.from({ length: SQUARES }, (_, i) => (row[4 * i] > 128 ? 1 : 0));
    const bits = marks.slice(2, 22);
    const whole = marks[0] === 1 && marks[1] === 0 && bits.reduce((a, b) => a + b) % 4 === marks[22] * 2 + marks[23];
    this.readings.push([whole ? bits.reduce((number, bit) => number * 2 + bit, 0) : -1, time]);
  }
}

