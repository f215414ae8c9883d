//! `vmascope export`: a recording in other tools' formats.

use std::{
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
            sink(&recording, to, args.by)?;
            user::give_all(to)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
