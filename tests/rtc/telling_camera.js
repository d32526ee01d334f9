// Offers a camera whose pictures carry their numbers and a microphone that tells its time (a tone that climbs from 400 to 3400 Hz each
// second). Pictures follow the clock of the sound: number n is painted as soon as the sound of n / 30 s has left. Gives the description.
async (ours) => {
  const WIDTH = 320, HEIGHT = 180, FPS = 30, RATE = 48000, BITS = 20, SQUARES = BITS + 4;
  const audio = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
  await audio.resume();
  const buffer = audio.createBuffer(1, RATE, RATE);
  buffer.getChannelData(0).forEach((_, i, all) => {
    const t = i / RATE;
    all[i] = 0.3 * Math.sin(2 * Math.PI * (400 * t + 1500 * t * t));
  });
  const tone = new AudioBufferSourceNode(audio, { buffer, loop: true });
  const microphone = new MediaStreamAudioDestinationNode(audio, { channelCount: 1 });
  tone.connect(microphone);

  const canvas = Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT });
  const context = canvas.getContext("2d", { alpha: false });
  const [camera] = canvas.captureStream(0).getVideoTracks();
  const start = audio.currentTime + 0.2;
  let next = 0;
  tone.start(start);

  function paint(number) {
    context.fillStyle = "#456";
    context.fillRect(0, 0, WIDTH, HEIGHT);
    for (let bar = 0; bar < 8; bar++) {
      context.fillStyle = `hsl(${45 * bar} 60% 50%)`;
      context.fillRect((bar * 40 + number * 4) % WIDTH, 30 + 15 * bar, 40, 30);
    }
    const bits = Array.from({ length: BITS }, (_, i) => (number >> (BITS - 1 - i)) & 1);
    const ones = bits.reduce((a, b) => a + b);
    [1, 0, ...bits, (ones >> 1) & 1, ones & 1].forEach((mark, i) => {
      context.fillStyle = mark ? "#fff" : "#000";
      context.fillRect((i * WIDTH) / SQUARES, 0, WIDTH / SQUARES + 1, HEIGHT / 12);
    });
    camera.requestFrame();
  }

  function tick() {
    const number = Math.floor((audio.currentTime - start) * FPS);
    if (number >= next) {
      paint(number);
      next = number + 1;
    }
    setTimeout(tick, (start + next / FPS - audio.currentTime) * 1000);
  }
  tick();

  const pc = (window.pc = new RTCPeerConnection({ iceServers: [] }));
  const stream = new MediaStream([camera, ...microphone.stream.getAudioTracks()]);
  for (const track of stream.getTracks()) pc.addTrack(track, stream);
  if (ours) await (await import("/repair.js")).offer(pc);
  else await pc.setLocalDescription();
  return pc.localDescription.sdp;
}
