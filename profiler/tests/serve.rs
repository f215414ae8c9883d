//! The daemon as a scraper sees it: the real one, on this machine's own kernel, with this process as
//! its target. Needs root.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::MetricFamily;
use prost::Message as _;
use vmascope::sinks::prometheus::{METRICS, full_name};

/// Per host, as docs/serve.md has it.
const SERIES: usize = 500;
const NATIVE: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
/// Longer than two polls.
const SETTLED: Duration = Duration::from_millis(700);

/// One at a time: each measures this process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Daemon {
    child: Child,
    address: String,
    /// What it said until it listened.
    said: Vec<String>,
}

impl Daemon {
    fn start(listen: &str) -> Self {
        Self::start_with(listen, &[])
    }

    fn start_with(listen: &str, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_vmascope"))
            .args(["serve", "-i", "250ms", "--listen", listen, "-p"])
            .arg(std::process::id().to_string())
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            let address = line.split("http://").nth(1).map(str::to_owned);
            said.push(line);
            if let Some(address) = address {
                return Self {
                    child,
                    address: address.trim_end_matches("/metrics").to_owned(),
                    said,
                };
            }
        }
        let status = child.wait().unwrap();
        panic!("it ended with {status}: {said:?}");
    }

    fn get(&self, path: &str, accept: &str) -> (String, Vec<u8>) {
        let mut to = TcpStream::connect(&self.address).unwrap();
        write!(
            to,
            "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut all = Vec::new();
        to.read_to_end(&mut all).unwrap();
        let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(all[..end].to_vec()).unwrap();
        (head, all[end + 4..].to_vec())
    }

    /// Samples by name and labels.
    fn scrape(&self) -> BTreeMap<String, f64> {
        let (head, body) = self.get("/metrics", "application/openmetrics-text;version=1.0.0");
        assert!(
            head.contains("200 OK") && head.contains("openmetrics-text"),
            "{head}"
        );
        let text = String::from_utf8(body).unwrap();
        assert!(text.ends_with("# EOF\n"));
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.parse().unwrap())
            })
            .collect()
    }

    fn rss_kb(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let kb = field(Path::new(&status), "RssAnon:");
        kb.trim_end_matches(" kB").parse().unwrap()
    }

    /// Every thread's, by field.
    fn of_threads(&self, name: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        tasks
            .map(|task| field(&task.unwrap().path().join("status"), name))
            .collect()
    }

    /// As a service manager ends it.
    fn end(mut self) -> Duration {
        let begin = Instant::now();
        // SAFETY: a signal to our own child, which is not waited for yet.
        let sent = unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        assert_eq!(sent, 0);
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0));
        begin.elapsed()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Of a `status` file.
fn field(status: &Path, name: &str) -> String {
    let status = fs::read_to_string(status).unwrap();
    let value = status.lines().find_map(|l| l.strip_prefix(name));
    value.unwrap().trim().to_owned()
}

fn sum(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    let all = samples
        .iter()
        .filter(|(n, _)| n.split('{').next() == Some(name));
    all.map(|(_, value)| value).sum()
}

fn fault(pages: usize) {
    let mut memory = vec![0u8; pages * 4096];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
        std::hint::black_box(&page);
    }
}

/// Of this process, as the kernel counts.
fn own_faults() -> f64 {
    // SAFETY: plain integers, filled by the call.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is ours.
    let done = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    assert_eq!(done, 0);
    (usage.ru_minflt + usage.ru_majflt) as f64
}

#[test]
fn it_counts_what_the_kernel_counts_and_never_backwards() {
    let _alone = alone();
    let daemon = Daemon::start("127.0.0.1:0");
    sleep(SETTLED);
    let (first, before) = (daemon.scrape(), own_faults());
    // It measures without any privilege.
    for name in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
        let all = daemon.of_threads(name);
        assert!(
            all.len() > 1 && all.iter().all(|c| c == "0000000000000000"),
            "{name} {all:?}"
        );
    }
    assert!(daemon.of_threads("NoNewPrivs:").iter().all(|n| n == "1"));
    let mut last = first.clone();
    for _ in 0..5 {
        std::thread::spawn(|| fault(20_000)).join().unwrap();
        sleep(SETTLED);
        let now = daemon.scrape();
        for (name, was) in &last {
            let grows =
                name.contains("_total") || name.contains("_bucket") || name.contains("_count");
            if grows {
                assert!(
                    now.get(name).is_some_and(|is| is >= was),
                    "{name} was {was}"
                );
            }
        }
        last = now;
    }
    let (counted, kernel) = (
        sum(&last, "vmascope_faults_total") - sum(&first, "vmascope_faults_total"),
        own_faults() - before,
    );
    assert!(kernel > 90_000.0);
    assert!(
        (counted - kernel).abs() < 0.01 * kernel,
        "{counted}, the kernel says {kernel}"
    );
    // This process is one of those that do most, whatever its threads are called.
    let by_name = sum(&last, "vmascope_process_faults_total");
    assert!((by_name - sum(&last, "vmascope_faults_total")).abs() < 0.01 * by_name);
    assert!(last.len() <= SERIES, "{} series", last.len());
    assert!(daemon.end() < Duration::from_secs(5));
}

#[test]
fn native_histograms_hold_the_same_as_classic_ones() {
    let _alone = alone();
    let daemon = Daemon::start("127.0.0.1:0");
    fault(20_000);
    sleep(SETTLED);
    let (head, body) = daemon.get("/metrics", NATIVE);
    assert!(head.contains("application/vnd.google.protobuf"), "{head}");
    let mut body = &body[..];
    let mut histograms = 0;
    let mut faults = 0;
    while !body.is_empty() {
        let family = MetricFamily::decode_length_delimited(&mut body).unwrap();
        for metric in &family.metric {
            let Some(h) = &metric.histogram else { continue };
            histograms += 1;
            let (mut at, mut native) = (0_i64, 0_i64);
            for delta in &h.positive_delta {
                at += delta;
                native += at;
            }
            assert_eq!(native as u64, h.sample_count, "{}", family.name);
            let classic = h.bucket.last().unwrap();
            assert_eq!(classic.cumulative_count, h.sample_count, "{}", family.name);
            let spans: u32 = h.positive_span.iter().map(|s| s.length).sum();
            assert_eq!(spans as usize, h.positive_delta.len());
            if family.name == "vmascope_fault_duration_seconds" {
                faults += h.sample_count;
            }
        }
    }
    assert!(histograms > 3 && faults >= 20_000, "{histograms}, {faults}");
    daemon.end();
}

#[test]
fn a_storm_of_scrapes_neither_leaks_nor_stops_it() {
    let _alone = alone();
    let daemon = Daemon::start("127.0.0.1:0");
    let storm = |scrapes: usize| {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..scrapes).for_each(|_| drop(daemon.get("/metrics", NATIVE))));
            }
        });
    };
    storm(20);
    let before = daemon.rss_kb();
    storm(100);
    let after = daemon.rss_kb();
    assert!(after < before + 2_048, "{before} kB, then {after} kB");
    for path in ["/readyz", "/healthz"] {
        let (head, _) = daemon.get(path, "*/*");
        assert!(head.contains("200 OK"), "{path}: {head}");
    }
    assert!(daemon.get("/nothing", "*/*").0.contains("404"));
    daemon.end();
}

/// For ten seconds each way, in turns: what a fault costs in the programs, and what the daemon holds.
#[test]
#[ignore = "takes half a minute of a calm machine"]
fn a_storm_of_scrapes_slows_no_probe() {
    const TURNS: usize = 5;
    const SLOWER: f64 = 1.15;
    let _alone = alone();
    let daemon = Daemon::start_with("127.0.0.1:0", &["--bpf-stats"]);
    let stop = AtomicBool::new(false);
    let scraping = AtomicBool::new(false);
    let scrapes = AtomicU64::new(0);
    let (mut calm, mut stormy, mut rss) = (Vec::new(), Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                // Less would come from memory that the allocator has kept.
                fault(20_000);
            }
        });
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    if scraping.load(Relaxed) {
                        daemon.get("/metrics", NATIVE);
                        scrapes.fetch_add(1, Relaxed);
                    } else {
                        sleep(Duration::from_millis(5));
                    }
                }
            });
        }
        for turn in 0..2 * TURNS {
            scraping.store(turn % 2 == 1, Relaxed);
            sleep(SETTLED);
            let before = daemon.scrape();
            sleep(Duration::from_secs(2));
            let after = daemon.scrape();
            let grown = |name| sum(&after, name) - sum(&before, name);
            let cost = grown("vmascope_bpf_run_seconds_total") / grown("vmascope_faults_total");
            let of = if turn % 2 == 1 {
                &mut stormy
            } else {
                &mut calm
            };
            of.push(cost * 1e9);
            rss.push(daemon.rss_kb());
        }
        stop.store(true, Relaxed);
    });
    let n = scrapes.load(Relaxed);
    println!("ns a fault: {calm:.0?} without, {stormy:.0?} with {n} scrapes; {rss:?} kB");
    assert!(n > 1_000, "{n} scrapes are no storm");
    let (calm, stormy) = (median(calm), median(stormy));
    assert!(
        stormy < calm * SLOWER,
        "{calm:.0} ns a fault, then {stormy:.0}"
    );
    let (first, last) = (rss[1], *rss.last().unwrap());
    assert!(
        last < first + first / 10 + 1_024,
        "{first} kB, then {last} kB"
    );
    let end = daemon.scrape();
    let lost = end.iter().find(|(name, _)| name.contains("ring_full"));
    assert_eq!(lost.map(|(_, n)| *n), Some(0.0));
    daemon.end();
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[test]
fn what_cannot_be_is_told_in_a_line() {
    let _alone = alone();
    let daemon = Daemon::start("0.0.0.0:0");
    assert!(
        daemon.said[0].contains("no authentication"),
        "{:?}",
        daemon.said
    );
    let second = |listen: &str| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmascope"));
        command
            .args(["serve", "--listen", listen])
            .output()
            .unwrap()
    };
    let port = daemon.address.rsplit(':').next().unwrap();
    for (listen, code, word) in [
        (format!("127.0.0.1:{port}").as_str(), 1, "in use"),
        ("localhost:9464", 2, "IP address"),
        ("127.0.0.1", 2, "port"),
    ] {
        let ended = second(listen);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(code), "{said}");
        assert!(
            said.contains(word) && said.trim().lines().count() == 1,
            "{said}"
        );
    }
    daemon.end();
}

/// The table of docs/serve.md has every metric there is, with its type and meaning.
#[test]
fn the_table_of_metrics_is_true() {
    let doc = include_str!("../../docs/serve.md");
    let rows: Vec<Vec<&str>> = doc
        .lines()
        .filter(|line| line.starts_with("| `vmascope_") || line.starts_with("| `process_"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let told = rows.iter().map(|row| {
        let name = row[1].trim_matches('`').to_owned();
        (name, row[2].to_owned(), row[4].to_owned())
    });
    let true_ones = METRICS
        .iter()
        .map(|m| (full_name(m), m.kind.as_str().to_owned(), m.help.to_owned()));
    assert_eq!(
        told.skip_while(|(name, ..)| name != "vmascope_faults_total")
            .take(METRICS.len())
            .collect::<Vec<_>>(),
        true_ones.collect::<Vec<_>>()
    );
}
