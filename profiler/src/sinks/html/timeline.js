// Who waited when, on a lane per thread, and who held the lock meanwhile. Dragging zooms; a chain or a
// wait that is chosen shows its links.

function timelineSection() {
  const line = DATA.timeline;
  const title = "Waits over time, and their chains";
  if (!line.bars.length) return wide(title, "No single wait over the threshold was recorded.");
  // From the first wait to the last: waits are often few and close together.
  const [first, last] = line.bars.reduce(([a, z], b) => [Math.min(a, b.start_ns), Math.max(z, b.end_ns)], [Infinity, 0]);
  const margin = (last - first) * 0.02 + 1000;
  const whole = [Math.max(0, first - margin), last + margin];
  const state = { from: whole[0], to: whole[1], root: null, wait: null };
  const box = el("div", { class: "plot" });
  const detail = el("p", { class: "detail", "aria-live": "polite" });
  const redraw = () => box.clientWidth && drawTimeline(box, box.clientWidth, state, choose, zoom);
  const zoom = (from, to) => {
    [state.from, state.to] = [Math.max(whole[0], from), Math.min(whole[1], to)];
    redraw();
  };
  const choose = (bar) => {
    [state.wait, state.root] = [bar.id, bar.root];
    press();
    detail.replaceChildren(...describe(bar));
    redraw();
  };
  const buttons = [];
  const press = () => buttons.forEach(([b, root]) => b.setAttribute("aria-pressed", String(root === state.root)));
  const all = el("button", { type: "button" }, "All waits");
  all.addEventListener("click", () => {
    [state.root, state.wait] = [null, null];
    press();
    detail.replaceChildren("Choose a wait or a chain; drag across the lanes to look closer.");
    zoom(...whole);
  });
  const chains = el("div", { class: "chains" }, all);
  const top = (REPORT.chains && REPORT.chains.top) || [];
  line.roots.slice(0, top.length).forEach((root, at) => {
    const chain = top[at];
    const bars = line.bars.filter((b) => b.root === root);
    if (!bars.length) return;
    const button = el("button", { type: "button", "aria-pressed": "false" },
      `${chain.depth} deep, ${count(chain.waits)} waits, ${time(chain.blocked_ns)}`);
    button.addEventListener("click", () => {
      [state.root, state.wait] = [root, null];
      press();
      const from = Math.min(...bars.map((b) => b.start_ns));
      const to = Math.max(...bars.map((b) => b.end_ns));
      const around = (to - from) * 0.15 + 1000;
      const link = (l) => `${l.comm} (${l.tid})${l.op ? ` in ${l.op}` : ""}${l.wait_ns ? ` waited ${time(l.wait_ns)}` : ""}${l.doing ? ` [${l.doing}]` : ""}`;
      detail.replaceChildren(el("strong", {}, "From the last waiter to the root: "), [...chain.links, chain.root].map(link).join(" -> "));
      zoom(from - around, to + around);
    });
    buttons.push([button, root]);
    chains.append(button);
  });
  detail.append("Choose a wait or a chain; drag across the lanes to look closer.");
  drawn(box, redraw);
  const left = line.waits - line.bars.length;
  const note = left > 0
    ? `${count(line.bars.length)} of ${count(line.waits)} single waits, ${share(line.drawn_ns, line.waits_ns)} of their time: the longest, of the threads that waited most. ${count(left)} are left out.`
    : `All ${count(line.waits)} single waits over ${count(REPORT.min_us)} us.`;
  const body = section(title, note,
    key(["i-read", "waits to read mmap_lock"], ["i-write", "waits to write mmap_lock"], ["i-vma", "waits to write a VMA"], ["i-hold", "holds the lock meanwhile"]),
    chains, box, detail);
  body.classList.add("wide");
  return body;
}

function describe(bar) {
  const lane = DATA.timeline.lanes[bar.lane];
  const parts = [el("strong", {}, `${lane.comm} (${lane.tid})`), ` waited ${time(bar.end_ns - bar.start_ns)} to ${bar.mode} ${bar.lock === "vma" ? "a VMA" : "mmap_lock"} in ${bar.op}, ${time(bar.start_ns)} after arming`];
  if (bar.holder_tid) {
    const doing = bar.holder_doing || bar.holder_op;
    parts.push(`; behind ${bar.holder_comm} (${bar.holder_tid})${doing ? ` in ${doing}` : ""}`);
  }
  if (bar.depth > 1) parts.push(`; ${bar.depth} threads deep`);
  parts.push(".");
  return parts;
}

function drawTimeline(box, width, state, choose, zoom) {
  const line = DATA.timeline;
  const [row, crowd] = [22, 52];
  const top = crowd + 12;
  const left = Math.min(190, Math.max(124, width * 0.2));
  const right = width - 4;
  const bottom = top + line.lanes.length * row;
  const out = svg("svg", { class: "pick", height: bottom + 22, role: "img", "aria-label": `${count(line.bars.length)} waits of ${line.lanes.length} threads` });
  const x = timeAxis(out, state.from, state.to, left, right, bottom, 0);
  const room = Math.floor((left - 8) / 6.4);
  drawCrowd(out, state, x, left, right, crowd);
  line.lanes.forEach((lane, at) => {
    const y = top + at * row;
    out.append(svg("line", { class: "axis", x1: 0, x2: right, y1: y + row, y2: y + row }));
    const name = `${lane.comm} ${lane.tid}`;
    const short = name.length > room ? `${lane.comm.slice(0, Math.max(1, room - String(lane.tid).length - 2))}~ ${lane.tid}` : name;
    out.append(svg("text", { x: left - 6, y: y + 15, "text-anchor": "end" }, short, svg("title", {}, `${name}, process ${lane.tgid}: waited ${time(lane.waited_ns)}`)));
  });
  const seen = (b) => b.end_ns >= state.from && b.start_ns <= state.to;
  const span = (b, least) => {
    const [a, z] = [Math.max(left, x(b.start_ns)), Math.min(right, x(b.end_ns))];
    return { x: a, width: Math.max(least, z - a) };
  };
  const chosen = (id, root) => state.wait !== null ? state.wait === id : state.root !== null && state.root === root;
  const barOf = new Map(line.bars.map((b) => [b.id, b]));
  const dim = state.root !== null;
  for (const hold of line.holds) {
    if (!seen(hold)) continue;
    const of = barOf.get(hold.wait);
    const part = dim && of && of.root === state.root;
    out.append(svg("rect", { class: "hold", y: top + hold.lane * row + 16, height: 4, opacity: dim && !part ? 0.25 : 0.9, ...span(hold, 1) }));
  }
  const links = svg("g", { "aria-hidden": "true" });
  for (const b of line.bars) {
    if (!seen(b)) continue;
    const kind = b.lock === "vma" ? "vma" : b.mode;
    const part = b.root === state.root;
    const rect = svg("rect", {
      class: chosen(b.id, b.root) ? `${kind} chosen` : kind, y: top + b.lane * row + 4, height: 11, rx: 1,
      opacity: dim && !part ? 0.25 : 1, ...span(b, 1.5),
    }, svg("title", {}, describe(b).map((p) => (p.textContent === undefined ? p : p.textContent)).join("")));
    rect.addEventListener("click", () => choose(b));
    out.append(rect);
  }
  // One link for each wait, from the hold that covers most of it.
  const longest = new Map();
  for (const hold of line.holds) {
    const b = barOf.get(hold.wait);
    const of = longest.get(hold.wait);
    if (!b || !chosen(b.id, b.root) || !seen(hold)) continue;
    if (!of || of.end_ns - of.start_ns < hold.end_ns - hold.start_ns) longest.set(hold.wait, hold);
  }
  for (const hold of longest.values()) {
    const b = barOf.get(hold.wait);
    const at = Math.min(right, Math.max(left, x(Math.max(hold.start_ns, b.start_ns))));
    const y1 = top + hold.lane * row + 18;
    const y2 = top + b.lane * row + 10;
    links.append(svg("path", { class: "link", d: `M${at} ${y1}C${at + 14} ${y1},${at + 14} ${y2},${at} ${y2}` }));
  }
  out.append(links);
  brush(out, left, right, 0, bottom, (a, z) => {
    const t = (px) => state.from + ((px - left) / (right - left)) * (state.to - state.from);
    zoom(t(a), t(z));
  });
  box.replaceChildren(out);
}

// All waits, also those that have no bar: how many threads waited at a time.
function drawCrowd(out, state, x, left, right, height) {
  const all = DATA.timeline.all;
  const kinds = ["read", "write", "vma"];
  const most = all.read.reduce((m, _, at) => Math.max(m, kinds.reduce((n, k) => n + all[k][at], 0)), 0) || 1;
  const step = (all.to_ns - all.from_ns) / all.read.length;
  all.read.forEach((_, at) => {
    const [from, to] = [all.from_ns + at * step, all.from_ns + (at + 1) * step];
    if (to < state.from || from > state.to) return;
    const [a, z] = [Math.max(left, x(from)), Math.min(right, x(to))];
    let y = height;
    for (const kind of kinds) {
      const part = (all[kind][at] / most) * (height - 4);
      if (part <= 0) continue;
      y -= part;
      out.append(svg("rect", { class: kind, x: a, y, width: Math.max(0.5, z - a), height: part }));
    }
  });
  out.append(svg("line", { class: "axis", x1: 0, x2: right, y1: height, y2: height }));
  const label = most < 9.95 ? most.toFixed(1) : count(Math.round(most));
  out.append(svg("text", { x: left - 6, y: 16, "text-anchor": "end" }, `up to ${label}`));
  out.append(svg("text", { x: left - 6, y: 32, "text-anchor": "end" }, "threads wait"));
}

// Calls back with the two ends of a drag across the lanes, in pixels.
function brush(out, left, right, top, bottom, done) {
  let start = null;
  const mark = svg("rect", { class: "brush", y: top, height: bottom - top, width: 0 });
  const at = (event) => Math.min(right, Math.max(left, event.clientX - out.getBoundingClientRect().left));
  out.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && at(event) > left) start = at(event);
  });
  out.addEventListener("pointermove", (event) => {
    if (start === null) return;
    if (!mark.isConnected) out.append(mark);
    mark.setAttribute("x", Math.min(start, at(event)));
    mark.setAttribute("width", Math.abs(at(event) - start));
  });
  const end = (event) => {
    const from = start;
    start = null;
    mark.remove();
    if (from !== null && event.type === "pointerup" && Math.abs(at(event) - from) > 5) {
      done(Math.min(from, at(event)), Math.max(from, at(event)));
    }
  };
  for (const name of ["pointerup", "pointerleave", "pointercancel"]) out.addEventListener(name, end);
}
