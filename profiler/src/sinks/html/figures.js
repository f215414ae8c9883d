// Figures beside short bars: faults by path, VMA sizes, what-if, decades; then tables, losses, quality.

const entries = (object) => Object.entries(object || {}).filter(([, v]) => v !== null && v !== undefined);

function pathSection() {
  const paths = entries(REPORT.faults.by_path).filter(([, n]) => n > 0);
  const total = REPORT.faults.total;
  const title = "Faults by path";
  if (!paths.length) {
    return section(title, total === null ? "Faults cannot be counted here." : total ? `${count(total)} faults; which lock they ended on cannot be told here.` : "No page fault.");
  }
  const latency = (name, what) => time((REPORT.faults.latency_ns[name] || {})[what]);
  const most = Math.max(...paths.map(([, n]) => n));
  return section(title, `${count(total)} in all, ${count(REPORT.faults.major)} of them major.`,
    table("Count and latency by path", [
      ["path", "", ([p]) => p],
      ["", "", ([p, n]) => bar(`${p}: ${share(n, total)}`, ["i-read", (n / most) * 100])],
      ["faults", "n", ([, n]) => count(n)],
      ["share", "n", ([, n]) => share(n, total)],
      ["p50", "n", ([p]) => latency(p, "p50")],
      ["p99", "n", ([p]) => latency(p, "p99")],
      ["max", "n", ([p]) => latency(p, "max")],
    ], paths));
}

function sizeSection() {
  const title = "VMA size against waiting";
  const sizes = REPORT.vma_size;
  if (!sizes) return section(title, "The size of VMAs is not seen here.");
  const rows = sizes.filter((s) => s.faults || s.retries || s.wait_ns);
  if (!rows.length) return section(title, "No fault in a VMA was seen.");
  const most = Math.max(1, ...rows.map((s) => s.wait_ns));
  const page = REPORT.host.page_size;
  return section(title, "Time that faults waited, by the size of the VMA they were in. Faults are estimated from one in 16.",
    table("By VMA size", [
      ["from", "", (s) => bytes(s.min_pages * page)],
      ["", "", (s) => bar(`waited ${time(s.wait_ns)}`, ["i-write", (s.wait_ns / most) * 100])],
      ["waited", "n", (s) => time(s.wait_ns)],
      ["retries", "n", (s) => count(s.retries)],
      ["faults", "n", (s) => count(s.faults)],
    ], rows));
}

function whatIfSection() {
  const title = "What if the kernel did otherwise";
  const policies = entries(REPORT.what_if);
  if (!policies.length) return wide(title, "Not known: it needs windows and the threads that meet them, which this kernel or mode does not show.");
  const most = Math.max(1, ...policies.filter(([, p]) => p).map(([, p]) => Math.max(p.saved_at_most_ns, p.saved_ns, p.lost_ns + p.amplified_ns)));
  const part = (ns) => (ns / most) * 100;
  const figure = (label, text, ...parts) => el("div", { class: "figure" },
    el("span", { class: "quiet" }, label), bar(`${label} ${text}`, ...parts), el("span", {}, text));
  const one = ([name, p]) => {
    const card = el("div", {}, el("h3", {}, name));
    if (!p) {
      card.append(el("p", { class: "note" }, "Not known: it goes by the state of a folio, which is not seen here."));
      return card;
    }
    if (p.saved_at_most_ns || p.saved_ns) {
      card.append(figure("gain", `${time(p.saved_ns)} to ${time(p.saved_at_most_ns)}`,
        ["i-good", part(p.saved_ns)], ["i-soft", part(Math.max(0, p.saved_at_most_ns - p.saved_ns))]));
    }
    if (p.lost_ns || p.amplified_ns) {
      card.append(figure("loss", `${time(p.lost_ns)} + ${time(p.amplified_ns)}`,
        ["i-bad", part(p.lost_ns)], ["i-soft-bad", part(p.amplified_ns)]));
    }
    const counts = [plural(p.count, "fault")];
    if (p.conflicts) counts.push(plural(p.conflicts, "conflict"));
    if (p.inversions) counts.push(plural(p.inversions, "inversion"));
    card.append(el("p", { class: "note" }, `${counts.join(", ")}. ${p.bound[0].toUpperCase()}${p.bound.slice(1)}: ${p.assumption}.`));
    return card;
  };
  const body = section(title, "What faults would gain against what writers, and those behind them, would lose: to first order, nobody behaving otherwise.",
    key(["i-good", "gained, at least"], ["i-soft", "at most"], ["i-bad", "lost by writers"], ["i-soft-bad", "by those behind them"]),
    el("div", { class: "small" }, ...policies.map(one)));
  body.classList.add("wide");
  return body;
}

function decadeSection() {
  const title = "How long mmap_lock took to get";
  const sides = ["read", "write"].map((m) => [m, REPORT.mmap_lock[m].acquire_decades]).filter(([, d]) => d);
  if (!sides.length) return section(title, "Not every acquisition was seen: record with --mmap-lock all.");
  const names = ["under 1 us", "1 - 10 us", "10 - 100 us", "100 us - 1 ms", "1 - 10 ms", "from 10 ms"];
  const columns = [["", "", (at) => names[at]]];
  for (const [mode, decades] of sides) {
    const total = decades.reduce((a, b) => a + b, 0);
    const most = Math.max(1, ...decades);
    columns.push([mode, "n", (at) => count(decades[at])]);
    columns.push(["share", "n", (at) => share(decades[at], total)]);
    columns.push(["", "", (at) => bar(`${mode}: ${share(decades[at], total)}`, [`i-${mode}`, (Math.log(decades[at] + 1) / Math.log(most + 1)) * 100])]);
  }
  return section(title, "Every acquisition, waits included. Bars are on a logarithmic scale.",
    table("Acquisitions by time", columns, names.map((_, at) => at)));
}

function waitSection() {
  const rows = REPORT.worst_waits;
  const title = "Longest waits";
  if (!rows.length) return wide(title, "None over the threshold.");
  const holder = (h) => !h ? "-" : h.tid ? `${h.comm} (${h.tid})${h.doing || h.op ? ` in ${h.doing || h.op}` : ""}` : "readers";
  return wide(title, null, table(`The first ${rows.length}`, [
    ["waited", "n", (w) => time(w.wait_ns)],
    ["at", "n", (w) => time(w.start_ns)],
    ["lock", "", (w) => `${w.lock} ${w.mode}`],
    ["op", "", (w) => w.op],
    ["thread", "", (w) => `${w.comm} (${w.tid})`],
    ["behind", "", (w) => holder(w.holder)],
    ["deep", "n", (w) => count(w.depth)],
  ], rows));
}

function faultSection() {
  const rows = REPORT.worst_faults;
  const title = "Longest faults";
  if (!rows.length) return wide(title, "None over the threshold.");
  return wide(title, null, table(`The first ${rows.length}`, [
    ["took", "n", (f) => time(f.latency_ns)],
    ["at", "n", (f) => time(f.start_ns)],
    ["path", "", (f) => f.path || "-"],
    ["kind", "", (f) => f.kind || "-"],
    ["why", "", (f) => f.retry_reason || f.held_wait || f.fallback_reason || "-"],
    ["lock", "n", (f) => time(f.mmap_wait_ns)],
    ["I/O", "n", (f) => time(f.io_wait_ns)],
    ["thread", "", (f) => `${f.comm} (${f.tid})`],
    ["of", "", (f) => f.file || "-"],
  ], rows));
}

function threadSection() {
  const rows = REPORT.threads;
  if (!rows.length) return section("Threads", "None was seen.");
  const waits = (t, m) => (t[m] && t[m].waits ? `${count(t[m].waits)} of ${time(t[m].wait_sum_ns)}` : t[m] ? "0" : "-");
  return section("Threads", rows.length < REPORT.threads_total ? `Those with the most faults, of ${count(REPORT.threads_total)}.` : null,
    table("Faults and waits by thread", [
      ["thread", "", (t) => `${t.comm} (${t.tid})`],
      ["faults", "n", (t) => count(t.faults)],
      ["major", "n", (t) => count(t.major)],
      ["longest", "n", (t) => time(t.latency_max_ns)],
      ["read waits", "n", (t) => waits(t, "read")],
      ["write waits", "n", (t) => waits(t, "write")],
    ], rows));
}

function qualitySection() {
  const losses = entries(REPORT.loss).filter(([, n]) => n > 0);
  const lost = losses.length
    ? table("Lost events: figures may be too low", [["reason", "", ([r]) => r], ["events", "n", ([, n]) => count(n)]], losses)
    : el("p", {}, "Nothing was lost.");
  const check = REPORT.cross_check.threads;
  const sum = el("p", {}, `The kernel's own counters have ${count(check.kernel)} faults of these threads; hooks saw ${count(check.measured)} of them. `
    + `vmascope used ${time(REPORT.cost.cpu_ns)} of CPU time and ${bytes(REPORT.cost.rss_bytes)} of memory.`);
  const body = section("Losses, and how far to trust the figures", null, lost, sum,
    table("Signals", [
      ["signal", "", ([name]) => name],
      ["quality", "", ([, s]) => el("span", { class: s.quality }, s.quality)],
      ["by", "", ([, s]) => s.hook || "-"],
      ["why", "long", ([, s]) => s.reason || ""],
    ], entries(REPORT.signals)));
  body.classList.add("wide");
  return body;
}
