//! The loads of `cargo xtask bench`: the same thing many times over.
//!
//! In: what, and how much of it. `fault` and `mprotect` time rounds in which nothing else happens;
//! `paced` faults at a steady rate; `crowd` is many processes that do little; `now` tells the time.
//! Out: one line of JSON.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use guest::pages::Pages;
use serde_json::{Value, json};

const USAGE: &str =
    "usage: load fault|mprotect COUNT ROUNDS | paced RATE SECONDS | crowd PROCESSES SECONDS | now";

fn minor_faults() -> i64 {
    // SAFETY: plain numbers, zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a valid place for the answer.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
    usage.ru_minflt
}

/// Time of one round, and the minor faults in it.
fn timed(work: impl FnOnce() -> io::Result<()>) -> io::Result<(u64, i64)> {
    let faults = minor_faults();
    let begin = Instant::now();
    work()?;
    let elapsed = nanoseconds(begin.elapsed());
    Ok((elapsed, minor_faults() - faults))
}

fn rounds(what: &str, count: usize, rounds: usize) -> io::Result<Value> {
    let (mut times, mut faults) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    let pages = Pages::new(if what == "fault" { count } else { 1 })?;
    for _ in 0..rounds {
        let (ns, faulted) = if what == "fault" {
            pages.drop_all()?;
            timed(|| {
                pages.touch();
                Ok(())
            })?
        } else {
            timed(|| (0..count).try_for_each(|_| pages.protect()))?
        };
        times.push(ns);
        faults.push(faulted);
    }
    Ok(json!({ "load": what, "count": count, "rounds_ns": times, "faults": faults }))
}

/// `rate` touches a second, by two threads.
fn paced(rate: usize, seconds: usize) -> io::Result<Value> {
    const THREADS: usize = 2;
    let begin = Instant::now();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| std::thread::spawn(move || paced_thread(rate / THREADS, seconds)))
        .collect();
    let mut faults = 0;
    for thread in threads {
        faults += thread
            .join()
            .map_err(|_| io::Error::other("a thread panicked"))??;
    }
    let elapsed = nanoseconds(begin.elapsed());
    Ok(json!({ "load": "paced", "faults": faults, "elapsed_ns": elapsed }))
}

/// `rate` touches a second, in a burst each millisecond; the faults it made.
fn paced_thread(rate: usize, seconds: usize) -> io::Result<i64> {
    const TICK: Duration = Duration::from_millis(1);
    let pages = Pages::new((rate / 1000).max(1))?;
    let before = minor_faults();
    let mut due = Instant::now();
    for _ in 0..seconds * 1000 {
        pages.touch();
        pages.drop_all()?;
        due += TICK;
        // A tick that comes late is made up for by the next ones.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(minor_faults() - before)
}

/// Many processes that each fault a little, twice a second.
fn crowd(processes: usize, seconds: usize) -> io::Result<Value> {
    let end = Instant::now() + Duration::from_secs(seconds as u64);
    for _ in 0..processes {
        // SAFETY: there is one thread, and the child goes on with this very program.
        match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => {
                let worked = member(end);
                std::process::exit(i32::from(worked.is_err()));
            }
            _ => {}
        }
    }
    let mut failed = 0;
    for _ in 0..processes {
        let mut status = 0;
        // SAFETY: a valid place for the answer.
        if unsafe { libc::wait(&mut status) } == -1 {
            return Err(io::Error::last_os_error());
        }
        failed += u32::from(status != 0);
    }
    Ok(json!({ "load": "crowd", "processes": processes, "failed": failed }))
}

fn member(end: Instant) -> io::Result<()> {
    let pages = Pages::new(4)?;
    while Instant::now() < end {
        pages.touch();
        pages.drop_all()?;
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn now() -> Value {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    json!({ "now_ns": time.tv_sec * 1_000_000_000 + time.tv_nsec })
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let answer = match args.as_slice() {
        ["now"] => Some(Ok(now())),
        [what, n, m] => match (n.parse(), m.parse()) {
            (Ok(n), Ok(m)) => work(what, n, m),
            _ => None,
        },
        _ => None,
    };
    match answer {
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Some(Ok(answer)) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// None: no such load.
fn work(what: &str, n: usize, m: usize) -> Option<io::Result<Value>> {
    match what {
        "fault" | "mprotect" => Some(rounds(what, n, m)),
        "paced" => Some(paced(n, m)),
        "crowd" => Some(crowd(n, m)),
        _ => None,
    }
}
