// Fault latency over time: one map per path, all on the same scales.

function heatSection() {
  const heat = DATA.heat;
  const title = REPORT.faults.by_path ? "Fault latency over time, by path" : "Fault latency over time";
  if (!heat.paths.length) return wide(title, "No fault was timed.");
  const buckets = heat.paths.flatMap((p) => p.cells.map((c) => c[1]));
  const low = Math.min(...buckets);
  const high = Math.max(...buckets) + 1;
  const most = heat.paths.reduce((m, p) => p.cells.reduce((n, c) => Math.max(n, c[2]), m), 1);
  const maps = heat.paths.map((p) => {
    const total = p.cells.reduce((n, c) => n + c[2], 0);
    const box = el("div", { class: "plot" });
    drawn(box, (into, width) => into.replaceChildren(heatMap(p, width, low, high, most, total)));
    return el("div", {}, el("h3", {}, `${p.path}: ${count(total)} faults timed`), box);
  });
  const body = section(title,
    `Every fault that was timed, also those too short to be kept one by one. The stronger the colour, the more: up to ${count(most)} in one cell, on a logarithmic scale.`,
    el("div", { class: "small" }, ...maps));
  body.classList.add("wide");
  return body;
}

function heatMap(path, width, low, high, most, total) {
  const edges = DATA.heat.edges_ns;
  const end = edges[edges.length - 1];
  const [left, right, top, row] = [56, width - 4, 6, 9];
  const bottom = top + (high - low) * row;
  const out = svg("svg", {
    height: bottom + 22, role: "img",
    "aria-label": `Latency of ${count(total)} faults on ${path.path}, from ${time(2 ** low)} to ${time(2 ** high)}`,
  });
  const x = timeAxis(out, 0, end, left, right, bottom, top);
  for (const [ns, name] of [[1e2, "100 ns"], [1e3, "1 us"], [1e4, "10 us"], [1e5, "100 us"], [1e6, "1 ms"], [1e7, "10 ms"], [1e8, "100 ms"], [1e9, "1 s"], [1e10, "10 s"], [1e11, "100 s"]]) {
    const at = Math.log2(ns);
    if (at < low || at > high) continue;
    const y = bottom - (at - low) * row;
    out.append(svg("line", { class: "axis", x1: left, x2: right, y1: y, y2: y }));
    out.append(svg("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, name));
  }
  for (const [column, bucket, n] of path.cells) {
    const from = x(edges[column]);
    out.append(svg("rect", {
      class: "cell", x: from, y: bottom - (bucket + 1 - low) * row,
      width: Math.max(1, x(edges[column + 1]) - from - 0.5), height: row - 0.5,
      opacity: (0.15 + 0.85 * (Math.log(n + 1) / Math.log(most + 1))).toFixed(3),
    }, svg("title", {}, `${count(n)} faults of ${time(2 ** bucket)} to ${time(2 ** (bucket + 1))}, from ${time(edges[column])} to ${time(edges[column + 1])}`)));
  }
  return out;
}
