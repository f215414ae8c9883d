// Puts the page together, and draws again when its width changes.

const host = REPORT.host;
document.getElementById("session").textContent =
  `${host.name}, ${host.kernel} ${host.arch}, ${count(host.cpus)} CPUs; ${REPORT.target}; ${REPORT.shown ? `lists and waits of ${REPORT.shown}; ` : ""}${time(REPORT.duration_ns)}; tier ${REPORT.tier}, VMA lock ${REPORT.vma_lock}; vmascope ${REPORT.version}`;
const warnings = document.getElementById("warnings");
const lostEvents = entries(REPORT.loss).reduce((n, [, v]) => n + v, 0);
const warn = [];
if (!REPORT.complete) warn.push("This recording was not finished: it ends with its last interval.");
if (lostEvents > 0) warn.push(`${count(lostEvents)} events were lost: figures may be too low.`);
if (warn.length) {
  warnings.className = "warn";
  warnings.textContent = warn.join(" ");
} else {
  warnings.remove();
}
document.getElementById("main").append(
  heatSection(), timelineSection(), pathSection(), decadeSection(), sizeSection(), threadSection(),
  whatIfSection(), waitSection(), faultSection(), qualitySection());

let asked = false;
const redrawAll = () => {
  asked = false;
  redraws.forEach((draw) => draw());
};
redrawAll();
let lastWidth = window.innerWidth;
window.addEventListener("resize", () => {
  if (asked || window.innerWidth === lastWidth) return;
  [asked, lastWidth] = [true, window.innerWidth];
  requestAnimationFrame(redrawAll);
});
