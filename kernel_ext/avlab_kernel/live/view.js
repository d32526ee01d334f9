// The browser's side of a live view. The picture comes as messages at once (H.264 through WebCodecs, JPEG where there is none);
// a direct connection is tried beside them and takes over when it shows pictures. Plain ESM, not bundled.

const STALLED = 2000; // ms without a picture on the direct path after which messages take over again
const PATIENCE = 4000; // ms in which the direct path must stand
const LEAD = 0.05; // seconds that sound in messages lies ready before it is played
const AHEAD = 50; // blocks in which it must have come down to that
const HELD = 400; // ms by which pictures or sound are held back at most for the sake of the other
// ms by which sound may be before and after its picture; with low latency only once somebody hears it. Viewers notice more (BT.1359).
const APART = { "lips": [0, 0], "low-latency": [10, 25] };
const AGAIN = [10000, 20000, 40000, 60000]; // ms between attempts
const ICONS = {
  pause: "M7 5h4v14H7zM13 5h4v14h-4z",
  play: "M8 5v14l11-7z",
  muted: "M4 9v6h4l5 5V4L8 9zM16 9l5 6M21 9l-5 6",
  sound: "M4 9v6h4l5 5V4L8 9zM16 8.5a5 5 0 0 1 0 7M18.5 6a8.5 8.5 0 0 1 0 12",
  snapshot: "M4 8h3l2-3h6l2 3h3v11H4zM12 10a3.5 3.5 0 1 0 .01 0z",
  record: "M12 6a6 6 0 1 0 .01 0z",
  stop: "M6 6h12v12H6z",
};

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function button(name, label, key, action) {
  const made = element("button", { type: "button", class: `avlab-button avlab-${name}`, "data-testid": `avlab-${name}` });
  const face = (icon, text) => {
    made.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${ICONS[icon]}"/></svg>`;
    made.title = `${text} (${key.toUpperCase()})`;
    made.setAttribute("aria-label", text);
  };
  made.face = face;
  face(name === "mute" ? "muted" : name, label);
  made.setAttribute("aria-keyshortcuts", key);
  made.addEventListener("click", action);
  return made;
}

// Everything one view shows; it knows nothing of how the picture came.
function build(actions) {
  const video = element("video", { playsinline: "", autoplay: "", class: "avlab-picture" });
  video.muted = true;
  const canvas = element("canvas", { class: "avlab-picture", "data-testid": "avlab-video" });
  const over = element("canvas", { class: "avlab-over", "aria-hidden": "true" });
  const poster = element("img", { class: "avlab-poster", alt: "" });
  const note = element("div", { class: "avlab-note" });
  const stage = element("div", { class: "avlab-stage" }, canvas, video, over, poster, note);
  const pause = button("pause", "Pause", "k", actions.pause);
  const mute = button("mute", "Sound on", "m", actions.mute);
  const snapshot = button("snapshot", "Save a picture", "s", actions.snapshot);
  const record = button("record", "Record to a file", "r", actions.record);
  const stop = button("stop", "Stop the pipeline", "x", actions.stop);
  const level = element("div", {
    class: "avlab-level", role: "meter", "aria-label": "Audio level", "aria-valuemin": "-60", "aria-valuemax": "0",
  }, element("div"));
  const path = element("span", { class: "avlab-path", "data-testid": "avlab-path", "data-path": "" });
  const bar = element("div", { class: "avlab-bar", role: "toolbar", "aria-label": "Live view" },
    pause, mute, level, element("span", { class: "avlab-space" }), snapshot, record, stop);
  const status = element("div", { class: "avlab-status", "data-testid": "avlab-status", role: "group", "aria-label": "Figures" });
  const said = element("div", { class: "avlab-said", role: "status", "aria-live": "polite" }, path);
  const pace = element("summary", { class: "avlab-pace", "data-testid": "avlab-pace" });
  const table = element("table", {});
  const hops = element("details", { class: "avlab-hops", "data-testid": "avlab-hops" }, pace, table);
  hops.hidden = true;
  const results = element("div", { class: "avlab-results", "data-testid": "avlab-results" });
  const root = element("div", {
    class: "avlab-preview", "data-testid": "avlab-preview", role: "region", "aria-label": "Live view", tabindex: "0",
    "data-lm-suppress-shortcuts": "true", "data-jp-suppress-context-menu": "false",
  }, stage, bar, status, said, hops, results);
  return { root, stage, video, canvas, over, poster, note, pause, mute, level, snapshot, record, stop, path, status, hops, pace, table, results };
}

// Pictures and sound that come as messages.
class Messages {
  constructor(view, shown) {
    this.view = view;
    this.shown = shown;
    this.context = view.ui.canvas.getContext("2d");
    this.flying = new Map();
    this.sound = null;
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
    this.view.send({ type: "ack", n, spent: 0 });
    this.view.send({ type: "key" });
  }

  draw(image, message, came) {
    const canvas = this.view.ui.canvas;
    const [width, height] = message.size;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    this.context.drawImage(image, 0, 0, width, height);
    const spent = performance.now() - came;
    this.view.send({ type: "ack", n: message.n, spent });
    this.shown(message, spent);
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
    if (this.decoder && this.decoder.state !== "closed") this.decoder.close();
  }
}

// The direct path: one WebRTC connection. `failed(reason)` is called once, when it does not stand or shows no pictures.
class Direct {
  constructor(view, welcome, shown, failed) {
    this.view = view;
    this.shown = shown;
    this.failed = failed;
    this.last = this.held = 0;
    this.sync = welcome.sync;
    this.connection = new RTCPeerConnection({ iceServers: welcome.ice });
    this.stream = new MediaStream();
    this.timer = setTimeout(() => this.last || this.fail(this.why()), PATIENCE);
    this.start().catch((error) => this.fail(`The browser refused: ${error.message}.`));
  }

  why() {
    return this.connection.iceConnectionState === "connected" ? "No picture came on the direct path." : "The direct path did not stand.";
  }

  async start() {
    const { connection, view } = this;
    for (const kind of ["video", "audio"]) {
      const transceiver = connection.addTransceiver(kind, { direction: "recvonly" });
      if ("jitterBufferTarget" in transceiver.receiver) transceiver.receiver.jitterBufferTarget = 0;
      if (kind === "video") {
        const codecs = RTCRtpReceiver.getCapabilities("video").codecs;
        const fit = codecs.filter((c) => c.mimeType === "video/H264" && /packetization-mode=1/.test(c.sdpFmtpLine ?? ""));
        if (!fit.length) throw new Error("it has no H.264 decoder");
        transceiver.setCodecPreferences([...fit, ...codecs.filter((c) => c.mimeType === "video/rtx")]);
      }
    }
    connection.ontrack = ({ track }) => {
      this.stream.addTrack(track);
      view.ui.video.srcObject = this.stream;
      view.ui.video.play().catch(() => {});
    };
    connection.onicecandidate = ({ candidate }) => candidate && this.offered && view.send({ type: "candidate", candidate: candidate.toJSON() });
    connection.onconnectionstatechange = () => {
      if (["failed", "closed"].includes(connection.connectionState)) this.fail("The direct path broke.");
    };
    const seen = (now, frame) => {
      if (this.dead) return;
      this.last = performance.now();
      const spent = frame.receiveTime ? frame.expectedDisplayTime - frame.receiveTime : null;
      this.shown(frame, spent);
      view.ui.video.requestVideoFrameCallback(seen);
    };
    view.ui.video.requestVideoFrameCallback(seen);
    await offer(connection); // see repair.js
    await Promise.race([
      new Promise((done) => (connection.onicegatheringstatechange = () => connection.iceGatheringState === "complete" && done())),
      new Promise((done) => setTimeout(done, 150)),
    ]);
    this.offered = true;
    view.send({ type: "offer", sdp: connection.localDescription.sdp });
  }

  async answered(sdp) {
    try {
      await this.connection.setRemoteDescription({ type: "answer", sdp });
    } catch (error) {
      this.fail(`The browser refused: ${error.message}.`);
    }
  }

  async figures() {
    const found = {};
    const reports = await this.connection.getStats();
    reports.forEach((report) => {
      if (report.type === "inbound-rtp") {
        if (report.kind === "video") Object.assign(found, { decoded: report.framesDecoded, lost: report.packetsLost, dropped: report.framesDropped, freezes: report.freezeCount });
        else found.concealed = report.totalSamplesReceived ? report.concealedSamples / report.totalSamplesReceived : 0;
      } else if (report.type === "candidate-pair" && report.nominated && report.currentRoundTripTime !== undefined) {
        found.trip = report.currentRoundTripTime * 1000;
        const local = reports.get(report.localCandidateId);
        found.relay = local?.candidateType === "relay" ? `TURN ${(local.relayProtocol ?? "udp").toUpperCase()}` : "";
      }
    });
    const [picture, sound] = ["video", "audio"].map((kind) => this.playing(kind));
    if (picture && sound) found.skew = picture - sound - this.output(reports);
    if (found.skew !== undefined) this.align(found.skew);
    return found;
  }

  // Milliseconds that the browser's sound device holds samples for, lately.
  output(reports) {
    for (const report of reports.values()) {
      if (report.type !== "media-playout") continue;
      const [delay, samples] = [report.totalPlayoutDelay, report.totalSamplesCount];
      const [before, counted] = this.played ?? [0, 0];
      if (samples > counted) this.late = ((delay - before) / (samples - counted)) * 1000;
      this.played = [delay, samples];
    }
    return this.late ?? 0;
  }

  // Holds the earlier of picture and sound back. The browser's own way to do that keeps a stall's delay for half a minute.
  align(skew) {
    if (this.sync !== "lips" && !this.view.hears()) {
      if (this.held) this.hold(0);
      this.apart = undefined;
      return;
    }
    const first = this.apart === undefined;
    this.apart = first ? skew : this.apart * 0.7 + skew * 0.3;
    const [early, late] = APART[this.sync];
    const natural = this.apart - this.held; // as it would be if nothing were held back
    const wanted = Math.max(-late, Math.min(early, natural)) - natural;
    this.hold(this.held + (wanted - this.held) * (first ? 1 : 0.25));
  }

  // Milliseconds by which pictures are held back; below zero: by which sound is.
  hold(held) {
    this.held = Math.max(-HELD, Math.min(HELD, held));
    for (const { receiver } of this.connection.getTransceivers()) {
      const late = receiver.track.kind === "video" ? this.held : -this.held;
      if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = Math.max(0, late);
    }
  }

  // By how many milliseconds what plays now lies behind its time on the stream's timeline.
  playing(kind) {
    const receiver = this.connection.getReceivers().find((each) => each.track.kind === kind);
    const [source] = receiver?.getSynchronizationSources() ?? [];
    const origin = this.view.state.status?.views?.[this.view.name]?.origins?.[kind];
    if (!source || !Number.isFinite(origin)) return null;
    return source.timestamp - ((source.rtpTimestamp - origin) >>> 0) / (kind === "video" ? 90 : 48);
  }

  fail(reason) {
    if (this.dead) return;
    this.close();
    this.failed(reason);
  }

  close() {
    this.dead = true;
    clearTimeout(this.timer);
    this.connection.close();
  }
}

class View {
  constructor(model, el) {
    this.model = model;
    this.name = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2);
    this.ui = build({
      pause: () => this.pause(), mute: () => this.mute(), snapshot: () => this.snapshot(),
      record: () => this.send({ type: "record", on: !this.state.recording }), stop: () => this.send({ type: "stop" }),
    });
    el.append(this.ui.root);
    this.state = { status: null, last: 0, came: 0, frames: 0, fps: 0, spent: [], visible: true, paused: false, attempts: 0, reason: "", results: [], plot: [] };
    this.path = "";
    this.messages = new Messages(this, (message, spent) => this.shown("messages", message, spent));
    this.onMessage = (message, buffers) => this.receive(message, buffers);
    model.on("msg:custom", this.onMessage);
    this.onVisible = () => this.visibility();
    document.addEventListener("visibilitychange", this.onVisible);
    this.onLeave = () => this.send({ type: "bye" });
    addEventListener("pagehide", this.onLeave);
    this.watcher = new IntersectionObserver((entries) => {
      this.state.visible = entries.at(-1).isIntersecting;
      this.visibility();
    });
    this.watcher.observe(this.ui.stage);
    this.ui.root.addEventListener("keydown", (event) => this.key(event));
    this.ticker = setInterval(() => this.tick(), 500);
    this.drawPoster();
    this.say("", "Connecting…");
    this.probe = typeof Probe === "undefined" ? null : new Probe(this); // see probe.js
    this.hello();
  }

  send(content) {
    try {
      this.model.send({ ...content, view: this.name });
    } catch {
      this.say("", "The kernel is gone: run the cell again.");
    }
  }

  hello() {
    const h264 = Boolean(globalThis.VideoDecoder);
    this.send({ type: "hello", h264, width: this.width() });
    this.heard = performance.now();
  }

  width() {
    return Math.round(this.ui.stage.clientWidth * devicePixelRatio);
  }

  receive(message, buffers) {
    if (message.view && message.view !== this.name) return;
    this.heard = performance.now();
    const parts = (buffers ?? []).map((part) => new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
    const act = {
      welcome: () => this.welcome(message),
      picture: () => this.messages.picture(message, parts[0]),
      sound: () => this.messages.hear(message, parts),
      answer: () => this.direct?.answered(message.sdp),
      refused: () => this.refused(message),
      ice: () => this.welcomed && (this.welcomed.ice = message.ice),
      again: () => this.again(),
      status: () => this.status(message),
      clock: () => this.probe?.answered?.(message.at),
      result: () => this.result(message, parts[0]),
    }[message.type];
    act?.();
  }

  welcome(message) {
    this.welcomed = message;
    this.visibility(true);
    this.tryDirect();
  }

  again() {
    if (performance.now() - (this.asked ?? -1e9) < 2000) return;
    this.asked = performance.now();
    this.hello();
  }

  refused(message) {
    if (message.final) this.say("", message.reason);
    else this.direct?.fail(message.reason);
  }

  tryDirect() {
    this.direct?.close();
    this.direct = null;
    if (this.probe?.only()) return;
    if (!globalThis.RTCPeerConnection) {
      this.state.reason = "this browser has no WebRTC";
      return;
    }
    try {
      this.direct = new Direct(this, this.welcomed, (frame, spent) => this.shown("direct", frame, spent), (reason) => this.noDirect(reason));
    } catch (error) {
      this.noDirect(`The browser refused: ${error.message}.`);
    }
  }

  noDirect(reason) {
    this.direct = null;
    this.state.reason = reason.replace(/\.$/, "");
    if (this.path === "direct") this.go("");
    this.send({ type: "path", path: "messages" });
    const wait = AGAIN[Math.min(this.state.attempts++, AGAIN.length - 1)];
    this.retry = setTimeout(() => !this.state.ended && this.tryDirect(), wait);
  }

  go(path) {
    this.path = path;
    const direct = path === "direct";
    this.ui.video.hidden = !direct;
    this.ui.canvas.hidden = direct;
    const [on, off] = direct ? [this.ui.video, this.ui.canvas] : [this.ui.canvas, this.ui.video];
    on.setAttribute("data-testid", "avlab-video");
    off.removeAttribute("data-testid");
    if (direct) {
      this.send({ type: "path", path: "direct" });
      this.messages.quiet();
    }
    this.hush();
  }

  shown(path, frame, spent) {
    if (path === "direct" && this.path !== "direct") this.go("direct");
    if (path === "messages" && this.path === "direct") return;
    if (path === "messages" && !this.path) this.go("messages");
    const state = this.state;
    state.came = performance.now();
    state.frames++;
    state.total = (state.total ?? 0) + 1;
    if (spent !== null && spent >= 0) state.spent.push(spent);
    if (path === "messages") state.age = frame.age;
    const origin = state.status?.views?.[this.name]?.origins?.video;
    const pts = path === "messages" ? frame.pts : Number.isFinite(origin) && frame.rtpTimestamp !== undefined ? (frame.rtpTimestamp - origin) >>> 0 : null;
    this.ui.poster.hidden = true;
    this.ui.root.dataset.frames = state.total;
    this.drawResults(pts);
    this.probe?.picture(path, frame);
  }

  // The figures, twice a second.
  async tick() {
    const state = this.state;
    const now = performance.now();
    const rate = (state.frames * 1000) / (now - state.last);
    state.fps = state.fps ? (state.fps + rate) / 2 : rate;
    [state.frames, state.last] = [0, now];
    state.spent.sort((a, b) => a - b);
    const spent = state.spent.length ? state.spent[state.spent.length >> 1] : null;
    state.spent = [];
    const direct = this.direct && this.path === "direct" ? await this.direct.figures().catch(() => ({})) : {};
    const mine = state.status?.views?.[this.name];
    const age = this.path === "direct" ? mine?.age : state.age;
    const way = this.path === "direct" ? direct.trip / 2 : mine?.way;
    const delay = [age, way, spent].every((part) => Number.isFinite(part)) ? age + way + spent : null;
    if (delay !== null) state.delay = delay;
    state.direct = direct;
    this.guard(now);
    this.explain(now, mine, direct);
    this.figures(direct);
    this.hops({ before: age, way, browser: spent }, state.delay);
    if (this.welcomed && now - (this.told ?? 0) > 1000) {
      this.told = now;
      const figures = { path: this.path, fps: state.fps, delay: state.delay ?? null, parts: { before: age ?? null, way: way ?? null, browser: spent }, ...direct };
      this.send({ type: "figures", ...figures });
    }
  }

  guard(now) {
    const { state } = this;
    if (this.path === "direct" && this.looking() && !state.ended && now - state.came > STALLED && this.moving()) {
      this.direct?.fail("No picture came for 2 seconds.");
    }
    if (this.heard && now - this.heard > 5000 && !state.ended && this.looking()) this.again();
  }

  moving() {
    return (this.state.status?.video ?? 0) > (this.state.before?.video ?? 0);
  }

  looking() {
    return this.state.visible && !document.hidden && !this.state.paused;
  }

  explain(now, mine, direct) {
    const { state } = this;
    if (this.probe?.said) return this.say(this.path, this.probe.said);
    if (state.ended) return this.say("", "The pipeline has ended.");
    if (state.paused) return this.say(this.path, "Paused.");
    if (this.heard && now - this.heard > 5000 && now - state.came > 5000) return this.say("", "The kernel does not answer.");
    if (!this.path) return this.say("", state.status?.problem || "Waiting for the first picture…");
    if (now - state.came > STALLED && this.looking()) return this.say(this.path, "No new pictures come from the pipeline.");
    if (this.path === "direct") return this.say("direct", direct.relay ? `Connected through ${direct.relay}.` : "Connected directly.");
    const waiting = this.direct ? "a direct path is being tried" : state.reason || "no direct path";
    const relay = !this.direct && waiting.startsWith("The direct path") && mine?.no_relay ? `, and ${mine.no_relay}` : "";
    this.say("messages", `Through the notebook's own connection: ${lower(waiting)}${relay}.`);
  }

  say(path, text) {
    if (this.ui.path.textContent !== text) this.ui.path.textContent = text;
    this.ui.path.dataset.path = path;
    this.ui.root.dataset.path = path;
  }

  status(message) {
    const { state } = this;
    [state.before, state.status] = [state.status, message];
    state.ended = Boolean(message.ended);
    state.recording = message.recording;
    const { ui } = this;
    ui.root.classList.toggle("avlab-ended", state.ended);
    ui.record.classList.toggle("avlab-on", Boolean(message.recording));
    ui.record.setAttribute("aria-pressed", String(Boolean(message.recording)));
    const note = message.recording ? `● ${message.recording}` : message.recorded && message.recorded !== this.saved ? `Saved ${message.recorded}` : "";
    if (message.recorded && !message.recording && note) setTimeout(() => (this.saved = message.recorded), 4000);
    ui.note.textContent = note;
    for (const each of [ui.record, ui.stop, ui.pause]) each.disabled = state.ended;
    const silent = !message.tracks.includes("audio");
    ui.mute.hidden = ui.level.hidden = silent;
    const decibels = message.level > 0 && !state.ended ? Math.max(-60, 20 * Math.log10(message.level)) : -60;
    ui.level.firstChild.style.transform = `scaleX(${1 + decibels / 60})`;
    ui.level.setAttribute("aria-valuenow", decibels.toFixed(0));
    ui.level.setAttribute("aria-valuetext", `${decibels.toFixed(0)} dB`);
    if (!this.shaped && message.size[0]) {
      ui.stage.style.aspectRatio = `${message.size[0]} / ${message.size[1]}`;
      this.shaped = true;
    }
  }

  figures(direct) {
    const { state } = this;
    const status = state.status;
    if (!status) return;
    const mine = status.views?.[this.name] ?? {};
    const lost = status.dropped + (this.path === "direct" ? direct.dropped ?? 0 : mine.dropped ?? 0);
    const rows = [
      ["picture", status.size[0] ? `${status.size[0]}×${status.size[1]}` : "–"],
      ["rate", `${(state.ended ? 0 : state.fps).toFixed(0)} fps`],
      ["delay", state.delay ? `${state.delay.toFixed(0)} ms` : "–"],
      ["drops", String(lost)],
    ];
    if (direct.skew !== undefined) rows.push(["A/V", `${direct.skew > 0 ? "+" : ""}${direct.skew.toFixed(0)} ms`]);
    if (status.bad) rows.push(["not shown", String(status.bad)]);
    for (const [node, tier] of Object.entries(status.tiers ?? {})) rows.push([node, tier]);
    const made = rows.map(([name, value]) => element("span", { class: "avlab-figure" }, element("span", {}, name), element("b", {}, value)));
    this.ui.status.replaceChildren(...made);
  }

  // Per node how long an item takes there, and how this view's delay comes about; rows are made only while they are shown.
  hops(parts, delay) {
    const { hops: rows, bottleneck } = this.state.status ?? {};
    const { ui } = this;
    ui.hops.hidden = !rows?.length;
    if (!rows?.length) return;
    const slowest = rows.find((row) => row.node === bottleneck);
    const pace = !slowest ? "Time per node" : slowest === rows[0] ? `The pipeline keeps up with ${bottleneck}` : `${bottleneck} sets the pace: busy ${percent(slowest.load)}`;
    if (ui.pace.textContent !== pace) ui.pace.textContent = pace;
    if (!ui.hops.open) return;
    const row = (name, cells, kind = "") =>
      element("tr", { class: kind }, element("th", { scope: "row" }, name), ...cells.map((cell) => element("td", {}, cell)));
    const head = ["node", "p50 ms", "p95 ms", "busy", "drops"].map((name) => element("th", { scope: "col" }, name));
    const made = [element("tr", {}, ...head)];
    for (const { node, p50, p95, load, drops, parts: inside } of rows) {
      made.push(row(node, [short(p50), short(p95), percent(load), String(drops)], node === bottleneck ? "avlab-slowest" : ""));
      for (const [name, middle, most] of inside) made.push(row(name, [short(middle), short(most), "", ""], "avlab-part"));
    }
    made.push(row("source to screen", [short(delay), "", "", ""]));
    for (const [name, part] of Object.entries({ "until sent": parts.before, "on the way": parts.way, "in the browser": parts.browser })) {
      made.push(row(name, [short(part), "", "", ""], "avlab-part"));
    }
    ui.table.replaceChildren(element("caption", {}, "Milliseconds per item"), ...made);
  }

  visibility(force = false) {
    const shown = this.looking();
    if (this.welcomed && (force || shown !== this.wasShown)) {
      this.wasShown = shown;
      this.state.came = performance.now();
      this.send({ type: "set", shown, sound: this.wantsSound(), width: this.width() });
    }
  }

  hears() {
    return !this.ui.video.muted || Boolean(this.probe?.listening);
  }

  wantsSound() {
    return this.hears() && this.path !== "direct";
  }

  hush() {
    this.send({ type: "set", sound: this.wantsSound() });
  }

  pause() {
    const paused = (this.state.paused = !this.state.paused);
    this.ui.pause.face(paused ? "play" : "pause", paused ? "Go on" : "Pause");
    if (paused) this.ui.video.pause();
    else this.ui.video.play().catch(() => {});
    this.visibility(true);
  }

  mute() {
    const { video, mute } = this.ui;
    video.muted = !video.muted;
    mute.face(video.muted ? "muted" : "sound", video.muted ? "Sound on" : "Sound off");
    if (video.muted) this.messages.quiet();
    this.hush();
  }

  snapshot() {
    const source = this.path === "direct" ? this.ui.video : this.ui.canvas;
    const canvas = element("canvas");
    [canvas.width, canvas.height] = [source.videoWidth || source.width, source.videoHeight || source.height];
    const context = canvas.getContext("2d");
    context.drawImage(source, 0, 0, canvas.width, canvas.height);
    context.drawImage(this.ui.over, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => {
      const link = element("a", { download: "preview.png", href: URL.createObjectURL(blob) });
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }

  key(event) {
    event.stopPropagation(); // the notebook's own shortcuts stay out of it
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const { pause, mute, snapshot, record, stop } = this.ui;
    const pressed = { k: pause, m: mute, s: snapshot, r: record, x: stop }[event.key.toLowerCase()];
    if (pressed && !pressed.disabled && !pressed.hidden) {
      event.preventDefault();
      pressed.click();
    }
  }

  drawPoster() {
    const poster = this.model.get("poster");
    this.ui.poster.hidden = !poster;
    if (poster) this.ui.poster.src = poster;
  }

  async result(message, mask) {
    if (mask) message.image = await createImageBitmap(new Blob([mask], { type: "image/png" }));
    const results = this.state.results;
    results.push(message);
    if (results.length > 120) results.shift().image?.close();
    if (!this.path) this.drawResults(null);
  }

  // What belongs to the picture that is shown now, or to an earlier one; boxes and masks vanish after a second without new ones.
  drawResults(pts) {
    const { state, ui } = this;
    const due = state.results.filter((each) => pts === null || each.pts === null || each.pts <= pts);
    for (const each of due) {
      if (each.boxes || each.image) this.drawOver(each.boxes ?? [], each.image);
      if (each.number !== undefined) {
        state.plot.push(each.number);
        if (state.plot.length > 120) state.plot.shift();
      }
      this.show(each);
    }
    if (due.length) state.results = state.results.filter((each) => !due.includes(each));
    if (state.boxed && performance.now() - state.boxed > 1000) {
      ui.over.getContext("2d").clearRect(0, 0, ui.over.width, ui.over.height);
      state.boxed = 0;
    }
  }

  drawOver(boxes, image) {
    const { over } = this.ui;
    const [width, height] = this.state.status?.size ?? [0, 0];
    if (!width) return image?.close();
    this.state.boxed = performance.now();
    if (over.width !== width || over.height !== height) [over.width, over.height] = [width, height];
    const context = over.getContext("2d");
    context.clearRect(0, 0, width, height);
    if (image) {
      context.imageSmoothingEnabled = false;
      context.drawImage(image, 0, 0, width, height);
      image.close();
    }
    const line = Math.max(2, width / 400);
    context.lineWidth = line;
    context.font = `${Math.max(12, width / 55)}px system-ui, sans-serif`;
    context.textBaseline = "top";
    for (const { box, label, score } of boxes) {
      const parts = box.every((number) => Math.abs(number) <= 1);
      const [x, y, w, h] = box.map((number, index) => (parts ? number * (index % 2 ? height : width) : number));
      context.strokeStyle = "#29b6f6";
      context.strokeRect(x, y, w, h);
      const text = [label, score === null ? "" : score.toFixed(2)].filter(Boolean).join(" ");
      if (!text) continue;
      const size = Math.max(12, width / 55) * 1.3;
      context.fillStyle = "#29b6f6";
      context.fillRect(x - line / 2, Math.max(0, y - size), context.measureText(text).width + size / 2, size);
      context.fillStyle = "#00131c";
      context.fillText(text, x + size / 4, Math.max(0, y - size) + size * 0.15);
    }
  }

  show(result) {
    const area = this.ui.results;
    const slot = (kind) => area.querySelector(`.avlab-${kind}`) ?? area.appendChild(element("div", { class: `avlab-${kind}` }));
    if (result.text !== undefined) slot("text").textContent = result.text;
    if (result.table) {
      const rows = Object.entries(result.table).map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value)));
      slot("table").replaceChildren(element("table", {}, ...rows));
    }
    if (result.number !== undefined) slot("plot").replaceChildren(element("b", {}, result.number.toPrecision(4)), plot(this.state.plot));
  }

  close() {
    this.send({ type: "bye" });
    clearInterval(this.ticker);
    clearTimeout(this.retry);
    this.watcher.disconnect();
    this.model.off("msg:custom", this.onMessage);
    document.removeEventListener("visibilitychange", this.onVisible);
    removeEventListener("pagehide", this.onLeave);
    this.direct?.close();
    this.messages.close();
    this.ui.video.srcObject = null;
  }
}

function plot(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const points = values.map((value, index) => `${index},${28 - (26 * (value - low)) / (high - low || 1)}`).join(" ");
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("viewBox", "0 0 120 30");
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", "the newest values");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points);
  picture.append(line);
  return picture;
}

function short(milliseconds) {
  if (!Number.isFinite(milliseconds)) return "–";
  return milliseconds < 1 ? milliseconds.toFixed(2) : milliseconds < 100 ? milliseconds.toFixed(1) : milliseconds.toFixed(0);
}

function percent(share) {
  return `${(share * 100).toFixed(0)} %`;
}

function lower(text) {
  return /^[A-Z][a-z]/.test(text) ? text[0].toLowerCase() + text.slice(1) : text;
}

function render({ model, el }) {
  const view = new View(model, el);
  return () => view.close();
}

export default { render };
