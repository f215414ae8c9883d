//! Checks on the text of the checkout that no other tool makes.
//!
//! In: every text file but what builds make. Out: one finding per rule.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::paths;
use crate::step::{Findings, Outcome};

/// Beyond this a file does more than one thing.
const MAX_LINES: usize = 600;

/// Addresses that a build must take from the machine's configuration, not from us. They are in
/// pieces here, or this file would break its own rule.
const HOSTS: [[&str; 2]; 7] = [
    ["deb.", "debian.org"],
    ["security.", "debian.org"],
    ["snapshot.", "debian.org"],
    ["index.", "crates.io"],
    ["static.", "crates.io"],
    ["static.", "rust-lang.org"],
    ["files.", "pythonhosted.org"],
];

/// Folders that exist on one machine only. Root's home is in every guest; what tools hide in it is
/// not.
const FOLDERS: [[&str; 2]; 3] = [["/ro", "ot/."], ["/wo", "rk/"], ["/ho", "me/"]];

pub fn check() -> Result<Findings> {
    let root = paths::root();
    let (mut long, mut foreign) = (Vec::new(), Vec::new());
    for path in sources(&root)? {
        // A link into nothing, or not text.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let name = path.strip_prefix(&root).unwrap_or(&path).display();
        let lines = text.lines().count();
        if path.extension().is_some_and(|ext| ext == "rs") && lines > MAX_LINES {
            long.push(format!("{name} has {lines} lines, {MAX_LINES} are allowed"));
        }
        // Cargo writes its lock file itself.
        if path.ends_with("Cargo.lock") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if let Some(what) = foreign_to_others(line) {
                foreign.push(format!("{name}:{}: {what}", number + 1));
            }
        }
    }
    let mut findings = Findings::default();
    findings.push("files are short", outcome(&long));
    findings.push("files name no mirror and no machine", outcome(&foreign));
    Ok(findings)
}

/// Walks rather than asks git: a checkout may be unpacked, or belong to another user.
fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let made = [root.join(".git"), root.join("dist"), root.join("target")];
    let mut folders = vec![root.to_path_buf()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder);
        for entry in entries.with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            let path = entry.path();
            // In a worktree .git is a file.
            if made.contains(&path) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                // Cargo marks a target folder wherever it is.
                if !path.join("CACHEDIR.TAG").exists() {
                    folders.push(path);
                }
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn outcome(complaints: &[String]) -> Outcome {
    if complaints.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(complaints.join("; "))
    }
}

fn foreign_to_others(line: &str) -> Option<String> {
    let host = HOSTS.iter().map(|parts| parts.concat());
    if let Some(host) = host.into_iter().find(|host| line.contains(host.as_str())) {
        return Some(host);
    }
    let starts = |at: usize| {
        let before = line[..at].chars().next_back();
        // `framework/` and `$HOME/root/` are other things than a path from the root.
        before.is_none_or(|c| !(c.is_alphanumeric() || "_-.}/*~".contains(c)))
    };
    FOLDERS.iter().map(|parts| parts.concat()).find(|folder| {
        line.match_indices(folder.as_str())
            .any(|(at, _)| starts(at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_machine_paths_and_hosts() {
        let path = FOLDERS[0].concat();
        assert!(foreign_to_others(&format!("cd {path}x")).is_some());
        assert!(foreign_to_others(&format!("\"{path}x\"")).is_some());
        assert!(foreign_to_others(&format!("sys{path}x")).is_none());
        let host = HOSTS[0].concat();
        assert!(foreign_to_others(&format!("http://{host}/debian")).is_some());
        assert!(foreign_to_others("https://docs.kernel.org/mm/").is_none());
    }
}
