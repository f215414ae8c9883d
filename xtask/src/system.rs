//! Programs and packages of the machine itself: what is there, and how to get what is missing.
//!
//! Root is asked for in one place only, `install`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A program on PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

pub fn is_root() -> bool {
    // SAFETY: geteuid takes no argument and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Runs a command with its output on our own; an exit code other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", show(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", show(command));
    }
    Ok(())
}

/// Runs a command and returns its standard output; the last line it complains with is the error.
pub fn output(command: &mut Command) -> Result<String> {
    captured(command, |stderr| {
        stderr.lines().last().unwrap_or("no message").to_owned()
    })
}

/// As `output`, but the error holds every line: for programs whose last one says little.
pub fn output_or_all_errors(command: &mut Command) -> Result<String> {
    captured(command, |stderr| {
        let lines: Vec<&str> = stderr.lines().map(str::trim).collect();
        lines.join(" / ")
    })
}

fn captured(command: &mut Command, message: fn(&str) -> String) -> Result<String> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", show(command)))?;
    if !out.status.success() {
        let stderr = String::from_utf8_lossy(&out.stderr);
        let message = message(stderr.trim());
        bail!("{} ended with {}: {message}", show(command), out.status);
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Program and arguments, for messages.
pub fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy()));
    words.join(" ")
}

/// Something the machine must have, and the Debian package that brings it.
pub struct Need {
    pub package: &'static str,
    pub why: &'static str,
    pub present: bool,
}

/// Installs the packages of the needs that are not met, as root; else tells the exact command.
pub fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.present).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    for need in &missing {
        println!("missing: {} ({})", need.package, need.why);
    }
    let remedy = format!(
        "sudo apt-get install --no-install-recommends {}",
        packages.join(" ")
    );
    if find("apt-get").is_none() {
        bail!(
            "this is no Debian: install what gives {}",
            packages.join(", ")
        );
    }
    if !is_root() {
        bail!("these packages need root: run `{remedy}`, then try again");
    }
    println!("installing with apt-get: {}", packages.join(" "));
    // The machine's own index is usually good enough; refresh it only when it proves too old.
    if apt_install(&packages).is_err() {
        let mut update = Command::new("apt-get");
        run(update.args(["-q", "update"])).context("refresh apt's index by hand")?;
        apt_install(&packages).with_context(|| format!("run `{remedy}`"))?;
    }
    Ok(())
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let mut install = Command::new("apt-get");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-q", "-y", "--no-install-recommends", "install"])
        .args(packages)
        .stdout(Stdio::null())
        .stdin(Stdio::null());
    output(&mut install).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there_only() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }

    #[test]
    fn an_error_carries_the_programs_last_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo first >&2; echo last words >&2; exit 3"]);
        let error = output(&mut command).map(drop).map_err(|e| e.to_string());
        assert!(error.is_err_and(|text| text.ends_with("exit status: 3: last words")));
    }
}
