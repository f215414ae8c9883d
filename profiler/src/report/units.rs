//! Figures as people read them: ASCII, three significant digits, never wider than a column.

/// `12,345`
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + 4);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `12,345`, and from a million on `1.23 M`: never more than seven characters.
pub fn short(n: u64) -> String {
    if n < 1_000_000 {
        return count(n);
    }
    const UNITS: &[(f64, &str)] = &[
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
    ];
    si(n as f64, UNITS)
}

/// A duration in the largest unit that leaves a digit before the point.
pub fn time(ns: u64) -> String {
    if ns == 0 {
        return "0".into();
    }
    if ns < 1_000 {
        return format!("{ns} ns");
    }
    if ns >= 10_000 * 1_000_000_000 {
        return si(ns as f64 / 3.6e12, &[(1e6, "M h"), (1.0, "h")]);
    }
    si(ns as f64, &[(1e9, "s"), (1e6, "ms"), (1e3, "us")])
}

/// `part` of `whole`; `-` of nothing.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".into();
    }
    let p = part as f64 * 100.0 / whole as f64;
    if part == 0 {
        "0 %".into()
    } else if part == whole {
        "100 %".into()
    } else if p < 0.1 {
        "< 0.1 %".into()
    } else if part < whole && p > 99.9 {
        "> 99.9 %".into()
    } else {
        format!("{p:.1} %")
    }
}

pub fn bytes(n: u64) -> String {
    const UNITS: &[(f64, &str)] = &[
        (1_099_511_627_776.0, "TiB"),
        (1_073_741_824.0, "GiB"),
        (1_048_576.0, "MiB"),
        (1024.0, "KiB"),
        (1.0, "B"),
    ];
    si(n as f64, UNITS)
}

/// A process's number in its pid namespace: `12 in web-1`.
pub fn within(ns_pid: u32, container: &str) -> String {
    let place = if container.is_empty() {
        "its pid namespace".into()
    } else {
        clean(container)
    };
    format!("{ns_pid} in {place}")
}

/// Rates: `0`, `0.4`, `12.3`, then whole numbers.
pub fn rate(per_second: f64) -> String {
    if per_second <= 0.0 {
        "0".into()
    } else if per_second < 0.05 {
        "< 0.1".into()
    } else if per_second < 99.95 {
        format!("{per_second:.1}")
    } else {
        count(per_second.round() as u64)
    }
}

fn si(value: f64, units: &[(f64, &str)]) -> String {
    // 999.95 of one unit would print as 1000: it belongs to the next.
    let fits = |(size, _): &&(f64, &str)| value >= size * 0.9995;
    let (size, unit) = units
        .iter()
        .find(fits)
        .or(units.last())
        .copied()
        .unwrap_or((1.0, ""));
    let value = value / size;
    let digits = if unit.ends_with('B') && value.fract() == 0.0 {
        0
    } else if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {unit}")
}

/// Those who hold a lock for reading, whom nobody knows by name.
pub fn readers(n: u32) -> String {
    match n {
        1 => "a reader".into(),
        n => format!("{n} readers"),
    }
}

/// A name out of the kernel as it may be printed: any program can put escape sequences into it.
pub fn clean(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// Breaks at blanks so that no line is longer than `width`; following lines start with `indent`.
/// A figure stays with the words around it: its unit, and what it counts.
pub fn wrap(text: &str, width: usize, indent: &str) -> String {
    let words: Vec<&str> = text.split(' ').filter(|w| !w.is_empty()).collect();
    let is_figure = |w: &str| {
        w.trim_start_matches('(')
            .starts_with(|c: char| c.is_ascii_digit())
    };
    let together = |pair: &[&str]| {
        let ends = pair[0].ends_with([',', ';', ':', '.', ')']);
        !ends && (is_figure(pair[0]) || is_figure(pair[1]))
    };
    let mut out = String::new();
    let mut used = 0;
    for part in words.chunk_by(|a, b| together(&[a, b])) {
        let part = part.join(" ");
        let len = part.chars().count();
        if used > 0 && used + 1 + len > width {
            out.push('\n');
            out.push_str(indent);
            used = indent.chars().count();
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(&part);
        used += len;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        for (ns, want) in [
            (0, "0"),
            (999, "999 ns"),
            (1_000, "1.00 us"),
            (12_345, "12.3 us"),
            (999_949, "1.00 ms"),
            (214_000_000, "214 ms"),
            (10_000_000_000, "10.0 s"),
            (9_999_000_000_000, "9999 s"),
            (36_000_000_000_000, "10.0 h"),
        ] {
            assert_eq!(time(ns), want, "{ns}");
        }
        assert!(time(u64::MAX).len() <= 9);
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(987_654_321_012), "987,654,321,012");
        assert_eq!(short(999_999), "999,999");
        assert_eq!(short(1_234_567), "1.23 M");
        assert_eq!(short(u64::MAX), "18.4 E");
    }

    #[test]
    fn shares_never_round_to_a_lie() {
        assert_eq!(percent(0, 10), "0 %");
        assert_eq!(percent(10, 10), "100 %");
        assert_eq!(percent(1, 1_000_000), "< 0.1 %");
        assert_eq!(percent(999_999, 1_000_000), "> 99.9 %");
        assert_eq!(percent(31, 1000), "3.1 %");
        assert_eq!(percent(0, 0), "-");
    }

    #[test]
    fn lines_break_at_blanks_but_not_inside_figures() {
        let text = "faults waited 214 ms for mmap_lock in storm (1234), held by it";
        let lines = "faults waited 214 ms\n  for mmap_lock in\n  storm (1234), held\n  by it";
        assert_eq!(wrap(text, 20, "  "), lines);
        assert_eq!(clean("a\x1b[31mb"), "a?[31mb");
        assert_eq!([1, 3].map(readers), ["a reader", "3 readers"]);
    }
}
