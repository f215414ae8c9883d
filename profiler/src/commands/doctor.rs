//! `vmascope doctor`: attaches everything without arming it and says what came of it.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::{asked, print};
use crate::{
    cli::{Doctor, Format},
    doctor, session,
};

pub fn run(args: &Doctor) -> Result<ExitCode> {
    let mut live = session::start(&asked::doctor(args))?;
    live.ready();
    let text = match args.format {
        Format::Text => doctor::text(&live.session),
        Format::Json => {
            let mut json =
                serde_json::to_string_pretty(&live.session).context("cannot write JSON")?;
            json.push('\n');
            json
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
