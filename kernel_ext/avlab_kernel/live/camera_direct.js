// The direct path of a source in the browser: one WebRTC connection to the kernel. `failed(reason)` is called once, when it does not
// stand or breaks.

const PATIENCE = 6000; // ms in which a connection must stand

class Connection {
  constructor(view, number, failed) {
    this.view = view;
    this.number = number;
    this.failed = failed;
    this.peer = new RTCPeerConnection({ iceServers: view.welcomed.ice });
    this.senders = {};
    this.timer = setTimeout(() => this.fail("The direct path did not stand"), PATIENCE);
    this.start().catch((error) => this.fail(`The browser refused: ${error.message}`));
  }

  async start() {
    const { peer, view } = this;
    const { capture } = view;
    for (const kind of capture.ask.tracks) {
      const track = capture.track(kind);
      if (!track) continue;
      const encodings = kind === "video" ? [{ maxBitrate: view.welcomed.bit_rate.direct }] : undefined;
      const transceiver = peer.addTransceiver(track, { direction: "sendonly", streams: [capture.stream], sendEncodings: encodings });
      if (kind === "video" && transceiver.setCodecPreferences) {
        const codecs = RTCRtpReceiver.getCapabilities("video").codecs;
        const rank = (codec) => ["video/VP8", "video/H264"].indexOf(codec.mimeType) >>> 0;
        transceiver.setCodecPreferences(codecs.filter((codec) => ["video/VP8", "video/H264", "video/rtx"].includes(codec.mimeType)).sort((a, b) => rank(a) - rank(b)));
      }
      this.senders[kind] = transceiver.sender;
    }
    peer.onconnectionstatechange = () => {
      clearTimeout(this.wait);
      if (peer.connectionState === "connected") clearTimeout(this.timer);
      if (["failed", "closed"].includes(peer.connectionState)) this.fail("The direct path broke");
      if (peer.connectionState === "disconnected") this.wait = setTimeout(() => this.fail("The direct path broke"), 2000);
      view.draw();
    };
    const sdp = await describe(peer, (candidate) => view.send({ type: "candidate", n: this.number, candidate }));
    view.send({ type: "offer", n: this.number, sdp });
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
        found.relay = relayOf(reports, report);
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
