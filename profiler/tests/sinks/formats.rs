//! docs/formats.md against the code: every key of the report's JSON, and every word. Its tables are held
//! against those of a recording in `recording.rs`.

use std::collections::BTreeSet;

use profiler_common::words::{
    FallbackReason, FolioState, HeldWait, IoprioClass, Kind, Loss, Mode, Op, Path, PrioClass,
    RetryReason,
};
use serde_json::Value;
use vmascope::{recording::Writer, report};

use crate::support;

const PAGE: &str = include_str!("../../../docs/formats.md");

/// The part of the page with this title.
fn part(title: &str) -> &'static str {
    let from = PAGE.split(&format!("\n## {title}\n")).nth(1).unwrap();
    from.split("\n## ").next().unwrap()
}

fn words() -> BTreeSet<&'static str> {
    fn of<W: Copy>(all: &[W], name: fn(W) -> &'static str) -> Vec<&'static str> {
        all.iter().map(|w| name(*w)).collect()
    }
    let lists = [
        of(Path::ALL, Path::name),
        of(Kind::ALL, Kind::name),
        of(FallbackReason::ALL, FallbackReason::name),
        of(RetryReason::ALL, RetryReason::name),
        of(FolioState::ALL, FolioState::name),
        of(HeldWait::ALL, HeldWait::name),
        of(Op::ALL, Op::name),
        of(Mode::ALL, Mode::name),
        of(PrioClass::ALL, PrioClass::name),
        of(IoprioClass::ALL, IoprioClass::name),
        of(Loss::ALL, Loss::name),
        vec!["unknown", "lock"],
    ];
    lists.concat().into_iter().collect()
}

fn keys(value: &Value, to: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            to.extend(fields.keys().cloned());
            fields.values().for_each(|value| keys(value, to));
        }
        Value::Array(all) => all.iter().for_each(|value| keys(value, to)),
        _ => {}
    }
}

#[test]
fn it_knows_every_word() {
    let page = part("Words");
    for word in words() {
        assert!(page.contains(&format!("`{word}`")), "{word}");
    }
}

#[test]
fn it_knows_every_key_of_the_report() {
    let mut writer = Writer::in_memory(&support::session()).unwrap();
    writer.events(&support::batch()).unwrap();
    let report = report::of(&writer.into_recording(&support::busy(2)).unwrap()).unwrap();
    let mut report: Value = serde_json::from_str(&report::json(&report).unwrap()).unwrap();
    // Keyed by their names, which are in tables of their own.
    let policies = report["what_if"].as_object_mut().unwrap();
    *policies = policies
        .iter_mut()
        .map(|(_, p)| ("POLICY".into(), p.take()))
        .collect();
    let signals = report["signals"].as_object_mut().unwrap();
    *signals = signals
        .iter_mut()
        .map(|(_, s)| ("NAME".into(), s.take()))
        .collect();
    let mut all = BTreeSet::new();
    keys(&report, &mut all);
    assert!(all.len() > 150, "{}", all.len());
    let page = part("Report as JSON");
    let known: BTreeSet<&str> = page
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .collect();
    let words = words();
    let missing: Vec<_> = all
        .iter()
        .filter(|key| !known.contains(key.as_str()) && !words.contains(key.as_str()))
        .collect();
    assert_eq!(missing, Vec::<&String>::new());
}
