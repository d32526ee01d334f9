// The browser's side of Camera, Microphone and Screen. Nothing is captured before Start was pressed; what was started in this tab
// goes on after a reload of the page. Pictures and sound go as messages at once; a direct connection is tried beside them and takes
// over when something of it has come, again after it was lost. Plain ESM, not bundled.

const SILENT = 15000; // ms without a word from the kernel, and without a connection, after which the devices are let go
const ICONS = {
  start: "M8 5v14l11-7z",
  stop: "M6 6h12v12H6z",
  sound: "M12 3a3 3 0 0 1 3 3v6a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3zM6 11a6 6 0 0 0 12 0M12 17v4",
  muted: "M12 3a3 3 0 0 1 3 3v6a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3zM6 11a6 6 0 0 0 12 0M12 17v4M4 4l16 17",
  picture: "M3 7h12v10H3zM15 11l6-3.5v9L15 13z",
  hidden: "M3 7h12v10H3zM15 11l6-3.5v9L15 13zM3 4l18 17",
};

function build(actions) {
  const video = element("video", { playsinline: "", autoplay: "", class: "avlab-picture", "data-testid": "avlab-camera-picture", "aria-label": "Your own picture" });
  video.muted = true;
  const start = element("button", { type: "button", class: "avlab-begin", "data-testid": "avlab-camera-start", "aria-keyshortcuts": "s" }, "Start");
  start.addEventListener("click", actions.start);
  const stage = element("div", { class: "avlab-stage" }, video, start);
  const mute = button("mute", "avlab-camera-mute", "sound", "Mute the microphone", "m", actions.mute);
  const hide = button("hide", "avlab-camera-hide", "picture", "Hide the picture", "v", actions.hide);
  const stop = button("stop", "avlab-camera-stop", "stop", "Stop", "x", actions.stop);
  const level = meter("Level of the microphone");
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

class View {
  constructor(model, el) {
    this.model = model;
    this.name = newName();
    this.ui = build({
      start: () => this.start(), stop: () => this.halt(), mute: () => this.toggle("audio"), hide: () => this.toggle("video"), choose: (kind, id) => this.choose(kind, id),
    });
    el.append(this.ui.root);
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
    this.metering = setInterval(() => this.meter && this.ui.level.show(decibels(this.meter.level())), 100);
    this.heard = performance.now();
    this.ui.start.hidden = true;
    this.ui.bar.hidden = true;
    this.say("", "Connecting…");
    this.forget = keep(model, () => ({ label: this.ui.root.getAttribute("aria-label") ?? "Capture", poster: "", figures: [] })); // no picture of a person
    this.send({ type: "hello" });
  }

  send(content, buffers) {
    try {
      this.model.send({ ...content, view: this.name }, undefined, buffers);
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
      refused: () => message.n === undefined && (this.problem = message.reason),
      again: () => (message.hello ? this.send({ type: "hello" }) : this.connect()),
      over: () => this.over(message),
      status: () => this.told(message),
    }[message.type];
    act?.();
    this.way?.receive(message);
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
    if (!this.way && message.capturing !== this.name) this.connect();
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
    this.way?.close();
    this.way = this.capture?.stream && this.status?.wanted ? new Way(this) : null;
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
    this.way?.close();
    this.way = null;
    this.capture?.stop();
    this.meter?.close();
    this.meter = null;
    this.ui.video.srcObject = null;
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
      await this.way?.replace(track);
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
      this.figures = (await this.way?.figures()) ?? {};
      if (!this.way?.direct && this.status?.wanted && now - this.heard > SILENT) {
        this.letGo();
        this.problem = "The kernel does not answer: run the cell again.";
      }
    }
    if (!this.welcomed && now - this.heard > 2000) {
      this.heard = now; // the first word may get lost while the kernel is busy with its start
      this.send({ type: "hello" });
    }
    if ((this.way?.messages || now - (this.pinged ?? 0) > 5000) && this.welcomed && this.status?.wanted) {
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
    if (this.problem) return ["problem", "problem", this.problem];
    if (!on) {
      if (!status?.wanted) return ["idle", "", this.ending || "Nothing takes it yet: start a pipeline with it, before or after."];
      if (status.capturing && status.capturing !== this.name && status.state === "live") return ["elsewhere", "", "It is captured in another view."];
      return ["waiting", "", "The pipeline waits: press Start."];
    }
    if (!status?.wanted) return ["ready", "", "Ready: only this page sees it, until a pipeline is started."];
    if (status.state === "stalled") return ["stalled", "messages", "Nothing arrives in the kernel."];
    if (status.state !== "live" || status.capturing !== this.name) return ["connecting", "", this.way?.stuck || "Connecting to the kernel…"];
    const silent = [this.off.audio && capture(this, "audio") && "muted", this.off.video && capture(this, "video") && "picture hidden"].filter(Boolean);
    const { way, figures } = this;
    return ["live", way?.messages ? "messages" : "direct", `${[way?.said(figures?.relay) ?? "Connected", ...silent].join(", ")}.`];
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
    this.ui.status.replaceChildren(...listed(rows));
  }

  say(path, text) {
    if (this.ui.path.textContent !== text) this.ui.path.textContent = text;
    this.ui.path.dataset.path = path;
  }

  key(event) {
    const { start, mute, hide, stop } = this.ui;
    press(event, { s: start, m: mute, v: hide, x: stop });
  }

  close() {
    this.forget();
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
