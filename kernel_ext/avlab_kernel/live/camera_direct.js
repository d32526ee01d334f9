// The direct path of a source in the browser.

const PATIENCE = 6000; // ms in which a connection must stand

class Connection extends Attempt {
  constructor(view, number, failed) {
    super(view, view.welcomed.ice, failed);
    this.number = number;
    this.senders = {};
    this.timer = setTimeout(() => this.fail("The direct path did not stand"), PATIENCE);
    this.start().catch((error) => this.refused(error));
  }

  async start() {
    const { connection, view } = this;
    const { capture } = view;
    for (const kind of capture.ask.tracks) {
      const track = capture.track(kind);
      if (!track) continue;
      const encodings = kind === "video" ? [{ maxBitrate: view.welcomed.bit_rate.direct }] : undefined;
      const transceiver = connection.addTransceiver(track, { direction: "sendonly", streams: [capture.stream], sendEncodings: encodings });
      if (kind === "video" && transceiver.setCodecPreferences) {
        const codecs = RTCRtpReceiver.getCapabilities("video").codecs;
        const rank = (codec) => ["video/VP8", "video/H264"].indexOf(codec.mimeType) >>> 0;
        transceiver.setCodecPreferences(codecs.filter((codec) => ["video/VP8", "video/H264", "video/rtx"].includes(codec.mimeType)).sort((a, b) => rank(a) - rank(b)));
      }
      this.senders[kind] = transceiver.sender;
    }
    connection.onconnectionstatechange = () => {
      const state = connection.connectionState;
      clearTimeout(this.wait);
      if (state === "connected") clearTimeout(this.timer);
      if (["failed", "closed"].includes(state)) this.fail("The direct path broke");
      if (state === "disconnected") this.wait = setTimeout(() => this.fail("The direct path broke"), 2000);
      view.draw();
    };
    const sdp = await describe(connection, (candidate) => view.send({ type: "candidate", n: this.number, candidate }));
    view.send({ type: "offer", n: this.number, sdp });
  }

  async answered(sdp) {
    await super.answered(sdp);
    // Where something must give, pictures are left out rather than made smaller. Browsers without this setting ignore it.
    const sender = this.dead ? null : this.senders.video;
    await sender?.setParameters({ ...sender.getParameters(), degradationPreference: "maintain-resolution" }).catch(() => {});
  }

  get up() {
    return !this.dead && this.connection.connectionState === "connected";
  }

  replace(track) {
    return this.senders[track.kind]?.replaceTrack(track);
  }

  async figures() {
    const found = {};
    const reports = await this.connection.getStats();
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

  close() {
    clearTimeout(this.wait);
    super.close();
  }
}
