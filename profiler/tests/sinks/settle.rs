//! What-if counters of a scraper add up to what the report says of the same events, however many come.

use std::collections::BTreeMap;

use vmascope::{
    model::Batch,
    recording::Writer,
    report,
    sinks::prometheus::{Exposition, Format},
};

use crate::support::{self, ARMED_NS, MS, Scratch, busy, session};

const POLICY: &str = "hold_across_io";

/// Faults that wait for I/O, `every_us`, each for 2 ms; every third meets a writer in the middle, and a
/// reader behind it. Their retry ends 1 ms later, of one in a hundred 1.5 s later. Batches of 0.1 s.
fn storm(seconds: u64, every_us: u64) -> Vec<Batch> {
    let (windows, arrivals, conflicts) = support::windows();
    let fault = &support::faults()[0];
    let mut batches = Vec::new();
    batches.resize_with(seconds as usize * 10 + 20, Batch::default);
    let mut put = |at_ns: u64, event: &mut dyn FnMut(&mut Batch)| {
        event(&mut batches[((at_ns - ARMED_NS) / (100 * MS)) as usize]);
    };
    for i in 0..seconds * 1_000_000 / every_us {
        let start = ARMED_NS + i * every_us * 1_000;
        let (tid, mm) = (10_000 + i as u32, 1_000 + i % 50);
        let close = start + 2 * MS;
        let mut window = windows[0].clone();
        (window.id, window.tid, window.mm) = (i + 1, tid, mm);
        (window.attempt_ns, window.io_ns, window.close_ns) = (start, start + 1, close);
        put(close, &mut |batch| batch.windows.push(window.clone()));
        if i % 3 == 0 {
            let mut met = conflicts[0].clone();
            (met.window, met.at_ns, met.tid) = (i + 1, start + MS, 7);
            put(close, &mut |batch| batch.conflicts.push(met.clone()));
            let mut behind = arrivals[2].clone();
            (behind.at_ns, behind.mm) = (start + MS + 1_000, mm);
            put(behind.at_ns, &mut |batch| {
                batch.arrivals.push(behind.clone())
            });
        }
        let mut ended = fault.clone();
        (ended.tid, ended.start_ns, ended.mmap_wait_ns) = (tid, start, 500_000);
        ended.end_ns = close + if i % 100 == 0 { 1_500 * MS } else { MS };
        put(ended.end_ns, &mut |batch| batch.faults.push(ended.clone()));
    }
    batches
}

/// Saved, lost, amplified in seconds, and the windows that were judged too soon.
fn scraped(batches: Vec<Batch>) -> [f64; 4] {
    let mut exposition = Exposition::new(session(), 10);
    let mut now = busy(10);
    for (i, batch) in batches.into_iter().enumerate() {
        exposition.events(batch);
        now.at_ns = ARMED_NS + (i as u64 + 1) * 100 * MS;
        exposition.interval(&now);
    }
    now.at_ns += 20_000 * MS;
    let page = exposition.interval(&now).page(Format::Text);
    let page = String::from_utf8(page.to_vec()).unwrap();
    let samples: BTreeMap<&str, f64> = page
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(series, value)| Some((series, value.parse().ok()?)))
        .collect();
    let of = |what| {
        samples[format!("vmascope_what_if_{what}_seconds_total{{policy=\"{POLICY}\"}}").as_str()]
    };
    let unended = samples["vmascope_what_if_unended_total"];
    [of("saved"), of("lost"), of("amplified"), unended]
}

fn reported(test: &str, batches: Vec<Batch>) -> [f64; 3] {
    let dir = Scratch::new(test);
    let path = dir.file("a.vmas");
    let mut writer = Writer::create(&path, &session()).unwrap();
    for batch in &batches {
        writer.events(batch).unwrap();
    }
    writer.finish(&busy(10)).unwrap();
    let recording = vmascope::recording::Recording::open(&path).unwrap();
    let text = report::json(&report::of(&recording).unwrap()).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let policy = &report["what_if"][POLICY];
    ["saved_ns", "lost_ns", "amplified_ns"].map(|of| policy[of].as_u64().unwrap() as f64 / 1e9)
}

/// Of a sum: the rest is blocked intervals that were cut in two where figures were settled.
fn near(got: f64, truth: f64) -> bool {
    (got / truth - 1.0).abs() < 0.01
}

#[test]
fn a_scraper_is_told_what_the_report_tells_at_any_rate() {
    for every_us in [2_000, 200] {
        let told = scraped(storm(25, every_us));
        let truth = reported("settled", storm(25, every_us));
        assert!(truth.into_iter().all(|sum| sum > 1.0), "{truth:?}");
        assert_eq!(told[3], 0.0, "{every_us} us: {told:?}");
        let same = told.into_iter().zip(truth).all(|(got, sum)| near(got, sum));
        assert!(same, "{every_us} us: {told:?}, not {truth:?}");
    }
}

#[test]
fn what_is_more_than_can_be_kept_is_told() {
    let batches = storm(2, 20);
    let [saved, lost, _, unended] = scraped(batches);
    let truth = reported("unsettled", storm(2, 20));
    assert!(unended > 0.0 && near(lost, truth[1]), "{lost} {truth:?}");
    let missing = unended * 500e-6;
    assert!(
        near(saved + missing, truth[0]),
        "{saved} + {missing}, not {truth:?}"
    );
}
