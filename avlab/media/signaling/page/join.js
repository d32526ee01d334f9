// Joins a room as a camera or as a view. The address is in the fragment: #room=…&token=…&role=…
import { Room } from "./room.js";
import { Line } from "./line.js";

const $ = (id) => document.getElementById(id);
const fields = new URLSearchParams(location.hash.slice(1));
history.replaceState(null, "", location.pathname); // the token is for one use, and not for the next who looks at the screen
const state = (window.avlab = { lines: new Map(), room: null, stream: null, role: "" });

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", wrong);
}

function explain(error) {
  if (error.name === "NotAllowedError") return "The camera was not allowed: allow it in the browser’s site settings and try again.";
  if (error.name === "NotFoundError") return "This device has no camera, or none that is free.";
  if (error.name === "NotReadableError") return "The camera is in use by another program: close that and try again.";
  return error.message || String(error);
}

async function capture() {
  if (!navigator.mediaDevices)
    throw new Error("Browsers give cameras to secure pages only: open this page with https:// (or on localhost).");
  const camera = $("camera").value, microphone = $("microphone").value;
  const video = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
  if (camera) video.deviceId = { exact: camera };
  else video.facingMode = { ideal: "environment" };
  const audio = microphone === "none" ? false : microphone ? { deviceId: { exact: microphone } } : true;
  const stream = await navigator.mediaDevices.getUserMedia({ video, audio });
  for (const track of stream.getVideoTracks()) track.contentHint = "detail"; // keep the size, give up frames if need be
  return stream;
}

async function listDevices() {
  if (!navigator.mediaDevices) return;
  for (const device of await navigator.mediaDevices.enumerateDevices()) {
    const menu = { videoinput: $("camera"), audioinput: $("microphone") }[device.kind];
    if (menu && device.deviceId) menu.add(new Option(device.label || device.kind, device.deviceId));
  }
}

function show(text) {
  const lines = [...state.lines.values()];
  $("path").textContent = lines.map((line) => line.path).filter(Boolean).join(" · ");
  if (text) say(text);
}

function meet(member, role) {
  if (role !== "script" || state.lines.has(member)) return;
  const line = new Line({
    role: state.role,
    stream: state.stream,
    signal: (data) => state.room.send(member, data),
    media: (stream) => { $("video").srcObject = stream; },
    changed: show,
  });
  state.lines.set(member, line);
  line.call();
}

function part(member) {
  state.lines.get(member)?.close();
  state.lines.delete(member);
  show(state.lines.size ? "Connected." : "Waiting for somebody to come into the room.");
}

async function start(role) {
  $("start-camera").disabled = $("start-view").disabled = true;
  try {
    state.role = role;
    if (role === "camera") {
      state.stream = await capture();
      $("video").srcObject = state.stream;
    }
    say("Joining the room …");
    state.room = new Room({
      room: fields.get("room"), token: fields.get("token"), role,
      joined: meet, left: part,
      received: (member, data) => state.lines.get(member)?.heard(data),
      waiting: () => show("Waiting for somebody to come into the room."),
      ended: (reason) => { say(reason, true); stop(); },
    });
    await state.room.open();
    $("choice").hidden = true;
    $("controls").hidden = false;
    $("mute").hidden = role === "camera";
  } catch (error) {
    state.stream?.getTracks().forEach((track) => track.stop());
    say(explain(error), true);
    $("start-camera").disabled = $("start-view").disabled = false;
  }
}

function stop() {
  for (const line of state.lines.values()) line.close();
  state.lines.clear();
  state.room?.close();
  state.stream?.getTracks().forEach((track) => track.stop());
  $("video").srcObject = null;
  $("controls").hidden = true;
}

$("room").textContent = fields.get("room") || "?";
$("start-camera").addEventListener("click", () => start("camera"));
$("start-view").addEventListener("click", () => start("view"));
$("stop").addEventListener("click", () => { stop(); say("Stopped. Ask for a new invitation to come back."); });
$("mute").addEventListener("click", () => {
  $("video").muted = !$("video").muted;
  $("mute").textContent = $("video").muted ? "Sound on" : "Sound off";
  $("mute").setAttribute("aria-pressed", String($("video").muted));
});
window.addEventListener("pagehide", stop);
if (fields.get("role") === "camera") $("start-view").hidden = true;
if (fields.get("role") === "view") $("start-camera").hidden = $("devices").hidden = true;
if (!fields.get("token")) {
  say("This page needs an invitation: open the link, or scan the code, that you were given.", true);
  $("choice").hidden = true;
}
listDevices();
