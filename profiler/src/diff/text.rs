//! A diff for people, and as rows for other tools.

use super::{Diff, Row, Side, Verdict};
use crate::report::units::{clean, rate, time, wrap};

const WIDTH: usize = 80;
const NAME: usize = 27;

/// In one sentence.
pub fn verdict(rows: &[Row]) -> String {
    let told: Vec<&Row> = rows
        .iter()
        .filter(|row| row.verdict != Verdict::TooLittleData)
        .collect();
    let changed: Vec<&&Row> = told
        .iter()
        .filter(|row| matches!(row.verdict, Verdict::More | Verdict::Less))
        .collect();
    if told.is_empty() {
        return "Too little data to tell of a change: record for longer, or several times.".into();
    }
    let Some(most) = changed.iter().max_by(|a, b| size(a).total_cmp(&size(b))) else {
        return format!(
            "No evidence of a change: none of {} metrics changed by more than a tenth for certain.",
            told.len()
        );
    };
    format!(
        "{} of {} metrics changed, most of all {}: {} to {} ({}).",
        changed.len(),
        told.len(),
        most.metric,
        value(most.a, most.unit),
        value(most.b, most.unit),
        percent(most.change)
    )
}

fn size(row: &Row) -> f64 {
    row.change.map_or(0.0, |change| change.ln_1p().abs())
}

pub fn text(diff: &Diff) -> String {
    let mut out = format!("{}\n\n", wrap(&diff.verdict, WIDTH, ""));
    for (name, side) in [("A", &diff.a), ("B", &diff.b)] {
        for one in side {
            out.push_str(&described(name, one));
        }
    }
    for warning in &diff.warnings {
        out.push_str(&format!("{}\n", wrap(&format!("! {warning}"), WIDTH, "  ")));
    }
    let (mut changed, mut others, mut untold) = (Vec::new(), Vec::new(), Vec::new());
    for row in &diff.metrics {
        match row.verdict {
            Verdict::More | Verdict::Less => changed.push(row),
            Verdict::Same | Verdict::NoEvidence => others.push(row),
            Verdict::TooLittleData => untold.push(row),
        }
    }
    for (title, rows) in [
        ("CHANGED", changed),
        ("NO EVIDENCE OF A CHANGE", others),
        ("TOO LITTLE DATA", untold),
    ] {
        out.push_str(&table(title, &rows));
    }
    out.push_str(&decades(diff));
    out
}

fn described(name: &str, side: &Side) -> String {
    let line = format!(
        "{name}  {}: {} in {} intervals, {}, {}",
        clean(&side.file),
        time(side.duration_ns),
        side.intervals,
        clean(&side.kernel),
        clean(&side.target)
    );
    format!("{}\n", wrap(&line, WIDTH, "   "))
}

fn table(title: &str, rows: &[&Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "\n{title:<NAME$} {:>9} {:>9} {:>9}  {:>19}\n",
        "A", "B", "change", "95 % interval"
    );
    for row in rows {
        let interval = match (row.low, row.high) {
            (Some(low), Some(high)) => {
                format!("{} to {}", percent(Some(low)), percent(Some(high)))
            }
            _ => "-".into(),
        };
        out.push_str(&format!(
            "{:<NAME$} {:>9} {:>9} {:>9}  {interval:>19}\n",
            row.metric,
            value(row.a, row.unit),
            value(row.b, row.unit),
            percent(row.change)
        ));
    }
    out
}

fn value(value: Option<f64>, unit: &str) -> String {
    let Some(value) = value else {
        return "-".into();
    };
    match unit {
        "ns" => time(value.round() as u64),
        "ns/s" => format!("{}/s", time(value.round() as u64)),
        "" => format!("{:.2} %", value * 100.0),
        _ => format!("{}/s", rate(value)),
    }
}

fn percent(change: Option<f64>) -> String {
    match change {
        None => "-".into(),
        Some(change) if change >= 9.995 => format!("x{:.0}", change + 1.0),
        Some(change) => format!("{:+.1} %", change * 100.0),
    }
}

const EDGES: [&str; 6] = [
    "[0,1)",
    "[1,10)",
    "[10,100)",
    "[100,1k)",
    "[1k,10k)",
    "[10k,inf)",
];

fn decades(diff: &Diff) -> String {
    let Some(decades) = &diff.decades else {
        let why = diff.decades_why.unwrap_or("not recorded");
        return format!(
            "\n{}\n",
            wrap(&format!("No decade table: {why}."), WIDTH, "")
        );
    };
    let mut out = "\nACQUISITIONS OF MMAP_LOCK, us".to_owned();
    for edge in EDGES {
        out.push_str(&format!(" {edge:>9}"));
    }
    out.push('\n');
    for (name, [a, b]) in [("read", &decades.read), ("write", &decades.write)] {
        for (side, counts) in [("A", a), ("B", b)] {
            out.push_str(&format!("  {:<27}", format!("{name}, {side}")));
            for count in counts {
                out.push_str(&format!(" {:>9}", crate::report::units::short(*count)));
            }
            out.push('\n');
        }
    }
    out
}

/// RFC 4180; a metric that cannot be told has empty fields.
pub fn csv(diff: &Diff) -> String {
    let number = |n: Option<f64>| n.map(|n| n.to_string()).unwrap_or_default();
    let mut out = "metric,unit,a,b,change,change_low,change_high,verdict\r\n".to_owned();
    for row in &diff.metrics {
        let verdict = match row.verdict {
            Verdict::More => "more",
            Verdict::Less => "less",
            Verdict::Same => "same",
            Verdict::NoEvidence => "no_evidence",
            Verdict::TooLittleData => "too_little_data",
        };
        let fields = [row.a, row.b, row.change, row.low, row.high].map(number);
        out.push_str(&format!(
            "{},{},{},{verdict}\r\n",
            row.metric,
            row.unit,
            fields.join(",")
        ));
    }
    out
}
