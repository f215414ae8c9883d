//! `vmascope serve`: the daemon. In: a session, measured until SIGTERM. Out: answers to scrapers over
//! HTTP, from what was polled last.

use std::{
    convert::Infallible,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

use super::{
    asked,
    measure::{Keep, until_the_end},
};
use crate::{
    cli::Serve,
    error::say,
    kernel::capabilities,
    model::{Batch, Snapshot},
    session,
    sinks::prometheus::{Exposition, Format, Scrape},
};

/// Scrapers at a time; others wait for their turn.
const CONNECTIONS: usize = 32;
/// What a scraper has to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// Intervals without a poll after which the figures are stale.
const STALE: u32 = 5;

const ABOUT: &str = "vmascope: page faults and the locks of an address space\n\
    /metrics  for Prometheus\n/healthz  is there\n/readyz   measures\n";

pub fn run(args: &Serve) -> Result<ExitCode> {
    let asked = asked::probing(&args.probing)?;
    let interval = args.probing.interval;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(async {
            // First what fails fast, and needs nothing.
            let listener = TcpListener::bind(args.listen)
                .await
                .with_context(|| format!("cannot listen on {}", args.listen))?;
            let mut live = session::start(&asked)?;
            live.remember_dead(0);
            live.time_runs(args.bpf_stats)?;
            // All that takes privileges is done, and there is no other thread yet.
            capabilities::drop_all().context("cannot drop privileges")?;
            live.arm()?;
            let latest = Latest::default();
            let mut keep = Publisher {
                exposition: Exposition::new(live.session.clone(), args.top),
                latest: latest.clone(),
            };
            // Not before the first interval has passed: /metrics is there from the start.
            keep.interval(&live.snapshot()?)?;
            let here = listener.local_addr().context("cannot listen")?;
            warn(here);
            say(&format!("measuring; http://{here}/metrics"));
            let server = Server {
                latest,
                stale: interval * STALE,
            };
            tokio::select! {
                ended = until_the_end(live, None, None, interval, &mut keep) => ended?.counted.map(drop),
                stopped = listen(listener, server) => stopped,
            }
        })?;
    Ok(ExitCode::SUCCESS)
}

fn warn(here: SocketAddr) {
    if !here.ip().is_loopback() {
        say(&format!(
            "warning: {here} is no loopback address, and there is no authentication: names of processes are readable by whoever reaches it"
        ));
    }
}

/// The page of the last interval, and when it was made.
#[derive(Clone)]
struct Polled {
    scrape: Arc<Scrape>,
    at: Instant,
}

/// Latest wins.
#[derive(Clone, Default)]
struct Latest(Arc<Mutex<Option<Polled>>>);

impl Latest {
    fn put(&self, scrape: Scrape) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = Some(Polled {
            scrape: Arc::new(scrape),
            at: Instant::now(),
        });
    }

    fn get(&self) -> Option<Polled> {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latest.clone()
    }
}

struct Publisher {
    exposition: Exposition,
    latest: Latest,
}

impl Keep for Publisher {
    fn events(&mut self, batch: Batch) -> Result<()> {
        self.exposition.events(batch);
        Ok(())
    }

    fn interval(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.latest.put(self.exposition.interval(snapshot));
        Ok(())
    }
}

#[derive(Clone)]
struct Server {
    latest: Latest,
    stale: Duration,
}

async fn listen(listener: TcpListener, server: Server) -> Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await?;
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            // Of one connection, or of all files at the moment: the next may be better.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let server = server.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = server.answer(&request);
                async { Ok::<_, Infallible>(answer) }
            });
            // A scraper that goes away in the middle is its own business.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(connection), service)
                .await;
            drop(place);
        });
    }
}

impl Server {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => self.metrics(request),
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match self.latest.get() {
                Some(polled) if polled.at.elapsed() < self.stale => text(StatusCode::OK, "ok\n"),
                _ => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "nothing was polled lately\n",
                ),
            },
            "/" => text(StatusCode::OK, ABOUT),
            _ => text(StatusCode::NOT_FOUND, "no such page: see /metrics\n"),
        }
    }

    fn metrics(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(polled) = self.latest.get() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "nothing was polled yet\n");
        };
        let accept = request.headers().get(ACCEPT);
        let accept = accept.and_then(|a| a.to_str().ok()).unwrap_or_default();
        let format = Format::accepted(accept);
        let mut response = Response::new(Full::new(polled.scrape.page(format)));
        let kind = HeaderValue::from_static(format.content_type(accept));
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
