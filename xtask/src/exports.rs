//! Exports before judges of other make: traces before Perfetto's own schema, pages in a browser.
//!
//! In: what the profiler's tests left in `target/tmp/export`. Out: a finding per trace and per page;
//! a judge that cannot be had on this machine is a skipped check, with the reason.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::paths;
use crate::python::{self, Packages};
use crate::step::{Findings, Outcome};
use crate::system::{self, Need};

const SCHEMA: Packages = Packages {
    wanted: &["perfetto==0.59.1", "protobuf>=5,<8"],
    module: "perfetto.protos.perfetto.trace.perfetto_trace_pb2",
    what: "Perfetto's schema",
};
/// Seconds for one page; a browser's first start takes some.
const PATIENCE: &str = "60";
/// Narrow as a phone, and wide as a desk.
const WIDTHS: [u32; 2] = [400, 2000];

/// Works the page as a reader would, then says what it saw where a dump of the page shows it.
const PROBE: &str = r#"<script>
addEventListener("load", () => {
  for (const b of document.querySelectorAll("button")) b.click();
  for (const r of [...document.querySelectorAll("svg.pick rect:has(title)")].slice(0, 5)) {
    r.dispatchEvent(new MouseEvent("click"));
  }
  const root = document.documentElement;
  root.dataset.probe = [
    `sections=${document.querySelectorAll("main > section h2").length}`,
    `plots=${document.querySelectorAll("svg").length > 0 || document.body.innerText.includes("No fault was timed")}`,
    `overflow=${root.scrollWidth > root.clientWidth}`,
    `foreign=${document.querySelectorAll("img, iframe, main script, link").length}`,
  ].join(" ");
});
</script>
</body>"#;
const SEEN: &str = "sections=10 plots=true overflow=false foreign=0";

fn exported(extension: &str) -> Result<Vec<PathBuf>> {
    let dir = paths::target().join("tmp/export");
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| {
        let dir = dir.display();
        format!("no {dir}: run `cargo test -p profiler --test sinks`, which makes it")
    })? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("no .{extension} file in {}", dir.display());
    }
    Ok(found)
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// Every trace against the recording it came from.
pub fn traces() -> Result<Findings> {
    let traces = exported("pftrace")?;
    let python = match SCHEMA.python() {
        Ok(python) => python,
        Err(why) => {
            return Ok(Findings::one(
                "traces",
                Outcome::Skipped(format!("{why:#}")),
            ));
        }
    };
    let mut findings = Findings::default();
    for trace in traces {
        let mut check = Command::new(&python);
        check
            .arg(paths::root().join("xtask/check-perfetto.py"))
            .args([&trace.with_extension("db"), &trace])
            .arg(paths::root().join("dashboards/perfetto"));
        let stem = stem(&trace);
        let name = format!("trace {stem} is checked");
        let found = python::judge(&mut check, &name, &format!("trace {stem}: "))?;
        findings.checks.extend(found.checks);
    }
    Ok(findings)
}

/// Every page in a browser, narrow and wide.
pub fn pages() -> Result<Findings> {
    let pages = exported("html")?;
    let browser = match browser() {
        Ok(browser) => browser,
        Err(why) => return Ok(Findings::one("pages", Outcome::Skipped(format!("{why:#}")))),
    };
    let dir = paths::target().join("tmp/browser");
    paths::make_dir(&dir)?;
    let mut findings = Findings::default();
    for page in pages {
        let text = fs::read_to_string(&page)?;
        let probed = dir.join(page.file_name().unwrap_or_default());
        fs::write(&probed, text.replace("</body>", PROBE))?;
        for width in WIDTHS {
            let name = format!("page {}, {width} pixels wide", stem(&page));
            let outcome = match look_at(&browser, &dir, &probed, width)? {
                None => Outcome::Passed,
                Some(why) => Outcome::Failed(why),
            };
            findings.push(name, outcome);
        }
    }
    Ok(findings)
}

/// What is wrong with a page.
fn look_at(browser: &Path, dir: &Path, page: &Path, width: u32) -> Result<Option<String>> {
    let mut command = Command::new("timeout");
    command
        .arg(PATIENCE)
        .arg(browser)
        // No sandbox: in a container, and as root, there is none to be had. The page is our own.
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
        ])
        .args([
            "--disable-dev-shm-usage",
            "--virtual-time-budget=2000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", dir.join("profile").display()))
        .arg(format!("--window-size={width},1000"))
        .arg(format!("file://{}", page.display()));
    let done = command.stdin(Stdio::null()).output();
    let done = done.with_context(|| format!("cannot start {}", system::show(&command)))?;
    let said = String::from_utf8_lossy(&done.stderr);
    // The browser complains about the machine as well; only the page talks to the console.
    if let Some(line) = said.lines().find(|line| line.contains(":CONSOLE")) {
        return Ok(Some(line.to_owned()));
    }
    let dom = String::from_utf8_lossy(&done.stdout);
    let seen = dom
        .split_once("data-probe=\"")
        .and_then(|(_, rest)| rest.split_once('"'));
    Ok(match seen {
        Some((SEEN, _)) => None,
        Some((seen, _)) => Some(format!("seen: {seen}, wanted: {SEEN}")),
        None => Some(format!("the page did not load: {}", done.status)),
    })
}

fn browser() -> Result<PathBuf> {
    let find = || {
        ["chromium", "chromium-headless-shell", "google-chrome"]
            .into_iter()
            .find_map(system::find)
    };
    if let Some(browser) = find() {
        return Ok(browser);
    }
    system::install(&[Need {
        package: "chromium",
        why: "pages are tested in a browser",
        present: false,
    }])?;
    find().context("the package chromium brought no program of that name")
}
