// Elements, figures and axes that all parts of the page use.

const DATA = JSON.parse(document.getElementById("data").textContent);
const REPORT = DATA.report;
const SVG = "http://www.w3.org/2000/svg";

// Children are nodes or text; text never becomes HTML.
function make(space, tag, attributes, children) {
  const node = space ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  for (const child of children) {
    if (child !== null && child !== undefined) node.append(child);
  }
  return node;
}
const el = (tag, attributes, ...children) => make(false, tag, attributes, children);
const svg = (tag, attributes, ...children) => make(true, tag, attributes, children);

// Three digits and a unit, as in the text report.
function scaled(value, units) {
  const [size, unit] = units.find(([s]) => value >= s * 0.9995) || units[units.length - 1];
  const v = value / size;
  return `${v.toFixed(v < 9.995 ? 2 : v < 99.95 ? 1 : 0)} ${unit}`;
}
function time(ns) {
  if (ns === null || ns === undefined) return "-";
  if (ns === 0) return "0";
  if (ns < 1000) return `${ns} ns`;
  if (ns >= 1e13) return scaled(ns, [[3.6e12, "h"]]);
  return scaled(ns, [[1e9, "s"], [1e6, "ms"], [1e3, "us"]]);
}
function count(n) {
  return n === null || n === undefined ? "-" : n.toLocaleString("en-US");
}
function plural(n, what) {
  return `${count(n)} ${what}${n === 1 ? "" : "s"}`;
}
function share(part, whole) {
  if (!whole) return "-";
  const p = (part * 100) / whole;
  if (part > 0 && p < 0.1) return "< 0.1 %";
  return `${part < whole && p > 99.9 ? "> 99.9" : p.toFixed(p === 100 || p === 0 ? 0 : 1)} %`;
}
function bytes(n) {
  const units = [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [1024, "KiB"], [1, "B"]];
  const [size, unit] = units.find(([s]) => n >= s) || [1, "B"];
  return `${Math.round((n / size) * 10) / 10} ${unit}`;
}

function section(title, note, ...children) {
  const body = el("section", {}, el("h2", {}, title));
  if (note) body.append(el("p", { class: "note" }, note));
  body.append(...children);
  return body;
}

// Over both columns; `note` as above.
const wide = (title, note, ...children) => {
  const body = section(title, note, ...children);
  body.classList.add("wide");
  return body;
};

// `columns`: [title, class, cell of a row]. A cell is text or a node.
function table(caption, columns, rows) {
  const head = el("tr", {}, ...columns.map(([t, c]) => el("th", { class: c, scope: "col" }, t)));
  const cell = (row, [, c, value], at) =>
    el(at ? "td" : "th", { class: c, scope: at ? null : "row" }, value(row));
  const body = rows.map((row) => el("tr", {}, ...columns.map((c, at) => cell(row, c, at))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, ...body)));
}

function key(...entries) {
  return el("ul", { class: "key" },
    ...entries.map(([c, text]) => el("li", {}, el("i", { class: c }), text)));
}

// A bar of parts, in percent of what is full.
function bar(label, ...parts) {
  const body = el("span", { class: "bar", role: "img", "aria-label": label });
  for (const [c, percent] of parts) {
    const part = el("i", { class: c });
    part.style.width = `${Math.max(0, Math.min(100, percent))}%`;
    body.append(part);
  }
  return body;
}

// Round moments between two, about `wanted` of them, in a unit that their labels share.
function ticks(from, to, wanted) {
  const units = [[3.6e12, "h"], [1e9, "s"], [1e6, "ms"], [1e3, "us"], [1, "ns"]];
  const [size, unit] = units.find(([s]) => to - from >= s * 2) || units[units.length - 1];
  const rough = Math.max(to - from, 1) / size / Math.max(wanted, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const out = [];
  for (let n = Math.ceil(from / size / step); n * step * size <= to && out.length < 50; n++) {
    const label = Number((n * step).toPrecision(12)).toLocaleString("en-US", { maximumFractionDigits: 3 });
    out.push([n * step * size, `${label} ${unit}`]);
  }
  return out;
}

function timeAxis(out, from, to, left, right, bottom, top) {
  const x = (t) => left + ((t - from) / Math.max(to - from, 1)) * (right - left);
  for (const [t, label] of ticks(from, to, (right - left) / 80)) {
    out.append(svg("line", { class: "axis", x1: x(t), x2: x(t), y1: top, y2: bottom }));
    const anchor = x(t) > right - 24 ? "end" : x(t) < left + 24 ? "start" : "middle";
    out.append(svg("text", { x: x(t), y: bottom + 16, "text-anchor": anchor }, label));
  }
  return x;
}

// Things to draw again when the width of the page changes.
const redraws = [];
function drawn(box, draw) {
  redraws.push(() => {
    if (box.clientWidth > 0) draw(box, box.clientWidth);
  });
}
