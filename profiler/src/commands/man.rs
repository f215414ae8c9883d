//! `vmascope man`: the manual page, from the definition of the command line. Out: roff.

use std::io;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::cli::Cli;

const EXIT_STATUS: &str = r#".SH "EXIT STATUS"
0 when done, 1 on an error, 2 when the command line is wrong, 3 when this kernel cannot tell what was asked for.
.PP
With a command after \-\-: its own exit code, or 128 and the number of the signal that ended it;
125 when vmascope itself failed, 126 when the command cannot be executed, 127 when it was not found.
"#;

/// One page for all sub-commands: a device has no more room for manuals than this.
pub fn page() -> io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for sub in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
        section(sub, &mut page)?;
    }
    page.extend_from_slice(EXIT_STATUS.as_bytes());
    Ok(page)
}

fn section(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    page.extend_from_slice(format!(".SH \"{}\"\n", name.to_uppercase()).as_bytes());
    let man = Man::new(command.clone());
    let mut parts = Vec::new();
    man.render_description_section(&mut parts)?;
    man.render_synopsis_section(&mut parts)?;
    man.render_options_section(&mut parts)?;
    let parts = String::from_utf8_lossy(&parts);
    // The description needs no heading of its own, the others come below this command's.
    page.extend_from_slice(
        parts
            .replace(".SH DESCRIPTION\n", "")
            .replace(".SH ", ".SS ")
            .as_bytes(),
    );
    for sub in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
        section(sub, page)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_has_every_sub_command_and_flag() {
        let page = String::from_utf8(super::page().unwrap()).unwrap();
        for wanted in [
            "VMASCOPE RECORD",
            "VMASCOPE DEMO STORM",
            "EXIT STATUS",
            "sample",
            "threads",
            "csv",
        ] {
            assert!(page.contains(wanted), "{wanted} is missing in:\n{page}");
        }
    }
}
