// How what is captured reaches the kernel: as messages at once, and directly as soon as that stands.

const AGAIN = [500, 2000, 8000, 20000, 60000]; // ms between attempts to connect directly

class Way {
  constructor(view) {
    this.view = view;
    this.number = this.attempts = 0;
    this.reason = this.stuck = "";
    this.plain = false; // whether WebCodecs failed here
    this.carry();
    this.tryDirect();
  }

  carry() {
    this.messages = new Messages(this.view, ++this.number, this.plain, (reason) => this.cannot(reason));
  }

  cannot(reason) {
    this.messages = null;
    if (this.plain) this.stuck = `The browser cannot send messages (${reason}).`;
    else {
      this.plain = true;
      this.carry();
    }
  }

  tryDirect() {
    if (!globalThis.RTCPeerConnection) {
      this.reason = "this browser has no WebRTC";
      return;
    }
    try {
      this.connection = new Connection(this.view, ++this.number, (reason) => this.lost(reason));
    } catch (error) {
      this.lost(`The browser refused: ${error.message}`);
    }
  }

  lost(reason) {
    this.connection = null;
    this.reason = reason;
    if (!this.messages) this.carry();
    this.retry = setTimeout(() => this.tryDirect(), AGAIN[Math.min(this.attempts++, AGAIN.length - 1)]);
    this.view.draw();
  }

  get direct() {
    return !this.messages && Boolean(this.connection?.up);
  }

  receive(message) {
    const mine = this.connection?.number === message.n;
    const act = {
      answer: () => mine && this.connection.answered(message.sdp),
      refused: () => mine && this.connection.fail(message.reason.replace(/\.$/, "")),
      ack: () => this.messages?.receive(message),
      key: () => this.messages?.receive(message),
      path: () => this.taken(),
      status: () => message.state === "stalled" && this.direct && this.connection.fail("Nothing arrived on the direct path"),
    }[message.type];
    act?.();
  }

  // The kernel takes what comes directly from now on.
  taken() {
    if (!this.connection?.up) return;
    this.messages?.close();
    this.messages = null;
    this.attempts = 0;
  }

  async replace(track) {
    this.messages?.replace(track);
    await this.connection?.replace(track);
  }

  async figures() {
    if (this.messages) return this.messages.figures();
    return this.connection?.up ? this.connection.figures().catch(() => ({})) : {};
  }

  // In one sentence, without its full stop.
  said(relay) {
    if (!this.messages) return relay ? `Connected through ${relay}` : "Connected directly";
    const remedy = this.view.welcomed.ice.length || !globalThis.RTCPeerConnection ? "" : " (a TURN server may help: ice_servers=)";
    const why = this.connection ? "a direct path is being tried" : `${lower(this.reason)}${remedy}`;
    return `Through the notebook's own connection: ${why}`;
  }

  close() {
    clearTimeout(this.retry);
    for (const each of [this.connection, this.messages]) each?.close();
    this.connection = this.messages = null;
  }
}
