//! Debian package files and Debian's order of versions.

use std::cmp::Ordering;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{paths, system};

/// Unpacks a .deb into `dir`, which must not exist yet and is complete as soon as it does.
pub fn unpack(deb: &Path, dir: &Path) -> Result<()> {
    let temp = paths::temp_beside(dir);
    paths::make_dir(&temp)?;
    unpack_over(deb, &temp)?;
    fs::rename(&temp, dir)
        .with_context(|| format!("cannot move {} to {}", temp.display(), dir.display()))
}

/// Unpacks a .deb into a folder that may already hold others.
pub fn unpack_over(deb: &Path, dir: &Path) -> Result<()> {
    system::output(Command::new("dpkg-deb").arg("-x").arg(deb).arg(dir)).map(drop)
}

/// Compares two versions as dpkg does (deb-version(7)).
pub fn compare(a: &str, b: &str) -> Ordering {
    let (epoch_a, upstream_a, revision_a) = split(a);
    let (epoch_b, upstream_b, revision_b) = split(b);
    epoch_a
        .cmp(&epoch_b)
        .then_with(|| compare_part(upstream_a.as_bytes(), upstream_b.as_bytes()))
        .then_with(|| compare_part(revision_a.as_bytes(), revision_b.as_bytes()))
}

fn split(version: &str) -> (u64, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
    (epoch.parse().unwrap_or(0), upstream, revision)
}

/// `~` before everything, even the end; letters before other characters; digits by value.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        None => 0,
        Some(b'~') => -1,
        Some(b) if b.is_ascii_digit() => 0,
        Some(b) if b.is_ascii_alphabetic() => i32::from(*b),
        Some(b) => i32::from(*b) + 256,
    }
}

fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        while a.first().is_some_and(|c| !c.is_ascii_digit())
            || b.first().is_some_and(|c| !c.is_ascii_digit())
        {
            let order = weight(a.first()).cmp(&weight(b.first()));
            if order != Ordering::Equal {
                return order;
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        let (number_a, rest_a) = number(a);
        let (number_b, rest_b) = number(b);
        let order = number_a
            .len()
            .cmp(&number_b.len())
            .then_with(|| number_a.cmp(number_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

/// The digits at the start without leading zeros, and what follows them.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|c| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().take_while(|c| **c == b'0').count();
    (digits.get(zeros..).unwrap_or_default(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_dpkg() {
        for (small, big) in [
            ("6.12.9-1", "6.12.10-1"),
            ("6.12.117-1~bpo12+1", "6.12.117-1"),
            ("1:1.0-1", "2:0.1-1"),
            ("9.9-1", "1:0.1-1"),
            ("1.0~rc1-1", "1.0-1"),
            ("1.0", "1.0a"),
            ("1.0a", "1.0+b"),
            ("1.0-1", "1.0-1+b1"),
            ("1.0", "1.0-1"),
            ("7.3.4-1~bpo13+1", "7.3.4-1"),
            ("6.1.0-9", "6.1.0-10"),
        ] {
            assert_eq!(compare(small, big), Ordering::Less, "{small} < {big}");
            assert_eq!(compare(big, small), Ordering::Greater, "{big} > {small}");
        }
        for (a, b) in [("1.0", "1.0-0"), ("0:1.2-3", "1.2-3"), ("1.01-1", "1.1-1")] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} = {b}");
        }
    }
}
