//! Processes of ours, and a Prometheus among them. In: the project's own configuration, only faster.
//! Out: a server that scrapes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};

use super::api::{Api, get};
use super::folder;
use super::tool::Prometheus;
use crate::{paths, system};

const PATIENCE: Duration = Duration::from_secs(30);
/// The server that asks for native histograms; all others get classic ones.
pub const NATIVE: &str = "native";

/// A process of ours, which ends with us.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Server {
    pub name: &'static str,
    pub api: Api,
    _running: Running,
}

pub fn now_s() -> Result<f64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Ok(now.context("this machine's clock is wrong")?.as_secs_f64())
}

/// Free a moment ago.
pub fn free_port() -> Result<SocketAddr> {
    let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(any.local_addr()?)
}

pub fn start(command: &mut Command, log: &Path) -> Result<Running> {
    let log = File::options().create(true).append(true).open(log)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", system::show(command)))?;
    Ok(Running(child))
}

pub fn until_ready(running: &mut Running, at: SocketAddr, path: &str, log: &Path) -> Result<()> {
    let begin = Instant::now();
    loop {
        if get(at, path).is_ok() {
            return Ok(());
        }
        let ended = running.0.try_wait()?;
        if ended.is_some() || begin.elapsed() > PATIENCE {
            let said = fs::read_to_string(log).unwrap_or_default();
            let last = said.trim().lines().last().unwrap_or("it said nothing");
            bail!("no answer from {at}: {last}");
        }
        sleep(Duration::from_millis(50));
    }
}

impl Server {
    /// With the project's own configuration, only faster.
    pub fn start(
        prometheus: &Prometheus,
        dir: &Path,
        target: SocketAddr,
        name: &'static str,
        interval: &str,
    ) -> Result<Self> {
        let dir = dir.join(name);
        paths::make_dir(&dir)?;
        for rules in ["rules.yml", "alerts.yml"] {
            fs::copy(folder().join("prometheus").join(rules), dir.join(rules))?;
        }
        let config = fs::read_to_string(folder().join("prometheus/scrape.yml"))?;
        let mut fast = config.clone();
        for (usual, ours) in [
            ("_interval: 15s", &format!("_interval: {interval}")),
            ("127.0.0.1:9464", &target.to_string()),
        ] {
            ensure!(config.contains(usual), "scrape.yml has no {usual:?}");
            fast = fast.replace(usual, ours);
        }
        fs::write(dir.join("prometheus.yml"), fast)?;
        let at = free_port()?;
        let log = dir.join("log");
        let mut command = prometheus.server();
        command
            .current_dir(&dir)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address={at}"));
        if name == NATIVE {
            command.arg("--enable-feature=native-histograms");
        }
        let mut running = start(&mut command, &log)?;
        until_ready(&mut running, at, "/-/ready", &log)?;
        Ok(Self {
            name,
            api: Api { at },
            _running: running,
        })
    }
}
