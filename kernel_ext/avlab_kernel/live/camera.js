// The browser's side of Camera, Microphone and Screen. Nothing is captured before Start was pressed; what was started in this tab
// goes on after a reload of the page. This side makes the offers, a new one whenever the connection is lost. Plain ESM, not bundled.

const PATIENCE = 6000; // ms in which a connection must stand
const AGAIN = [500, 1000, 2000, 4000, 8000]; // ms between attempts
const SILENT = 15000; // ms without a word from the kernel, and without a connection, after which the devices are let go
const ICONS = {
  start: "M8 5v14l11-7z",
  stop: "M6 6h12v12H6z",
  sound: "M12 3a3 3 0 0 1 3 3v6a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3zM6 11a6 6 0 0 0 12 0M12 17v4",
  muted: "M12 3a3 3 0 0 1 3 3v6a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3zM6 11a6 6 0 0 0 12 0M12 17v4M4 4l16 17",
  picture: "M3 7h12v10H3zM15 11l6-3.5v9L15 13z",
  hidden: "M3 7h12v10H3zM15 11l6-3.5v9L15 13zM3 4l18 17",
};
const WORDS = {
  camera: { thing: "camera", video: "videoinput", audio: "audioinput" },
  microphone: { thing: "microphone", audio: "audioinput" },
  screen: { thing: "screen" },
};

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function button(name, icon, label, key, action) {
  const made = element("button", { type: "button", class: `avlab-button avlab-${name}`, "data-testid": `avlab-camera-${name}` });
  made.face = (shape, text) => {
    made.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${ICONS[shape]}"/></svg>`;
    made.title = `${text} (${key.toUpperCase()})`;
    made.setAttribute("aria-label", text);
  };
  made.face(icon, label);
  made.setAttribute("aria-keyshortcuts", key);
  made.addEventListener("click", action);
  return made;
}

function build(actions) {
  const video = element("video", { playsinline: "", autoplay: "", class: "avlab-picture", "data-testid": "avlab-camera-picture", "aria-label": "Your own picture" });
  video.muted = true;
  const start = element("button", { type: "button", class: "avlab-begin", "data-testid": "avlab-camera-start", "aria-keyshortcuts": "s" }, "Start");
  start.addEventListener("click", actions.start);
  const stage = element("div", { class: "avlab-stage" }, video, start);
  const mute = button("mute", "sound", "Mute the microphone", "m", actions.mute);
  const hide = button("hide", "picture", "Hide the picture", "v", actions.hide);
  const stop = button("stop", "stop", "Stop", "x", actions.stop);
  const level = element("div", {
    class: "avlab-level", role: "meter", "aria-label": "Level of the microphone", "aria-valuemin": "-60", "aria-valuemax": "0", "aria-valuenow": "-60",
  }, element("div"));
  const menus = Object.fromEntries(["video", "audio"].map((kind) => {
    const menu = element("select", { class: "avlab-menu", "aria-label": kind === "video" ? "Camera" : "Microphone", "data-testid": `avlab-camera-${kind}-menu` });
    menu.addEventListener("change", () => actions.choose(kind, menu.value));
    return [kind, menu];
  }));
  const bar = element("div", { class: "avlab-bar", role: "toolbar", "aria-label": "Capture" },
    mute, level, hide, menus.video, menus.audio, element("span", { class: "avlab-space" }), stop);
  const status = element("div", { class: "avlab-status", "data-testid": "avlab-camera-status", role: "group", "aria-label": "Figures" });
  const path = element("span", { class: "avlab-path", "data-testid": "avlab-camera-said", "data-path": "" });
  const said = element("div", { class: "avlab-said", role: "status", "aria-live": "polite" }, path);
  const root = element("div", {
    class: "avlab-preview avlab-camera", "data-testid": "avlab-camera", role: "region", tabindex: "0", "data-lm-suppress-shortcuts": "true", "data-state": "",
  }, stage, bar, status, said);
  return { root, stage, video, start, mute, hide, stop, level, menus, bar, status, path };
}

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
  if (!globalThis.RTCPeerConnection) return "This browser has no WebRTC: use another one, or allow it in its settings.";
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

// One connection to the kernel. `failed(reason)` is called once, when it does not stand or breaks.
class Connection {
  constructor(view, number, failed) {
    this.view = view;
    this.number = number;
    this.failed = failed;
    this.peer = new RTCPeerConnection({ iceServers: view.welcomed.ice });
    this.senders = {};
    this.timer = setTimeout(() => this.fail("No direct path to the kernel"), PATIENCE);
    this.start().catch((error) => this.fail(`The browser refused: ${error.message}`));
  }

  async start() {
    const { peer, view } = this;
    const { capture } = view;
    for (const kind of capture.ask.tracks) {
      const track = capture.track(kind);
      if (!track) continue;
      const encodings = kind === "video" ? [{ maxBitrate: view.welcomed.bit_rate }] : undefined;
      const transceiver = peer.addTransceiver(track, { direction: "sendonly", streams: [capture.stream], sendEncodings: encodings });
      if (kind === "video" && transceiver.setCodecPreferences) {
        const codecs = RTCRtpReceiver.getCapabilities("video").codecs;
        const rank = (codec) => ["video/VP8", "video/H264"].indexOf(codec.mimeType) >>> 0;
        transceiver.setCodecPreferences(codecs.filter((codec) => ["video/VP8", "video/H264", "video/rtx"].includes(codec.mimeType)).sort((a, b) => rank(a) - rank(b)));
      }
      this.senders[kind] = transceiver.sender;
    }
    peer.onicecandidate = ({ candidate }) => candidate && this.offered && view.send({ type: "candidate", n: this.number, candidate: candidate.toJSON() });
    peer.onconnectionstatechange = () => {
      clearTimeout(this.wait);
      if (peer.connectionState === "connected") clearTimeout(this.timer);
      if (["failed", "closed"].includes(peer.connectionState)) this.fail("The connection broke");
      if (peer.connectionState === "disconnected") this.wait = setTimeout(() => this.fail("The connection broke"), 2000);
      view.draw();
    };
    await offer(peer); // see repair.js
    await Promise.race([
      new Promise((done) => (peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && done())),
      new Promise((done) => setTimeout(done, 150)),
    ]);
    this.offered = true;
    view.send({ type: "offer", n: this.number, sdp: peer.localDescription.sdp });
  }

  async answered(sdp) {
    try {
      await this.peer.setRemoteDescription({ type: "answer", sdp });
      // Where something must give, pictures are left out rather than made smaller. Browsers without this setting ignore it.
      const sender = this.senders.video;
      await sender?.setParameters({ ...sender.getParameters(), degradationPreference: "maintain-resolution" }).catch(() => {});
    } catch (error) {
      this.fail(`The browser refused: ${error.message}`);
    }
  }

  get up() {
    return !this.dead && this.peer.connectionState === "connected";
  }

  replace(track) {
    return this.senders[track.kind]?.replaceTrack(track);
  }

  async figures() {
    const found = {};
    const reports = await this.peer.getStats();
    reports.forEach((report) => {
      if (report.type === "outbound-rtp" && report.kind === "video") {
        Object.assign(found, { width: report.frameWidth, height: report.frameHeight, sent: report.framesSent, fps: report.framesPerSecond, limit: report.qualityLimitationReason });
      }
      if (report.type === "candidate-pair" && report.nominated) {
        const local = reports.get(report.localCandidateId);
        found.relay = local?.candidateType === "relay" ? `TURN ${(local.relayProtocol ?? "udp").toUpperCase()}` : "";
      }
    });
    return found;
  }

  fail(reason) {
    if (this.dead) return;
    this.close();
    this.failed(reason);
  }

  close() {
    this.dead = true;
    clearTimeout(this.timer);
    clearTimeout(this.wait);
    this.peer.close();
  }
}

// How loud a track is, in decibels below full scale.
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
    const power = this.samples.reduce((sum, sample) => sum + sample * sample, 0) / this.samples.length;
    return power > 0 ? Math.max(-60, 10 * Math.log10(power)) : -60;
  }

  close() {
    this.context.close();
  }
}

class View {
  constructor(model, el) {
    this.model = model;
    this.name = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2);
    this.ui = build({
      start: () => this.start(), stop: () => this.halt(), mute: () => this.toggle("audio"), hide: () => this.toggle("video"), choose: (kind, id) => this.choose(kind, id),
    });
    el.append(this.ui.root);
    this.number = 0;
    this.attempts = 0;
    this.off = { audio: false, video: false };
    this.problem = "";
    this.onMessage = (message) => this.receive(message);
    model.on("msg:custom", this.onMessage);
    this.onLeave = () => {
      this.leaving = true;
      this.send({ type: "bye", removed: false });
    };
    this.onShow = () => {
      this.leaving = false;
      this.send({ type: "hello" });
    };
    addEventListener("pagehide", this.onLeave);
    addEventListener("pageshow", this.onShow);
    this.onDevices = () => this.fill();
    navigator.mediaDevices?.addEventListener("devicechange", this.onDevices);
    this.ui.root.addEventListener("keydown", (event) => this.key(event));
    this.ticker = setInterval(() => this.tick(), 500);
    this.metering = setInterval(() => this.meter && this.drawLevel(this.meter.level()), 100);
    this.heard = performance.now();
    this.ui.start.hidden = true;
    this.ui.bar.hidden = true;
    this.say("", "Connecting…");
    this.send({ type: "hello" });
  }

  send(content) {
    try {
      this.model.send({ ...content, view: this.name });
    } catch {
      this.problem = "The kernel is gone: run the cell again.";
    }
  }

  receive(message) {
    if (message.view && message.view !== this.name) return;
    this.heard = performance.now();
    const act = {
      welcome: () => this.welcome(message),
      ice: () => this.welcomed && (this.welcomed.ice = message.ice),
      answer: () => this.connection?.number === message.n && this.connection.answered(message.sdp),
      refused: () => this.refused(message),
      again: () => (message.hello ? this.send({ type: "hello" }) : this.connect()),
      over: () => this.over(message),
      status: () => this.told(message),
    }[message.type];
    act?.();
  }

  welcome(message) {
    const first = !this.welcomed;
    this.welcomed = message;
    if (!this.capture?.stream) this.capture = new Capture(message.ask, (what, track) => this.changed(what, track));
    const { thing } = this.capture.words;
    this.ui.root.setAttribute("aria-label", `Capture of the ${thing}`);
    this.ui.root.dataset.kind = message.ask.kind;
    this.ui.stage.style.aspectRatio = message.ask.kind === "microphone" ? "" : message.ask.size ? message.ask.size.join(" / ") : "16 / 9";
    this.problem = insecure(thing);
    this.told(message);
    if (first && !this.problem) this.resume(message);
    this.draw();
  }

  // Go on with what was started in this tab before the page was loaded again; a screen needs a click each time.
  async resume(message) {
    const kept = this.keep();
    if (!kept || !message.wanted || message.ask.kind === "screen") return;
    Object.assign(this.capture.chosen, kept.chosen);
    Object.assign(this.off, kept.off);
    await this.start();
  }

  keep(value) {
    const key = `avlab:${this.welcomed?.source}`;
    try {
      if (value === undefined) return JSON.parse(sessionStorage.getItem(key));
      if (value) sessionStorage.setItem(key, JSON.stringify(value));
      else sessionStorage.removeItem(key);
    } catch {
      return null; // storage is refused: nothing is resumed
    }
    return null;
  }

  told(message) {
    this.status = message;
    if (message.wanted && this.capture?.stream && !this.connection && !this.retry && message.capturing !== this.name) this.connect();
    this.draw();
  }

  async start() {
    const { capture } = this;
    if (!capture || capture.stream || this.starting) return;
    this.starting = true;
    this.problem = insecure(capture.words.thing);
    if (!this.problem) {
      this.say("", capture.ask.kind === "screen" ? "Choose what to share…" : "The browser asks for permission…");
      try {
        await capture.start();
      } catch (error) {
        this.problem = remedy(error, capture.words.thing);
      }
    }
    this.starting = false;
    if (this.closed) return capture.stop();
    if (capture.stream) this.started();
    this.draw();
  }

  started() {
    const { capture, ui } = this;
    ui.video.srcObject = capture.track("video") ? new MediaStream([capture.track("video")]) : null;
    for (const kind of ["audio", "video"]) this.apply(kind);
    this.listen();
    this.fill();
    this.remember();
    if (capture.wants("audio") && !capture.track("audio")) this.problem = "Nothing is heard: share a tab, with its sound.";
    if (this.status?.wanted) this.connect();
  }

  remember() {
    this.keep({ chosen: this.capture.chosen, off: this.off });
  }

  listen() {
    this.meter?.close();
    const track = this.capture.track("audio");
    this.meter = track ? new Meter(track) : null;
  }

  connect() {
    clearTimeout(this.retry);
    this.retry = null;
    this.connection?.close();
    this.connection = null;
    if (!this.capture?.stream || !this.status?.wanted) return;
    this.connection = new Connection(this, ++this.number, (reason) => this.lost(reason));
    this.draw();
  }

  lost(reason) {
    this.connection = null;
    this.problem = `${reason}: trying again${this.welcomed.ice.length ? "" : " (where the kernel is behind a proxy, give ice_servers= with a TURN server)"}.`;
    this.retry = setTimeout(() => this.connect(), AGAIN[Math.min(this.attempts++, AGAIN.length - 1)]);
    this.draw();
  }

  refused(message) {
    if (message.n === undefined) this.problem = message.reason;
    else if (message.n === this.connection?.number) this.connection.fail(message.reason.replace(/\.$/, ""));
    this.draw();
  }

  over(message) {
    const had = this.capture?.stream;
    this.status = message;
    this.letGo();
    this.keep(null);
    this.ending = had ? message.reason : this.ending ?? "";
    this.draw();
  }

  letGo() {
    clearTimeout(this.retry);
    this.retry = null;
    this.connection?.close();
    this.connection = null;
    this.capture?.stop();
    this.meter?.close();
    this.meter = null;
    this.ui.video.srcObject = null;
    this.attempts = 0;
  }

  halt() {
    if (!this.capture?.stream) return;
    this.send({ type: "stop" });
    this.letGo();
    this.keep(null);
    this.problem = "";
    this.ending = "Stopped.";
    this.draw();
  }

  changed(what, track) {
    const { capture } = this;
    if (capture.ask.kind === "screen" && track.kind === "video") return this.halt();
    this.letGo();
    this.problem = `The ${track.kind === "video" ? "camera" : "microphone"} was taken away: choose another one with Start.`;
    capture.chosen = {};
    this.draw();
  }

  async choose(kind, id) {
    try {
      const track = await this.capture.choose(kind, id);
      await this.connection?.replace(track);
      this.problem = "";
      if (kind === "video") this.ui.video.srcObject = new MediaStream([track]);
      else this.listen();
      this.remember();
    } catch (error) {
      this.problem = remedy(error, kind === "video" ? "camera" : "microphone");
    }
    this.fill();
    this.draw();
  }

  // The device menus; names are known once permission was given.
  async fill() {
    const { capture, ui } = this;
    if (!capture?.stream || capture.ask.kind === "screen") return;
    const all = await navigator.mediaDevices.enumerateDevices().catch(() => []);
    for (const kind of ["video", "audio"]) {
      const track = capture.track(kind);
      const devices = all.filter((each) => each.kind === capture.words[kind] && each.label);
      ui.menus[kind].hidden = !track || devices.length < 1;
      const options = devices.map((each, index) => element("option", { value: each.deviceId }, each.label || `Device ${index + 1}`));
      ui.menus[kind].replaceChildren(...options);
      if (track) ui.menus[kind].value = track.getSettings().deviceId ?? "";
    }
  }

  toggle(kind) {
    if (!this.capture?.track(kind)) return;
    this.off[kind] = !this.off[kind];
    this.apply(kind);
    this.remember();
    this.draw();
  }

  apply(kind) {
    const off = this.off[kind];
    const track = this.capture.track(kind);
    if (track) track.enabled = !off;
    const { mute, hide } = this.ui;
    const control = kind === "audio" ? mute : hide;
    if (kind === "audio") mute.face(off ? "muted" : "sound", off ? "Let the microphone be heard" : "Mute the microphone");
    else hide.face(off ? "hidden" : "picture", off ? "Show the picture" : "Hide the picture");
    control.setAttribute("aria-pressed", String(off));
  }

  async tick() {
    const now = performance.now();
    if (this.capture?.stream) {
      const figures = this.connection ? await this.connection.figures().catch(() => ({})) : {};
      this.figures = figures;
      if (this.connection?.up) {
        if (this.problem.includes("trying again")) this.problem = "";
        this.attempts = 0;
      } else if (this.status?.wanted && now - this.heard > SILENT) {
        this.letGo();
        this.problem = "The kernel does not answer: run the cell again.";
      }
    }
    if (!this.welcomed && now - this.heard > 2000) {
      this.heard = now; // the first word may get lost while the kernel is busy with its start
      this.send({ type: "hello" });
    }
    if (now - (this.pinged ?? 0) > 5000 && this.welcomed && this.status?.wanted) {
      this.pinged = now;
      this.send({ type: "here" });
    }
    this.draw();
  }

  draw() {
    const { ui, capture, status, welcomed } = this;
    if (this.closed || !welcomed) return;
    const on = Boolean(capture.stream);
    ui.start.hidden = on;
    ui.start.disabled = Boolean(insecure(capture.words.thing)) || Boolean(this.starting);
    ui.start.textContent = `Start the ${capture.words.thing}`;
    ui.bar.hidden = !on;
    ui.mute.hidden = ui.level.hidden = !capture.track("audio");
    ui.hide.hidden = !capture.track("video");
    ui.menus.video.hidden ||= !capture.track("video");
    ui.menus.audio.hidden ||= !capture.track("audio");
    ui.root.classList.toggle("avlab-off", this.off.video);
    const [state, path, text] = this.explain(on, status);
    ui.root.dataset.state = state;
    this.say(path, text);
    this.drawFigures(on, status);
  }

  explain(on, status) {
    const up = on && this.connection?.up;
    if (this.problem) return ["problem", "problem", this.problem];
    if (!on) {
      if (!status?.wanted) return ["idle", "", this.ending || "Nothing takes it yet: start a pipeline with it, before or after."];
      if (status.capturing && status.capturing !== this.name && status.state === "live") return ["elsewhere", "", "It is captured in another view."];
      return ["waiting", "", "The pipeline waits: press Start."];
    }
    if (!status?.wanted) return ["ready", "", "Ready: only this page sees it, until a pipeline is started."];
    if (!up) return ["connecting", "", "Connecting to the kernel…"];
    const silent = [this.off.audio && capture(this, "audio") && "muted", this.off.video && capture(this, "video") && "picture hidden"].filter(Boolean);
    const way = this.figures?.relay ? `Connected through ${this.figures.relay}` : "Connected directly";
    if (status.state === "stalled") return ["stalled", "messages", "Nothing arrives in the kernel."];
    return ["live", "direct", `${[way, ...silent].join(", ")}.`];
  }

  drawFigures(on, status) {
    const rows = [];
    const { figures, capture: captured } = this;
    const settings = captured.track("video")?.getSettings();
    if (on && settings) rows.push(["captured", `${settings.width}×${settings.height} at ${Math.round(settings.frameRate ?? 0)} fps`]);
    if (on && figures?.width) rows.push(["sent", `${figures.width}×${figures.height} at ${Math.round(figures.fps ?? 0)} fps`]);
    if (on && status?.wanted && status.video) rows.push(["arrives", `${status.size[0]}×${status.size[1]} at ${Math.round(status.fps)} fps`]);
    if (on && status?.wanted && status.audio) rows.push(["sound", `${(status.audio / 50).toFixed(0)} s`]);
    if (on && status?.dropped) rows.push(["drops", String(status.dropped)]);
    const limit = { cpu: "this computer is busy", bandwidth: "the connection is slow" }[figures?.limit];
    if (on && limit) rows.push(["reduced", limit]);
    this.ui.status.hidden = !rows.length;
    this.ui.status.replaceChildren(...rows.map(([name, value]) => element("span", { class: "avlab-figure" }, element("span", {}, name), element("b", {}, value))));
  }

  drawLevel(decibels) {
    const { level } = this.ui;
    level.firstChild.style.transform = `scaleX(${1 + decibels / 60})`;
    level.setAttribute("aria-valuenow", decibels.toFixed(0));
    level.setAttribute("aria-valuetext", `${decibels.toFixed(0)} dB`);
  }

  say(path, text) {
    if (this.ui.path.textContent !== text) this.ui.path.textContent = text;
    this.ui.path.dataset.path = path;
  }

  key(event) {
    event.stopPropagation(); // the notebook's own shortcuts stay out of it
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.tagName === "SELECT") return;
    const { start, mute, hide, stop } = this.ui;
    const pressed = { s: start, m: mute, v: hide, x: stop }[event.key.toLowerCase()];
    if (pressed && !pressed.disabled && !pressed.hidden && !pressed.closest("[hidden]")) {
      event.preventDefault();
      pressed.click();
    }
  }

  close() {
    this.letGo();
    this.closed = true;
    if (!this.leaving) {
      this.send({ type: "bye", removed: true });
      this.keep(null);
    }
    clearInterval(this.ticker);
    clearInterval(this.metering);
    this.model.off("msg:custom", this.onMessage);
    removeEventListener("pagehide", this.onLeave);
    removeEventListener("pageshow", this.onShow);
    navigator.mediaDevices?.removeEventListener("devicechange", this.onDevices);
  }
}

function capture(view, kind) {
  return Boolean(view.capture.track(kind));
}

function render({ model, el }) {
  const view = new View(model, el);
  return () => view.close();
}

export default { render };
