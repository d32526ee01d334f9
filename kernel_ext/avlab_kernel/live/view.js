// The browser's side of a live view. The picture comes as messages at once (H.264 through WebCodecs, JPEG where there is none);
// a direct connection is tried beside them and takes over when it shows pictures. Plain ESM, not bundled.

const STALLED = 2000; // ms without a picture on the direct path after which messages take over again
const ALONE = 3000; // ms without an answer after which a view says so, as in a saved notebook
const POSTER = 640; // pixels of width that a saved notebook keeps of the last picture
const AGAIN = [10000, 20000, 40000, 60000]; // ms between attempts

class View {
  constructor(model, el) {
    this.model = model;
    this.name = newName();
    this.ui = build({
      pause: () => this.pause(), mute: () => this.mute(), snapshot: () => this.snapshot(),
      record: () => this.send({ type: "record", on: !this.state.recording }), stop: () => this.send({ type: "stop" }),
    });
    el.append(this.ui.root);
    this.state = { status: null, last: 0, came: 0, frames: 0, fps: 0, spent: [], visible: true, paused: false, attempts: 0, reason: "" };
    this.path = "";
    this.results = new Results(this.ui.over, this.ui.results);
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
    this.began = this.heard = performance.now();
    this.probe = typeof Probe === "undefined" ? null : new Probe(this); // see probe.js
    this.forget = keep(model, () => this.remains());
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
    this.barred = "";
    this.visibility(true);
    this.tryDirect();
  }

  again() {
    if (performance.now() - (this.asked ?? -1e9) < 2000) return;
    this.asked = performance.now();
    this.hello();
  }

  refused(message) {
    if (message.final) this.barred = message.reason;
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
      this.direct = new Direct(this, this.welcomed, (frame, spent, pictures) => this.shown("direct", frame, spent, pictures), (reason) => this.noDirect(reason));
    } catch (error) {
      this.noDirect(`The browser refused: ${error.message}`);
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

  shown(path, frame, spent, pictures = 1) {
    if (path === "direct" && this.path !== "direct") this.go("direct");
    if (path === "messages" && this.path === "direct") return;
    if (path === "messages" && !this.path) this.go("messages");
    const state = this.state;
    state.came = performance.now();
    state.frames += pictures;
    state.total = (state.total ?? 0) + pictures;
    if (spent !== null && spent >= 0) state.spent.push(spent);
    if (path === "messages") state.age = frame.age;
    const origin = state.status?.views?.[this.name]?.origins?.video;
    const pts = path === "messages" ? frame.pts : Number.isFinite(origin) && frame.rtpTimestamp !== undefined ? (frame.rtpTimestamp - origin) >>> 0 : null;
    this.ui.poster.hidden = true;
    this.ui.root.dataset.frames = state.total;
    this.results.draw(pts, this.size());
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
    this.ui.snapshot.disabled = !state.total && this.ui.poster.hidden;
    this.guard(now);
    this.explain(now, mine, direct);
    this.figures(direct);
    drawHops(this.ui, state.status ?? {}, { before: age, way, browser: spent }, state.delay);
    if (this.welcomed && now - (this.told ?? 0) > 1000) {
      this.told = now;
      const figures = { path: this.path, fps: state.fps, delay: state.delay ?? null, parts: { before: age ?? null, way: way ?? null, browser: spent }, ...direct };
      this.send({ type: "figures", ...figures });
    }
  }

  guard(now) {
    const { state } = this;
    if (this.path === "direct" && this.looking() && !state.ended && now - state.came > STALLED && this.moving()) {
      this.direct?.fail("No picture came for 2 seconds");
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
    if (this.barred) return this.say("", this.barred);
    if (state.ended) return this.say("", `The pipeline has ended${state.status.failed ? `: ${state.status.failed}` : "."}`);
    if (state.paused) return this.say(this.path, "Paused.");
    if (this.heard && now - this.heard > 5000 && now - state.came > 5000) return this.say("", "The kernel does not answer.");
    if (!this.welcomed && now - this.began > ALONE) {
      for (const each of [this.ui.record, this.ui.stop, this.ui.pause]) each.disabled = true; // until a status comes
      return this.say("", "Nothing answers: the kernel is busy, or gone (then run the cell again).");
    }
    const silent = String(state.status?.tracks) !== "audio";
    if (!this.path) return this.say("", state.status?.problem || (silent ? "Waiting for the first picture…" : "Sound comes, and no picture."));
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
    const note = message.recording ? `● ${message.recording}` : message.unsaved ? message.unsaved : message.recorded && message.recorded !== this.saved ? `Saved ${message.recorded}` : "";
    if (message.recorded && !message.recording && !message.unsaved && note) setTimeout(() => (this.saved = message.recorded), 4000);
    ui.note.textContent = note;
    for (const each of [ui.record, ui.stop, ui.pause]) each.disabled = state.ended;
    const silent = !message.tracks.includes("audio");
    ui.mute.hidden = ui.level.hidden = silent;
    ui.level.show(decibels(state.ended ? 0 : message.level));
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
    if (!state.ended) this.rows = rows;
    this.ui.status.replaceChildren(...listed(rows));
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

  // What is seen now, with what is drawn over it, at most so wide; null before the first picture.
  still(most = Infinity) {
    const { video, canvas, poster, over } = this.ui;
    const source = this.path === "direct" ? video : this.state.total ? canvas : poster;
    const [width, height] = [source.videoWidth || source.naturalWidth || source.width, source.videoHeight || source.naturalHeight || source.height];
    if (!width || (source === poster && poster.hidden)) return null;
    const scale = Math.min(1, most / width);
    const made = element("canvas");
    [made.width, made.height] = [Math.round(width * scale), Math.round(height * scale)];
    for (const part of [source, over]) if (part.width || part.videoWidth) made.getContext("2d").drawImage(part, 0, 0, made.width, made.height);
    return made;
  }

  snapshot() {
    this.still()?.toBlob((blob) => {
      const link = element("a", { download: "preview.png", href: URL.createObjectURL(blob) });
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }

  remains() {
    return { label: "Live view", poster: this.still(POSTER)?.toDataURL("image/jpeg", 0.7) ?? "", figures: this.rows ?? [] };
  }

  key(event) {
    const { pause, mute, snapshot, record, stop } = this.ui;
    press(event, { k: pause, m: mute, s: snapshot, r: record, x: stop });
  }

  drawPoster() {
    const poster = this.model.get("poster");
    this.ui.poster.hidden = !poster;
    if (poster) this.ui.poster.src = poster;
  }

  async result(message, mask) {
    await this.results.add(message, mask);
    if (!this.path) this.results.draw(null, this.size());
  }

  size() {
    return this.state.status?.size ?? [0, 0];
  }

  close() {
    this.forget();
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

function render({ model, el }) {
  const view = new View(model, el);
  return () => view.close();
}

export default { render };
