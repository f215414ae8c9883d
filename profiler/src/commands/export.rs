//! `vmascope export`: a recording in other tools' formats.

use std::{
    ffi::OsStr,
    fs,
    io::{self, IsTerminal as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, anyhow};

use super::print;
use crate::{
    beside,
    cli::{Export, To},
    error::Usage,
    recording::Recording,
    sinks::{self, csv, folded, hlog, html, json, perfetto},
    user,
};

type Sink = fn(&Recording, &Path, folded::By) -> sinks::Result<()>;

/// Each format: where it is to go, and who writes it.
fn formats(to: &To) -> [(&Option<PathBuf>, Sink); 7] {
    [
        (&to.csv, |from, to, _| csv::export(from.narrowed()?, to)),
        (&to.json, |from, to, _| json::export(from.narrowed()?, to)),
        (&to.hlog, |from, to, _| hlog::export(from, to)),
        (&to.perfetto, |from, to, _| {
            perfetto::export(from.narrowed()?, to)
        }),
        // It sums up first, and then shows.
        (&to.html, |from, to, _| html::export(from, to)),
        (&to.folded, |from, to, by| {
            folded::export(from.narrowed()?, to, by)
        }),
        (&to.flamegraph, |from, to, by| {
            folded::flamegraph(from.narrowed()?, to, by)
        }),
    ]
}

pub fn run(args: &Export) -> Result<ExitCode> {
    if args.to.json_schema {
        let schema = json::schema().context("cannot make the schema")?;
        print(&format!("{schema:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(why) = refusal(&args.to, io::stdout().is_terminal()) {
        return Err(Usage(why.into()).into());
    }
    let file = args.file.as_deref().context("no FILE")?;
    for (to, sink) in formats(&args.to) {
        let Some(to) = to else { continue };
        let recording = Recording::open(file)?.showing((&args.rows).into());
        let write = |to: &Path| Ok(sink(&recording, to, args.by)?);
        // It makes folders; a file's must be there.
        if let Some(folder) = args.to.csv.as_deref().and_then(Path::parent)
            && args.to.csv.as_ref() == Some(to)
        {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        match is_standard_output(to) {
            true => piped(write)?,
            false => whole(to, write)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn is_standard_output(to: &Path) -> bool {
    to == Path::new("-")
}

/// Why that cannot go to standard output.
fn refusal(to: &To, terminal: bool) -> Option<&'static str> {
    let goes = |to: &Option<PathBuf>| to.as_deref().is_some_and(is_standard_output);
    let all = formats(to).into_iter().filter(|(to, _)| goes(to)).count();
    if goes(&to.csv) {
        Some("--csv makes a file for each table, in a folder: use --csv DIR, or --json -")
    } else if all > 1 {
        Some("standard output can take one format: give the others a FILE")
    } else if terminal && goes(&to.perfetto) {
        Some("a trace for Perfetto is binary, and standard output a terminal: use --perfetto FILE")
    } else {
        None
    }
}

/// To standard output as it comes. Sinks open a path, and standard output opened by its path would be
/// truncated, or not be opened where it is a socket: they get a pipe's.
fn piped(write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (mut from, to) = io::pipe().context("cannot make a pipe")?;
    let copy = move || {
        let mut out = io::stdout().lock();
        io::copy(&mut from, &mut out)?;
        out.flush()
    };
    let copier = std::thread::Builder::new()
        .name("vmascope-stdout".into())
        .spawn(copy)
        .context("cannot start a thread")?;
    let written = write(Path::new(&format!("/proc/self/fd/{}", to.as_raw_fd())));
    drop(to);
    let copied = copier.join().map_err(|_| anyhow!("the copier panicked"))?;
    match copied {
        // As `print` has it; the sink has noticed too.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(e).context("cannot write to standard output"),
        Ok(()) => written,
    }
}

/// All of an export or nothing: it is made beside its place, in a folder of this run alone, and moved
/// there when it is whole. What stood there before stays until then. Pipes and devices take it as it
/// comes.
fn whole(to: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let to = &fs::canonicalize(to).unwrap_or_else(|_| to.to_owned());
    if to.exists() && !to.is_file() && !to.is_dir() {
        return write(to);
    }
    let failed = || format!("cannot write {}", to.display());
    // Nobody else gets in before it is given away.
    let make = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
    let (private, ()) = beside::make(to, make).with_context(failed)?;
    let part = private.join(to.file_name().unwrap_or_else(|| OsStr::new("export")));
    let done = write(&part).and_then(|()| {
        let moved = user::give_all(&part).and_then(|()| {
            if to.is_dir() && part.is_dir() {
                into_folder(&part, to)
            } else {
                fs::rename(&part, to)
            }
        });
        moved.with_context(failed)
    });
    // Why it failed is what matters.
    let _ = fs::remove_dir_all(&private);
    done
}

/// Files of other names stay.
fn into_folder(part: &Path, to: &Path) -> io::Result<()> {
    for file in fs::read_dir(part)? {
        let file = file?;
        fs::rename(file.path(), to.join(file.file_name()))?;
    }
    fs::remove_dir(part)
}
