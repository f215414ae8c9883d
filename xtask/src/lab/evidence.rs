//! What a guest left behind, in the forms in which tests ask for it.
//!
//! In: the guest's report and the files of its /out. Out: exit codes, texts, JSON, CSV rows; an
//! error is one line that says which file or step is not as it should be.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use guest::plan::{Report, StepResult};
use serde_json::Value;

use super::kernels::Kernel;

pub struct Evidence<'a> {
    pub kernel: &'a Kernel,
    /// What recorders were told to use.
    pub hooks: Option<&'static str>,
    pub report: &'a Report,
    pub out: &'a Path,
}

/// A row of a CSV file: column name to field.
pub type Row = BTreeMap<String, String>;

impl Evidence<'_> {
    pub fn result(&self, step: &str) -> Result<&StepResult> {
        self.report
            .results
            .iter()
            .find(|result| result.name == step)
            .with_context(|| format!("the step {step} did not run"))
    }

    /// Wants a certain exit code; the error carries the step's last words.
    pub fn ended_with(&self, step: &str, wanted: i32) -> Result<()> {
        let result = self.result(step)?;
        if result.code() == wanted && !result.timed_out {
            return Ok(());
        }
        let what = match (&result.start_error, result.timed_out, result.signal) {
            (Some(error), _, _) => format!("did not start ({error})"),
            (_, true, _) => format!(
                "was killed after {} ms{}",
                result.duration_ms,
                self.hang(step)
            ),
            (_, _, Some(signal)) => format!("died of signal {signal}"),
            _ => format!("ended with {}", result.code()),
        };
        let stderr = self.stderr(step).unwrap_or_default();
        // A recorder's own words come after those of the command that failed.
        let told = stderr.lines().find(|line| line.starts_with("vmascope: "));
        let last = told.or(stderr.trim().lines().last());
        let last = last.unwrap_or("nothing on stderr");
        bail!("{step} {what}, not {wanted}: {last}")
    }

    /// Where the threads of a step that timed out were.
    fn hang(&self, step: &str) -> String {
        let traces = self.text(&format!("{step}.hang")).unwrap_or_default();
        let frames: Vec<&str> = traces
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        match frames.first() {
            Some(_) => format!(" in [{}]", frames.join(" ")),
            None => String::new(),
        }
    }

    pub fn text(&self, file: &str) -> Result<String> {
        let bytes =
            fs::read(self.out.join(file)).with_context(|| format!("the guest left no {file}"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub fn stdout(&self, step: &str) -> Result<String> {
        self.text(&format!("{step}.stdout"))
    }

    pub fn stderr(&self, step: &str) -> Result<String> {
        self.text(&format!("{step}.stderr"))
    }

    /// The whole stdout of a step as JSON.
    pub fn json(&self, step: &str) -> Result<Value> {
        self.ended_with(step, 0)?;
        serde_json::from_str(&self.stdout(step)?)
            .with_context(|| format!("what {step} printed is no JSON"))
    }

    /// The truth that a stimulus printed: the line that is a JSON object with this scenario.
    pub fn truth(&self, step: &str, scenario: &str) -> Result<Value> {
        self.ended_with(step, 0)?;
        let stdout = self.stdout(step)?;
        stdout
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|value| value["scenario"] == scenario)
            .with_context(|| format!("{step} printed no truth of {scenario}"))
    }

    pub fn rows(&self, file: &str) -> Result<Vec<Row>> {
        let text = self.text(file)?;
        let named = || format!("{file} is no CSV");
        let mut reader = csv::ReaderBuilder::new()
            .comment(Some(b'#'))
            .from_reader(text.as_bytes());
        reader
            .deserialize()
            .collect::<Result<Vec<Row>, _>>()
            .with_context(named)
    }

    /// Functions' ends cannot be hooked: no time of what shows in these only, and no folio that was found.
    pub fn entries_only(&self) -> bool {
        self.hooks == Some("kprobe")
    }

    /// Whether this kernel has per-VMA locks.
    pub fn per_vma_locks(&self) -> bool {
        self.kernel.vma_lock() != "none"
    }

    /// Whether writers that wait for a VMA are seen, where there are any to be seen.
    pub fn vma_writers(&self) -> bool {
        !self.kernel.is_rt() || self.kernel.vma_lock() != "rwsem"
    }

    /// The path of a fault that met no obstacle.
    pub fn usual_path(&self) -> &'static str {
        if self.per_vma_locks() {
            "vma_lock"
        } else {
            "mmap_lock"
        }
    }
}

/// A number somewhere in JSON, by a path such as `/faults/total`.
pub fn number(value: &Value, path: &str) -> Result<u64> {
    let found = value.pointer(path).with_context(|| format!("no {path}"))?;
    found
        .as_u64()
        .with_context(|| format!("{path} is no count: {found}"))
}

/// A field of a CSV row as a number.
pub fn field(row: &Row, column: &str) -> Result<u64> {
    let text = row
        .get(column)
        .with_context(|| format!("no column {column}"))?;
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.with_context(|| format!("{column} is no number: {text:?}"))
}
