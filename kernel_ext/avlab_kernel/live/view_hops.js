// The table of a live view: per node how long an item takes there, and how this view's delay comes about. Rows are made only while
// they are shown.

function drawHops(ui, { hops: rows, bottleneck }, parts, delay) {
  ui.hops.hidden = !rows?.length;
  if (!rows?.length) return;
  const slowest = rows.find((row) => row.node === bottleneck);
  const pace = !slowest ? "Time per node" : slowest === rows[0] ? `The pipeline keeps up with ${bottleneck}` : `${bottleneck} sets the pace: busy ${percent(slowest.load)}`;
  if (ui.pace.textContent !== pace) ui.pace.textContent = pace;
  if (!ui.hops.open) return;
  const row = (name, cells, kind = "") =>
    element("tr", { class: kind }, element("th", { scope: "row" }, name), ...cells.map((cell) => element("td", {}, cell)));
  const head = ["node", "p50 ms", "p95 ms", "busy", "drops"].map((name) => element("th", { scope: "col" }, name));
  const made = [element("tr", {}, ...head)];
  for (const { node, p50, p95, load, drops, parts: inside } of rows) {
    made.push(row(node, [short(p50), short(p95), percent(load), String(drops)], node === bottleneck ? "avlab-slowest" : ""));
    for (const [name, middle, most] of inside) made.push(row(name, [short(middle), short(most), "", ""], "avlab-part"));
  }
  made.push(row("source to screen", [short(delay), "", "", ""]));
  for (const [name, part] of Object.entries({ "until sent": parts.before, "on the way": parts.way, "in the browser": parts.browser })) {
    made.push(row(name, [short(part), "", "", ""], "avlab-part"));
  }
  ui.table.replaceChildren(element("caption", {}, "Milliseconds per item"), ...made);
}

function short(milliseconds) {
  if (!Number.isFinite(milliseconds)) return "–";
  return milliseconds < 1 ? milliseconds.toFixed(2) : milliseconds < 100 ? milliseconds.toFixed(1) : milliseconds.toFixed(0);
}

function percent(share) {
  return `${(share * 100).toFixed(0)} %`;
}
