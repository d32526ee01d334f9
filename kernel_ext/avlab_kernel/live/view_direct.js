// The direct path of a live view.

const PATIENCE = 4000; // ms in which the direct path must stand
const HELD = 400; // ms by which pictures or sound are held back at most for the sake of the other
const SHIFT = 0.1; // ms per ms: so slowly does a browser change a delay that it is asked for

class Direct extends Attempt {
  constructor(view, welcome, shown, failed) {
    super(view, welcome.ice, failed);
    this.shown = shown;
    this.last = this.held = this.applied = this.reckoned = 0;
    this.sync = welcome.sync;
    this.stream = new MediaStream();
    this.timer = setTimeout(() => this.last || this.fail(this.why()), PATIENCE);
    this.start().catch((error) => this.refused(error));
  }

  why() {
    return this.connection.iceConnectionState === "connected" ? "No picture came on the direct path" : "The direct path did not stand";
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
    connection.onconnectionstatechange = () => {
      if (["failed", "closed"].includes(connection.connectionState)) this.fail("The direct path broke");
    };
    const seen = (now, frame) => {
      if (this.dead) return;
      this.last = performance.now();
      const spent = frame.receiveTime ? frame.expectedDisplayTime - frame.receiveTime : null;
      // A page that is busy is called less often than pictures are shown.
      const pictures = this.presented === undefined ? 1 : frame.presentedFrames - this.presented;
      this.presented = frame.presentedFrames;
      this.shown(frame, spent, pictures);
      view.ui.video.requestVideoFrameCallback(seen);
    };
    view.ui.video.requestVideoFrameCallback(seen);
    view.send({ type: "offer", sdp: await describe(connection, (candidate) => view.send({ type: "candidate", candidate })) });
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
        found.relay = relayOf(reports, report);
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

  // Holds the earlier of picture and sound back; with low latency only once somebody hears it. The browser's own way to do that
  // keeps a stall's delay for half a minute.
  align(skew) {
    const now = performance.now();
    const most = (now - this.reckoned) * SHIFT;
    this.applied += Math.max(-most, Math.min(most, this.held - this.applied));
    const natural = skew - this.applied; // as it would be if nothing were held back
    this.natural = this.reckoned ? this.natural * 0.7 + natural * 0.3 : natural;
    this.reckoned = now;
    this.hold(this.sync === "lips" || this.view.hears() ? -this.natural : 0);
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
}
