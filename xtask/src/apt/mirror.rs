//! Which mirror the machine uses for Debian and for Debian's security archive.
//!
//! In: sources.list and *.sources as apt's configuration places them. Out: two addresses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::system;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrors {
    main: String,
    security: String,
}

impl Mirrors {
    /// The address under which a suite is found.
    pub fn of(&self, suite: &str) -> &str {
        if suite.ends_with("-security") {
            &self.security
        } else {
            &self.main
        }
    }
}

/// Reads the machine's apt sources.
pub fn find() -> Result<Mirrors> {
    let mut entries = Vec::new();
    for path in source_files()? {
        // A file that cannot be read is one that apt would not read either.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        if path.extension().is_some_and(|ext| ext == "sources") {
            entries.extend(deb822(&text));
        } else {
            entries.extend(one_line(&text));
        }
    }
    choose(&entries).context(
        "no Debian mirror in apt's sources: add a line `deb URI SUITE main` for Debian to sources.list",
    )
}

fn source_files() -> Result<Vec<PathBuf>> {
    let text = system::output(Command::new("apt-config").args([
        "shell",
        "LIST",
        "Dir::Etc::sourcelist/f",
        "PARTS",
        "Dir::Etc::sourceparts/d",
    ]))?;
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|path| PathBuf::from(path.trim_matches('\'')))
    };
    let mut files: Vec<PathBuf> = value("LIST").into_iter().collect();
    let mut parts: Vec<PathBuf> = value("PARTS")
        .and_then(|dir| fs::read_dir(dir).ok())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| has_source_name(path))
        .collect();
    parts.sort();
    files.extend(parts);
    Ok(files)
}

fn has_source_name(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ext| ext == "list" || ext == "sources")
}

/// One address and one suite under it.
type Entry = (String, String);

fn one_line(text: &str) -> Vec<Entry> {
    text.lines().filter_map(one_line_entry).collect()
}

fn one_line_entry(line: &str) -> Option<Entry> {
    let rest = line.trim().strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.to_owned()))
}

fn deb822(text: &str) -> Vec<Entry> {
    // A comment line is no part of its stanza, and no end of it.
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let text = lines.collect::<Vec<_>>().join("\n");
    text.split("\n\n").flat_map(stanza).collect()
}

fn stanza(text: &str) -> Vec<Entry> {
    let field = |name: &str| -> Vec<&str> {
        let mut words = Vec::new();
        let mut inside = false;
        for line in text.lines() {
            if line.starts_with([' ', '\t']) {
                if inside {
                    words.extend(line.split_whitespace());
                }
            } else if let Some((key, value)) = line.split_once(':') {
                inside = key.eq_ignore_ascii_case(name);
                if inside {
                    words.extend(value.split_whitespace());
                }
            }
        }
        words
    };
    if !field("Types").contains(&"deb") || field("Enabled").contains(&"no") {
        return Vec::new();
    }
    let mut entries = Vec::new();
    for uri in field("URIs") {
        for suite in field("Suites") {
            entries.push((uri.to_owned(), suite.to_owned()));
        }
    }
    entries
}

fn choose(entries: &[Entry]) -> Option<Mirrors> {
    let is_debian = |suite: &str| {
        let release = suite.split('-').next().unwrap_or(suite);
        [
            "bookworm", "trixie", "forky", "duke", "sid", "stable", "testing", "unstable",
        ]
        .contains(&release)
    };
    let is_security = |suite: &str| suite.ends_with("-security");
    let main = entries
        .iter()
        .find(|(_, suite)| is_debian(suite) && !is_security(suite))?;
    let security = entries
        .iter()
        .find(|(_, suite)| is_debian(suite) && is_security(suite));
    let main = main.0.trim_end_matches('/').to_owned();
    let security = match security {
        Some((uri, _)) => uri.trim_end_matches('/').to_owned(),
        // Mirrors carry both archives side by side.
        None => format!("{main}-security"),
    };
    Some(Mirrors { main, security })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms() {
        let old = "# deb http://no bookworm main\ndeb-src http://no bookworm main\n\
                   deb [arch=amd64 signed-by=/k] http://m/debian/ bookworm main\n";
        let new = "Types: deb\n# a comment\nURIs: http://s/debian-security\n\
                   Suites: bookworm-security\n trixie-security\nComponents: main\n\n\
                   Types: deb\nEnabled: no\nURIs: http://no\nSuites: trixie\n";
        let mut entries = one_line(old);
        entries.extend(deb822(new));
        assert_eq!(entries.len(), 3);
        let mirrors = choose(&entries).unwrap();
        assert_eq!(mirrors.of("sid"), "http://m/debian");
        assert_eq!(mirrors.of("trixie-security"), "http://s/debian-security");
    }

    #[test]
    fn other_archives_are_no_debian_mirror() {
        assert_eq!(choose(&one_line("deb http://m/node nodistro main")), None);
    }

    #[test]
    fn security_lies_beside_the_main_archive() {
        let mirrors = choose(&one_line("deb http://m/debian trixie main")).unwrap();
        assert_eq!(mirrors.of("trixie-security"), "http://m/debian-security");
    }
}
