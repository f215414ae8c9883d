//! `vmascope export`: a recording in other tools' formats.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use super::print;
use crate::{
    cli::{Export, To},
    recording::Recording,
    sinks::{self, csv, folded, hlog, html, json, perfetto},
    user,
};

type Sink = fn(&Recording, &Path, folded::By) -> sinks::Result<()>;

/// Each format: where it is to go, and who writes it.
fn formats(to: &To) -> [(&Option<PathBuf>, Sink); 7] {
    [
        (&to.csv, |from, to, _| csv::export(from, to)),
        (&to.json, |from, to, _| json::export(from, to)),
        (&to.hlog, |from, to, _| hlog::export(from, to)),
        (&to.perfetto, |from, to, _| perfetto::export(from, to)),
        (&to.html, |from, to, _| html::export(from, to)),
        (&to.folded, folded::export),
        (&to.flamegraph, folded::flamegraph),
    ]
}

pub fn run(args: &Export) -> Result<ExitCode> {
    if args.to.json_schema {
        let schema = json::schema().context("cannot make the schema")?;
        print(&format!("{schema:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let recording = Recording::open(args.file.as_deref().context("no FILE")?)?;
    for (to, sink) in formats(&args.to) {
        if let Some(to) = to {
            whole(to, |part| Ok(sink(&recording, part, args.by)?))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All of an export or nothing: it is made beside its place, and moved there when it is whole. What
/// stood there before stays until then. Pipes and devices take it as it comes.
fn whole(to: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let to = &fs::canonicalize(to).unwrap_or_else(|_| to.to_owned());
    if to.exists() && !to.is_file() && !to.is_dir() {
        return write(to);
    }
    let mut part = to.clone().into_os_string();
    part.push("-new");
    let part = PathBuf::from(part);
    let done = write(&part).and_then(|()| {
        user::give_all(&part)?;
        let moved = if to.is_dir() && part.is_dir() {
            into_folder(&part, to)
        } else {
            fs::rename(&part, to)
        };
        moved.with_context(|| format!("cannot write {}", to.display()))
    });
    if done.is_err() {
        // Neither may be there; why it failed is what matters.
        let _ = fs::remove_file(&part);
        let _ = fs::remove_dir_all(&part);
    }
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
