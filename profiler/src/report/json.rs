//! The report as JSON, for scripts: one object, a final newline.

use super::Report;

pub fn json(report: &Report) -> serde_json::Result<String> {
    let mut out = serde_json::to_string_pretty(report)?;
    out.push('\n');
    Ok(out)
}
