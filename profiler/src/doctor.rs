//! `vmascope doctor`: what this kernel can tell. In: the Session of probes that attached (and were
//! never armed). Out: every signal with its quality, the hook that serves it, and why no better.

use std::fmt::Write as _;

use crate::model::{Figure, Quality, Session};

const NAME: usize = 20;
const QUALITY: usize = 13;
const WIDTH: usize = 100;

pub fn text(s: &Session) -> String {
    let mut out = String::new();
    let h = &s.host;
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "vmascope {} on {}: Linux {} {}, {} CPUs, {}-byte pages",
        s.version, h.name, h.kernel, h.arch, h.cpus, h.page_size
    );
    let _ = writeln!(
        out,
        "tier: {}   per-VMA lock: {}   mmap_lock: {}   maps: {:.1} MiB   start: {:.0} ms",
        s.tier,
        s.vma_lock,
        s.mmap_lock,
        s.map_bytes as f64 / f64::from(1 << 20),
        s.start_ms
    );
    out.push('\n');
    let _ = writeln!(out, "{:NAME$}{:QUALITY$}hook and why", "signal", "quality");
    for signal in &s.signals {
        let hook = if signal.hook.is_empty() {
            "-"
        } else {
            &signal.hook
        };
        let _ = writeln!(
            out,
            "{:NAME$}{:QUALITY$}{hook}",
            signal.name,
            quality(signal.quality)
        );
        for line in wrap(&signal.reason, WIDTH - NAME - QUALITY) {
            let _ = writeln!(out, "{:1$}{line}", "", NAME + QUALITY);
        }
    }
    let stacks = s.signal(Figure::KernelStacks);
    if stacks.is_some_and(|s| s.quality == Quality::Approximate) {
        out.push_str(
            "\nsymbols are hidden (kernel.kptr_restrict): CAP_SYSLOG is needed to name functions\n",
        );
    }
    out
}

pub fn quality(q: Quality) -> &'static str {
    match q {
        Quality::Exact => "exact",
        Quality::Approximate => "approximate",
        Quality::Unavailable => "unavailable",
    }
}

/// Breaks at spaces; a word longer than a line stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_at_spaces() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("", 5), Vec::<String>::new());
        assert_eq!(wrap("toolongword x", 5), ["toolongword", "x"]);
    }
}
