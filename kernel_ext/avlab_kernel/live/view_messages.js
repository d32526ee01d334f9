// The lowest rung of a live view's ladder: coded pictures and sound that come as messages.

const LEAD = 0.05; // seconds that sound lies ready before it is played
const AHEAD = 50; // blocks in which it must have come down to that
const TELL = 60; // ms between two acknowledgements: a kernel works more for one of them than for sending a picture

class Messages {
  constructor(view, shown) {
    this.view = view;
    this.shown = shown;
    this.context = view.ui.canvas.getContext("2d");
    this.flying = new Map();
    this.sound = null;
    this.told = -TELL;
  }

  async picture(message, data) {
    const came = performance.now();
    if (message.form === "jpeg") {
      const bitmap = await createImageBitmap(new Blob([data], { type: "image/jpeg" }));
      this.draw(bitmap, message, came);
      bitmap.close();
      return;
    }
    if (!this.decoder || this.decoder.state === "closed") {
      if (!message.key) return this.skip(message.n);
      this.decoder = new VideoDecoder({
        output: (frame) => {
          const [sent, began] = this.flying.get(frame.timestamp) ?? [message, came];
          this.flying.delete(frame.timestamp);
          this.draw(frame, sent, began);
          frame.close();
        },
        error: () => this.view.send({ type: "key" }),
      });
      this.decoder.configure({ codec: "avc1.42E028", optimizeForLatency: true });
    }
    this.flying.set(message.n, [message, came]);
    if (this.flying.size > 30) this.flying.delete(this.flying.keys().next().value);
    this.decoder.decode(new EncodedVideoChunk({ type: message.key ? "key" : "delta", timestamp: message.n, data }));
  }

  skip(n) {
    this.tell(n, performance.now());
    this.view.send({ type: "key" });
  }

  draw(image, message, came) {
    const canvas = this.view.ui.canvas;
    const [width, height] = message.size;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    this.context.drawImage(image, 0, 0, width, height);
    this.tell(message.n, came);
    this.shown(message, performance.now() - came);
  }

  // Acknowledges a picture, and with it all before it, at once or when `TELL` has passed since the last time.
  tell(n, came) {
    if (!this.telling || n > this.newest[0]) this.newest = [n, came]; // still pictures may be drawn out of order
    const wait = this.told + TELL - performance.now();
    if (wait <= 0) this.acknowledge();
    else this.telling ??= setTimeout(() => this.acknowledge(), wait);
  }

  acknowledge() {
    clearTimeout(this.telling);
    this.telling = null;
    this.told = performance.now();
    const [n, came] = this.newest;
    this.view.send({ type: "ack", n, spent: this.told - came });
  }

  hear(message, blocks) {
    if (!globalThis.AudioDecoder) return;
    if (!this.sound) {
      const context = new AudioContext({ sampleRate: 48000, latencyHint: "interactive" });
      const decoder = new AudioDecoder({
        output: (block) => this.play(context, block),
        error: () => this.quiet(),
      });
      decoder.configure({ codec: "opus", sampleRate: 48000, numberOfChannels: 2 });
      this.sound = { context, decoder, next: 0, least: Infinity, blocks: 0, skip: 0, output: this.view.probe?.output(context) };
    }
    blocks.forEach((data, index) => {
      const timestamp = Math.round((message.pts[index] * 1000) / 48);
      this.sound.decoder.decode(new EncodedAudioChunk({ type: "key", timestamp, data }));
    });
  }

  play(context, block) {
    const { sound } = this;
    if (!sound || sound.skip-- > 0) return block.close();
    sound.skip = 0;
    const buffer = context.createBuffer(block.numberOfChannels, block.numberOfFrames, block.sampleRate);
    for (let channel = 0; channel < block.numberOfChannels; channel++) {
      block.copyTo(buffer.getChannelData(channel), { planeIndex: channel, format: "f32-planar" });
    }
    block.close();
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(sound.output ?? context.destination);
    const now = context.currentTime;
    if (sound.next < now) sound.next = now + LEAD;
    source.start(sound.next);
    // What came in a burst would stay late for ever: what was too much all the time is left out.
    sound.least = Math.min(sound.least, sound.next - now);
    sound.next += buffer.duration;
    if (++sound.blocks < AHEAD) return;
    sound.skip = Math.floor((sound.least - LEAD) / buffer.duration);
    [sound.blocks, sound.least] = [0, Infinity];
  }

  quiet() {
    this.sound?.context.close();
    this.sound = null;
  }

  close() {
    this.quiet();
    clearTimeout(this.telling);
    if (this.decoder && this.decoder.state !== "closed") this.decoder.close();
  }
}
