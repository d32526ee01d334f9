// What a live view and a source in the browser share: elements, buttons with their keys, figures, the way to an offer.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// A button with a picture and a key. `face(icon, text)` gives it another of both.
function button(name, id, icon, label, key, action) {
  const made = element("button", { type: "button", class: `avlab-button avlab-${name}`, "data-testid": id, "aria-keyshortcuts": key });
  made.face = (shape, text) => {
    made.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${ICONS[shape]}"/></svg>`;
    made.title = `${text} (${key.toUpperCase()})`;
    made.setAttribute("aria-label", text);
  };
  made.face(icon, label);
  made.addEventListener("click", action);
  return made;
}

// Presses the button of a key; the notebook's own shortcuts stay out of it.
function press(event, buttons) {
  event.stopPropagation();
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.tagName === "SELECT") return;
  const pressed = buttons[event.key.toLowerCase()];
  if (!pressed || pressed.disabled || pressed.closest("[hidden]")) return;
  event.preventDefault();
  pressed.click();
}

function meter(label) {
  const made = element("div", { class: "avlab-level", role: "meter", "aria-label": label, "aria-valuemin": "-60", "aria-valuemax": "0" }, element("div"));
  made.show = (decibels) => {
    made.firstChild.style.transform = `scaleX(${1 + decibels / 60})`;
    made.setAttribute("aria-valuenow", decibels.toFixed(0));
    made.setAttribute("aria-valuetext", `${decibels.toFixed(0)} dB`);
  };
  made.show(-60);
  return made;
}

// Root mean square (0 to 1) in decibels below full scale, as far down as meters go.
function decibels(level) {
  return level > 0 ? Math.max(-60, 20 * Math.log10(level)) : -60;
}

function listed(rows) {
  return rows.map(([name, value]) => element("span", { class: "avlab-figure" }, element("span", {}, name), element("b", {}, value)));
}

function newName() {
  return crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2);
}

// One attempt at a direct path. `failed(reason)` is called once, when it does not stand, breaks or brings nothing; the reason is a
// sentence without its full stop.
class Attempt {
  constructor(view, ice, failed) {
    this.view = view;
    this.failed = failed;
    this.connection = new RTCPeerConnection({ iceServers: ice });
  }

  async answered(sdp) {
    await this.connection.setRemoteDescription({ type: "answer", sdp }).catch((error) => this.refused(error));
  }

  refused(error) {
    this.fail(`The browser refused: ${error.message}`);
  }

  fail(reason) {
    if (this.dead) return;
    this.close();
    this.failed(reason);
  }

  close() {
    this.dead = true;
    clearTimeout(this.timer);
    this.connection.close();
  }
}

// Makes the offer of a connection and waits a moment for its candidates; later ones go to `found`.
async function describe(connection, found) {
  let sent = false;
  connection.onicecandidate = ({ candidate }) => candidate && sent && found(candidate.toJSON());
  await offer(connection); // see repair.js
  await Promise.race([
    new Promise((done) => (connection.onicegatheringstatechange = () => connection.iceGatheringState === "complete" && done())),
    new Promise((done) => setTimeout(done, 150)),
  ]);
  sent = true;
  return connection.localDescription.sdp;
}

// Through which relay a connection goes, by a nominated pair of its reports; empty for a direct one.
function relayOf(reports, pair) {
  const local = reports.get(pair.localCandidateId);
  return local?.candidateType === "relay" ? `TURN ${(local.relayProtocol ?? "udp").toUpperCase()}` : "";
}

// A sentence in the middle of another one.
function lower(text) {
  return /^[A-Z][a-z]/.test(text) ? text[0].toLowerCase() + text.slice(1) : text;
}
