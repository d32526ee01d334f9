// Notes what the page's video element shows and plays: numbers from pixels with the time they were shown, and the sound itself.
() => {
  const SQUARES = 24, BITS = 20;
  const video = document.getElementById("video");
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const tap = (window.tap = { pictures: [], sound: [], source: null, stream: null });

  function number() {
    [canvas.width, canvas.height] = [video.videoWidth, 1];
    context.drawImage(video, 0, Math.floor(video.videoHeight / 24), video.videoWidth, 1, 0, 0, canvas.width, 1);
    const row = context.getImageData(0, 0, canvas.width, 1).data;
    const bits = Array.from({ length: SQUARES }, (_, i) => row[4 * Math.floor(((2 * i + 1) * canvas.width) / (2 * SQUARES))] > 128);
    const ones = bits.slice(2, 2 + BITS).filter(Boolean).length % 4;
    if (!bits[0] || bits[1] || ones !== 2 * bits[22] + bits[23]) return -1;
    return bits.slice(2, 2 + BITS).reduce((value, bit) => 2 * value + bit, 0);
  }

  function shown(now, meta) {
    const seen = number();
    if (seen >= 0) tap.pictures.push([now, seen]);
    video.requestVideoFrameCallback(shown);
  }
  video.requestVideoFrameCallback(shown);

  const code = `registerProcessor("tap", class extends AudioWorkletProcessor {
    constructor() { super(); this.block = new Float32Array(4800); this.filled = 0; }
    process([[channel]]) {
      this.block.set(channel || new Float32Array(128), this.filled);
      this.filled += 128;
      if (this.filled + 128 > this.block.length) {
        this.port.postMessage([currentTime + 128 / sampleRate, this.block.slice(0, this.filled)]);
        this.filled = 0;
      }
      return true;
    }
  });`;

  async function listen() {
    const audio = new AudioContext({ sampleRate: 48000, latencyHint: "interactive" });
    await audio.audioWorklet.addModule(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    const node = new AudioWorkletNode(audio, "tap");
    const quiet = new GainNode(audio, { gain: 0 });
    node.connect(quiet).connect(audio.destination);
    node.port.onmessage = ({ data: [end, block] }) => tap.sound.push([performance.now(), end * 1000, block]);
    setInterval(() => { // another connection brings another stream
      const track = video.srcObject?.getAudioTracks()[0];
      if (!track || track === tap.track) return;
      tap.source?.disconnect();
      tap.track = track;
      tap.source = audio.createMediaStreamSource(new MediaStream([track]));
      tap.source.connect(node);
    }, 50);
  }
  listen();

  tap.give = async () => {
    const { sound, pictures } = tap;
    const bytes = new Int16Array(sound.reduce((sum, [, , block]) => sum + block.length, 0));
    let at = 0;
    for (const [, , block] of sound) for (const each of block) bytes[at++] = Math.round(32767 * Math.max(-1, Math.min(1, each)));
    // A block comes to the page late, never early: of those that follow, the least late one says how the clocks lie. The audio's own clock
    // falls behind when the browser is short of time.
    const starts = sound.map(([, end, block]) => end - (1000 * block.length) / 48000);
    let shift = Infinity;
    for (let i = sound.length - 1; i >= 0; i--) {
      shift = Math.min(shift, sound[i][0] - sound[i][1]);
      starts[i] += shift;
    }
    const blob = new Blob([bytes.buffer]);
    const url = await new Promise((resolve) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.readAsDataURL(blob);
    });
    return { now: performance.now(), pictures, starts, samples: url.slice(url.indexOf(",") + 1) };
  };
}
