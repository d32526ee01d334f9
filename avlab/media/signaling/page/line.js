// The way to one script in the room: one peer connection, replaced by another when nothing comes for 5 s.
import { offer } from "./repair.js";

const BEAT = 500, STALLED = 2000, LOST = 5000, CONNECTING = 15000, ASKING = 3000; // ms

export class Line {
  constructor({ role, stream, signal, media, changed }) {
    Object.assign(this, { role, stream, signal, media, changed });
    this.generation = 0;
    this.path = "";
    this.timer = setInterval(() => this.watch(), BEAT);
  }

  async call() {
    if (this.pc !== this.standing) this.pc?.close(); // it never stood: nothing comes of it any more
    const generation = ++this.generation;
    this.heardAt = performance.now();
    this.limit = CONNECTING;
    const iceServers = await this.servers();
    if (generation !== this.generation || this.closed) return;
    const pc = (this.pc = new RTCPeerConnection({ iceServers }));
    this.bytes = -1;
    this.control = pc.createDataChannel("avlab.control", { negotiated: true, id: 0 });
    this.control.onmessage = () => { this.heardAt = performance.now(); };
    pc.createDataChannel("avlab.items", { negotiated: true, id: 2 });
    if (this.role === "camera") for (const track of this.stream.getTracks()) pc.addTrack(track, this.stream);
    else for (const kind of ["video", "audio"]) pc.addTransceiver(kind, { direction: "recvonly" });
    const received = new MediaStream();
    pc.ontrack = ({ track }) => {
      received.addTrack(track);
      if (this.role === "view") this.media(received);
    };
    pc.onicecandidate = ({ candidate }) => {
      if (candidate) this.signal({ kind: "candidate", generation, candidate: candidate.toJSON() });
    };
    pc.onconnectionstatechange = () => this.state(pc);
    await offer(pc);
    this.signal({ kind: "offer", role: this.role, generation, sdp: pc.localDescription.sdp });
  }

  // The relays that the script uses, with credentials for now; none when it does not say.
  servers() {
    this.signal({ kind: "servers" });
    return new Promise((resolve) => {
      this.told = resolve;
      setTimeout(resolve, ASKING, []);
    });
  }

  async heard(data) {
    if (data.kind === "servers") return this.told?.(data.servers);
    if (data.generation !== this.generation) return;
    if (data.kind === "answer") await this.pc.setRemoteDescription({ type: "answer", sdp: data.sdp });
    else if (data.kind === "renew") this.call();
  }

  async state(pc) {
    if (pc !== this.pc) return;
    if (pc.connectionState === "connected") {
      if (this.standing !== pc) this.standing?.close(); // it may have brought something until now
      this.standing = pc;
      this.limit = LOST;
      this.path = pathOf(await pc.getStats());
      this.changed(this.role === "camera" ? "Sending." : "Connected.");
    } else if (pc.connectionState === "failed") this.call();
  }

  async watch() {
    if (this.control?.readyState === "open") this.control.send(".");
    const pc = this.pc;
    if (!pc) return;
    const reports = await pc.getStats();
    for (const report of reports.values())
      if (report.type === "transport" && report.bytesReceived !== this.bytes) {
        this.bytes = report.bytesReceived;
        this.heardAt = performance.now();
      }
    const quiet = performance.now() - this.heardAt;
    if (pc !== this.pc) return;
    if (!this.path && this.limit === LOST && (this.path = pathOf(reports))) this.changed(); // reports may be older than the connection
    if (quiet > this.limit) {
      this.changed("The connection is lost: making another one.");
      this.call();
    } else if (quiet > STALLED && this.limit === LOST) this.changed("Nothing comes from the other side.");
  }

  close() {
    clearInterval(this.timer);
    this.closed = true;
    this.pc?.close();
    this.standing?.close();
    this.pc = this.standing = null;
  }
}

function pathOf(reports) {
  for (const report of reports.values())
    if (report.type === "transport" && report.selectedCandidatePairId) {
      const local = reports.get(reports.get(report.selectedCandidatePairId)?.localCandidateId);
      return local?.candidateType === "relay" ? `Connected through a relay (turn ${local.relayProtocol}).` : "Connected directly.";
    }
  return "";
}
