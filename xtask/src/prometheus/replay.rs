//! Pages that were saved where no Prometheus is, in a guest, scraped by one here.
//!
//! In: pages as a daemon gave them, oldest first. Out: an error if a query of a dashboard or rule has no
//! data. A page is shown for one scrape interval: rates are other than they were, counters are the same.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::api::Span;
use super::judged::Judged;
use super::server::{Server, now_s};
use super::tool::Prometheus;

/// More would only take longer; with fewer there are no rates.
const PAGES: RangeInclusive<usize> = 4..=12;
const INTERVAL: &str = "500ms";
const PATIENCE: Duration = Duration::from_secs(30);

/// `dir` is for what the server writes.
pub fn replay(prometheus: &Prometheus, pages: &[PathBuf], dir: &Path) -> Result<()> {
    ensure!(pages.len() >= *PAGES.start(), "{} pages", pages.len());
    let count = pages.len().min(*PAGES.end());
    let texts = (0..count).map(|n| {
        // The first, the last, and what lies between.
        let path = &pages[n * (pages.len() - 1) / (count - 1)];
        fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    });
    let texts = texts.collect::<Result<Vec<_>>>()?;
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let target = listener.local_addr()?;
    let shown = Arc::new(AtomicUsize::new(0));
    let from_s = now_s()?;
    let begin = Instant::now();
    let counter = Arc::clone(&shown);
    // Ends with us: it only waits for scrapers.
    spawn(move || show(&listener, &texts, &counter));
    let server = Server::start(prometheus, dir, target, "classic", INTERVAL)?;
    // All pages, and the last until the rules have seen it.
    while shown.load(Ordering::Relaxed) < count + 3 {
        ensure!(begin.elapsed() < PATIENCE, "Prometheus does not scrape");
        sleep(Duration::from_millis(100));
    }
    let span = Span {
        from_s,
        to_s: now_s()?,
    };
    let mut judged = Judged::new(&server, span)?;
    judged.all(&super::dashboards()?)?;
    judged.verdict()
}

/// One page for each scrape.
fn show(listener: &TcpListener, texts: &[Vec<u8>], shown: &AtomicUsize) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut request = [0; 4096];
        let text = &texts[shown.load(Ordering::Relaxed).min(texts.len() - 1)];
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            text.len()
        );
        // A scraper that has gone asks again.
        let sent = stream
            .read(&mut request)
            .and_then(|_| stream.write_all(head.as_bytes()))
            .and_then(|()| stream.write_all(text));
        if sent.is_ok() {
            shown.fetch_add(1, Ordering::Relaxed);
        }
    }
}
