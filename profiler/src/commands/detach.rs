//! `record --detach`: the recorder in a session of its own, so that it outlives the terminal, or the adb
//! connection, it was started from. In: the request, before any thread runs. Out, in the caller's process:
//! an exit code, once the recorder counts or has failed; in the recorder's: somebody to tell.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, PipeWriter, Read as _, Seek as _, SeekFrom, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::{fs::OpenOptionsExt as _, process::ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
};

use anyhow::{Context as _, Result};

use crate::{child, cli::Record, user};

/// Who waits to hear that counting has begun.
pub struct Caller(PipeWriter);

pub enum Detached {
    /// This is the recorder.
    Recorder(Caller),
    /// This is the caller, who is done.
    Caller(ExitCode),
}

impl Caller {
    /// Counting has begun. Nobody may listen any more.
    pub fn tell(mut self) {
        let _ = self.0.write_all(&[1]);
    }
}

/// What a recorder without a terminal says goes there: beside what it writes.
pub fn log_of(args: &Record) -> PathBuf {
    let stream = args.csv.as_ref().filter(|to| *to != Path::new("-"));
    let mut log = stream.unwrap_or(&args.output).as_os_str().to_owned();
    log.push(".log");
    log.into()
}

pub fn detach(args: &Record) -> Result<Detached> {
    let log = log_of(args);
    let mut said = OpenOptions::new()
        .append(true)
        .read(true)
        .create(true)
        // As root in a folder of anybody's, no link is followed.
        .custom_flags(libc::O_NOFOLLOW)
        .open(&log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    let before = said.seek(SeekFrom::End(0))?;
    user::give(&log)?;
    let (mut told, tell) = io::pipe().context("cannot make a pipe")?;
    // SAFETY: no other thread runs yet, so the child may do as it likes.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()).context("cannot fork"),
        0 => {
            leave(&said).context("cannot leave the terminal")?;
            Ok(Detached::Recorder(Caller(tell)))
        }
        pid => {
            drop(tell);
            let counts = told.read(&mut [0]).unwrap_or(0) == 1;
            let code = match counts {
                true => begun(args, pid, &log),
                false => failed(pid, &mut said, before, &log),
            };
            Ok(Detached::Caller(code))
        }
    }
}

/// No terminal, and none that can hang up.
fn leave(said: &File) -> io::Result<()> {
    let nothing = File::open("/dev/null")?;
    // SAFETY: no pointers; the descriptors are open.
    unsafe {
        if libc::setsid() < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        for (from, to) in [(&nothing, 0), (said, 1), (said, 2)] {
            if libc::dup2(from.as_raw_fd(), to) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

fn begun(args: &Record, pid: i32, log: &Path) -> ExitCode {
    let path = |p: &Path| fs::canonicalize(p).unwrap_or_else(|_| p.to_owned());
    let what = match args.csv.as_deref().unwrap_or(&args.output) {
        // Written later, or under another name.
        output if !output.exists() => output.to_owned(),
        output => path(output),
    };
    let _ = writeln!(
        io::stderr(),
        "recording to {} in process {pid}, until `vmascope stop {pid}`; what it says is in {}",
        what.display(),
        path(log).display()
    );
    ExitCode::SUCCESS
}

/// It ended before it counted: its words and its exit code are passed on.
fn failed(pid: i32, said: &mut File, before: u64, log: &Path) -> ExitCode {
    let mut status = 0;
    // SAFETY: a child of this process, and a place for its status.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid;
    let mut words = String::new();
    let _ = said
        .seek(SeekFrom::Start(before))
        .and_then(|_| said.read_to_string(&mut words));
    let _ = io::stderr().write_all(words.as_bytes());
    if before == 0 {
        let _ = fs::remove_file(log);
    }
    match reaped {
        true => ExitCode::from(child::exit_code(ExitStatus::from_raw(status))),
        false => ExitCode::FAILURE,
    }
}
