// What a live view consists of, and the pictures of its buttons.

const ICONS = {
  pause: "M7 5h4v14H7zM13 5h4v14h-4z",
  play: "M8 5v14l11-7z",
  muted: "M4 9v6h4l5 5V4L8 9zM16 9l5 6M21 9l-5 6",
  sound: "M4 9v6h4l5 5V4L8 9zM16 8.5a5 5 0 0 1 0 7M18.5 6a8.5 8.5 0 0 1 0 12",
  snapshot: "M4 8h3l2-3h6l2 3h3v11H4zM12 10a3.5 3.5 0 1 0 .01 0z",
  record: "M12 6a6 6 0 1 0 .01 0z",
  stop: "M6 6h12v12H6z",
};

// Everything one view shows; it knows nothing of how the picture came.
function build(actions) {
  const video = element("video", { playsinline: "", autoplay: "", class: "avlab-picture", "aria-label": "Live picture" });
  video.muted = video.hidden = true; // browsers show black where a track has brought nothing
  const canvas = element("canvas", { class: "avlab-picture", "data-testid": "avlab-video", role: "img", "aria-label": "Live picture" });
  const over = element("canvas", { class: "avlab-over", "aria-hidden": "true" });
  const poster = element("img", { class: "avlab-poster", alt: "The last picture" });
  const note = element("div", { class: "avlab-note" });
  const stage = element("div", { class: "avlab-stage" }, canvas, video, over, poster, note);
  const pause = button("pause", "avlab-pause", "pause", "Pause", "k", actions.pause);
  const mute = button("mute", "avlab-mute", "muted", "Sound on", "m", actions.mute);
  const snapshot = button("snapshot", "avlab-snapshot", "snapshot", "Save a picture", "s", actions.snapshot);
  const record = button("record", "avlab-record", "record", "Record to a file", "r", actions.record);
  const stop = button("stop", "avlab-stop", "stop", "Stop the pipeline", "x", actions.stop);
  const level = meter("Audio level");
  const path = element("span", { class: "avlab-path", "data-testid": "avlab-path", "data-path": "" });
  const bar = element("div", { class: "avlab-bar", role: "toolbar", "aria-label": "Live view" },
    pause, mute, level, element("span", { class: "avlab-space" }), snapshot, record, stop);
  const status = element("div", { class: "avlab-status", "data-testid": "avlab-status", role: "group", "aria-label": "Figures" });
  const said = element("div", { class: "avlab-said", role: "status", "aria-live": "polite" }, path);
  const pace = element("summary", { class: "avlab-pace", "data-testid": "avlab-pace" });
  const table = element("table", {});
  const hops = element("details", { class: "avlab-hops", "data-testid": "avlab-hops" }, pace, table);
  hops.hidden = true;
  const results = element("div", { class: "avlab-results", "data-testid": "avlab-results", role: "group", "aria-label": "Results" });
  const root = element("div", {
    class: "avlab-preview", "data-testid": "avlab-preview", role: "region", "aria-label": "Live view", tabindex: "0",
    "data-lm-suppress-shortcuts": "true", "data-jp-suppress-context-menu": "false",
  }, stage, bar, status, said, hops, results);
  return { root, stage, video, canvas, over, poster, note, pause, mute, level, snapshot, record, stop, path, status, hops, pace, table, results };
}
