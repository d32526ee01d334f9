// Structured results of a live view: boxes and masks over the picture; text, tables, levels and running plots beside it.

const WAITING = 120; // results that wait for their picture
const VALUES = 120; // of a running plot
const VANISH = 1000; // ms after which boxes and masks without new ones vanish

class Results {
  constructor(over, area) {
    this.over = over;
    this.area = area;
    this.waiting = [];
    this.plots = new Map();
    this.drawn = 0;
  }

  async add(message, mask) {
    if (mask) message.image = await createImageBitmap(new Blob([mask], { type: "image/png" }));
    this.waiting.push(message);
    if (this.waiting.length > WAITING) this.waiting.shift().image?.close();
  }

  // What belongs to the picture (of this size) that is shown now, or to an earlier one; null: whatever is there.
  draw(pts, [width, height]) {
    const due = this.waiting.filter((each) => pts === null || each.pts === null || each.pts <= pts);
    if (due.length) this.waiting = this.waiting.filter((each) => !due.includes(each));
    for (const each of due) {
      if ((each.boxes || each.image) && width) this.overlay(each.boxes ?? [], each.image, width, height);
      each.image?.close();
      this.beside(each);
    }
    if (this.drawn && performance.now() - this.drawn > VANISH) {
      this.over.getContext("2d").clearRect(0, 0, this.over.width, this.over.height);
      this.drawn = 0;
    }
  }

  overlay(boxes, image, width, height) {
    const { over } = this;
    this.drawn = performance.now();
    if (over.width !== width || over.height !== height) [over.width, over.height] = [width, height];
    const context = over.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = false;
    if (image) context.drawImage(image, 0, 0, width, height);
    const line = Math.max(2, width / 400);
    const letter = Math.max(12, width / 55);
    context.lineWidth = line;
    context.font = `${letter}px system-ui, sans-serif`;
    context.textBaseline = "top";
    for (const { box, label, score } of boxes) {
      const parts = box.every((number) => Math.abs(number) <= 1);
      const [x, y, w, h] = box.map((number, index) => (parts ? number * (index % 2 ? height : width) : number));
      context.strokeStyle = "#29b6f6";
      context.strokeRect(x, y, w, h);
      const text = [label, score === null ? "" : score.toFixed(2)].filter(Boolean).join(" ");
      if (!text) continue;
      const top = Math.max(0, y - letter * 1.3);
      context.fillStyle = "#29b6f6";
      context.fillRect(x - line / 2, top, context.measureText(text).width + letter * 0.65, letter * 1.3);
      context.fillStyle = "#00131c";
      context.fillText(text, x + letter * 0.325, top + letter * 0.2);
    }
  }

  beside({ track, text, table, levels, number }) {
    if (text !== undefined) this.slot("text", track).textContent = text;
    if (table) {
      const rows = Object.entries(table).map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value)));
      this.slot("table", track).replaceChildren(element("table", {}, ...rows));
    }
    if (levels) this.level(this.slot("levels", track), Object.entries(levels));
    if (number !== undefined) {
      const values = this.plots.get(track) ?? [];
      this.plots.set(track, [...values, number].slice(-VALUES));
      this.slot("plot", track).replaceChildren(element("b", {}, number.toPrecision(4)), plot(this.plots.get(track)));
    }
  }

  // One place for each kind of result of a track.
  slot(kind, track) {
    const found = [...this.area.children].find((each) => each.dataset.kind === kind && each.dataset.track === track);
    return found ?? this.area.appendChild(element("div", { class: `avlab-${kind}`, "data-kind": kind, "data-track": track }));
  }

  // Bars; they stay while their names do, so that they glide.
  level(slot, levels) {
    const names = levels.map(([name]) => name);
    if (slot.dataset.names !== JSON.stringify(names)) {
      slot.dataset.names = JSON.stringify(names);
      const bar = (name) => element("div", { class: "avlab-bar-of", role: "meter", "aria-label": name, "aria-valuemin": "0", "aria-valuemax": "1" }, element("div"));
      slot.replaceChildren(...names.flatMap((name) => [element("span", {}, name), bar(name), element("b")]));
    }
    levels.forEach(([, value], index) => {
      const [, bar, figure] = [...slot.children].slice(3 * index);
      bar.firstChild.style.transform = `scaleX(${value})`;
      bar.setAttribute("aria-valuenow", value.toFixed(2));
      figure.textContent = value.toFixed(2);
    });
  }
}

function plot(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const points = values.map((value, index) => `${index},${28 - (26 * (value - low)) / (high - low || 1)}`).join(" ");
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("viewBox", `0 0 ${VALUES} 30`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", `The newest ${values.length} values, from ${low.toPrecision(4)} to ${high.toPrecision(4)}`);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points);
  picture.append(line);
  return picture;
}
