//! `top` in a terminal: Debian's tmux in the guest, keys sent to it beside `demo storm`, its screens
//! captured. They show figures within a second of arming, the kernel's own counts thread by thread, and
//! nothing but themselves after a change of size; what they leave behind is the terminal as it was.

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;

use super::Test;
use crate::apt::Installed;
use crate::arch::Arch;
use crate::lab::evidence::{Evidence, number};
use crate::lab::kernels::Flavour;
use crate::lab::machine::GuestFile;
use crate::lab::vm::guest_file;
use crate::packages;
use crate::step::Outcome;

pub const TOP: Test = Test {
    name: "top",
    full: false,
    bpftrace: false,
    steps: || vec![Step::new("top.run", 240, &["sh", "-c", SCRIPT])],
    check,
};

/// Screens depend on the kernel only by what they show, which others test: one cell of a usual run, one
/// more of a full one.
pub fn fits(series: &str, flavour: Flavour, arch: Arch, full: bool) -> bool {
    series == "7.3" && flavour == Flavour::Cloud && (full || arch == Arch::X86_64)
}

/// Debian's tmux for a guest, with its libraries and the locale that it insists on. Without a client it
/// asks for no terminal's description.
pub fn tmux(arch: Arch) -> Result<Vec<GuestFile>> {
    let suites = ["trixie", "trixie-security"];
    let unpack = |name: &str| packages::unpack(name, &suites, arch, &Installed::default());
    let mut files = unpack("tmux")?.for_guest("usr/bin/tmux", "/bin/tmux")?;
    let locale = "usr/lib/locale/C.utf8/LC_CTYPE";
    files.push(guest_file(&unpack("libc-bin")?.root.join(locale), locale)?);
    Ok(files)
}

/// What the views have in common is looked at in each file; a key has a second to be answered. One
/// storm is beside the views, another is the process whose page is opened.
/// The loop that waits for the first figures makes the faults that they are of.
const SCRIPT: &str = r#"set -e
mkdir -p /out/top
cd /out/top
export LC_ALL=C.UTF-8 PS1='ready> ' HOME=/tmp
t() { tmux -u -f /dev/null "$@"; }
shot() { t capture-pane -p -t top; }
shown() { until shot | grep -q "$1"; do sleep 0.05; done; }
state() { t display-message -p -t top '#{alternate_on} #{cursor_flag}'; }
press() { t send-keys -t top "$@"; sleep 1; }
sized() { t resize-window -t top -x ${1%x*} -y ${1#*x}; sleep 1; }
t new-session -d -s top -x 80 -y 24 sh
shown 'ready>'
t send-keys -t top 'stty -g >tty.before; vmascope top -i 500ms; echo "code $?"' Enter
until shot >first && grep -q '^ all  *[1-9]' first; do sleep 0.05; done
state >state.in
vmascope demo storm --threads 3 --duration 10s >other & storm=$!
sleep 1
for view in 1 2 3 4 5 6 7; do press $view; shot >view.$view; done
press Tab
shot >tab
for size in 60x20 160x50 80x24; do sized $size; shot >view.$size; done
wait $storm
vmascope demo storm --threads 3 --duration 12s & storm=$!
press 2
t send-keys -t top -l /$storm
press Enter
press Enter
shot >page.80x24
kill -0 $storm
for size in 60x20 160x50; do sized $size; shot >page.$size; done
wait $storm
sleep 2
shot >page.end
press q
state >state.out
t send-keys -t top 'stty -g >tty.after; echo "six times seven is $((6 * 7))"' Enter
shown 'is 42'
shot >shell
t kill-server"#;

/// A view, and what only it shows.
const VIEWS: [(&str, &str); 7] = [
    ("view.1", " MMAP_LOCK "),
    ("view.2", " PID PROCESS "),
    ("view.3", " WAITED  WAITER "),
    ("view.4", " threads deep"),
    ("view.5", " SINCE ARMING "),
    ("view.6", " amplified "),
    ("view.7", " HOOK AND WHY"),
];

fn check(evidence: &Evidence<'_>) -> Result<Outcome> {
    evidence.ended_with("top.run", 0)?;
    let screen = |file: &str| evidence.text(&format!("top/{file}"));
    let first = screen("first")?;
    is_whole(&first, 80, 24).context("the first screen")?;
    let armed = since_arming(&first)?;
    ensure!(
        armed < 1.0,
        "the first figures were {armed} s after arming:\n{first}"
    );
    for (file, mark) in VIEWS {
        let text = screen(file)?;
        is_whole(&text, 80, 24).with_context(|| file.to_owned())?;
        ensure!(text.contains(mark), "{file} has no {mark:?}:\n{text}");
    }
    // After the last view comes the first.
    for (file, width, height) in [
        ("tab", 80, 24),
        ("view.60x20", 60, 20),
        ("view.160x50", 160, 50),
        ("view.80x24", 80, 24),
    ] {
        let text = screen(file)?;
        is_whole(&text, width, height).with_context(|| file.to_owned())?;
        ensure!(text.contains(" MMAP_LOCK "), "{file}:\n{text}");
    }
    for (file, width, height) in [
        ("page.80x24", 80, 24),
        ("page.60x20", 60, 20),
        ("page.160x50", 160, 50),
        ("page.end", 160, 50),
    ] {
        let text = screen(file)?;
        is_whole(&text, width, height).with_context(|| file.to_owned())?;
        ensure!(text.contains(" SINCE ARMING "), "{file}:\n{text}");
    }
    figures(evidence, &screen("page.80x24")?, &screen("page.end")?)?;

    ensure!(screen("state.in")?.trim() == "1 0", "no screen of its own");
    let after = screen("state.out")?;
    ensure!(after.trim() == "0 1", "screen and cursor are left {after}");
    let (before, after) = (screen("tty.before")?, screen("tty.after")?);
    ensure!(
        before == after,
        "the terminal was {before}, is left {after}"
    );
    let shell = screen("shell")?;
    // What was typed is seen only with echo on.
    for line in ["code 0", "ready> stty -g", "six times seven is 42"] {
        ensure!(shell.contains(line), "no {line:?} in:\n{shell}");
    }
    Ok(Outcome::Passed)
}

/// One head, one row of views, one foot on the last line, and nothing beyond the right edge.
fn is_whole(screen: &str, width: usize, height: usize) -> Result<()> {
    let lines: Vec<&str> = screen.lines().collect();
    ensure!(lines.len() == height, "{} lines:\n{screen}", lines.len());
    let wide = lines.iter().find(|line| line.chars().count() > width);
    ensure!(wide.is_none(), "too wide: {wide:?}");
    // Chains and tables have lines that begin with figures too.
    let parts: [(&str, &str, usize); 3] = [
        (" vmascope  ", "", 0),
        (" 1 ", "  7", 1),
        (" loss ", "", height - 1),
    ];
    for (start, inside, place) in parts {
        let is_it = |line: &str| line.starts_with(start) && line.contains(inside);
        let all = lines.iter().enumerate().filter(|(_, line)| is_it(line));
        let at: Vec<usize> = all.map(|(at, _)| at).collect();
        ensure!(at == [place], "{start:?} is in lines {at:?}:\n{screen}");
    }
    let foot = lines.last().copied().unwrap_or_default();
    ensure!(
        foot.ends_with("? help") || foot.contains("? help  "),
        "{foot}"
    );
    Ok(())
}

/// The last words of the head, such as `412 ms`, in seconds.
fn since_arming(screen: &str) -> Result<f64> {
    let head = screen.lines().next().unwrap_or_default();
    let mut words = head.split_whitespace().rev();
    let (unit, figure) = (words.next(), words.next());
    let figure: f64 = figure
        .unwrap_or_default()
        .parse()
        .context(head.to_owned())?;
    let per_second = match unit {
        Some("ms") => 1e3,
        Some("s") => 1.0,
        _ => anyhow::bail!("no time in {head:?}"),
    };
    Ok(figure / per_second)
}

/// What the main thread does after it has told its own count: it prints, and ends.
const LAST_FAULTS: u64 = 100;

/// The process of the storm: its rate while it ran; when it has ended, all its faults as getrusage gave
/// them to its threads, and each thread.
fn figures(evidence: &Evidence<'_>, running: &str, end: &str) -> Result<()> {
    let truth = evidence.truth("top.run", "storm")?;
    let pid = number(&truth, "/pid")?;
    let head = |page: &str, more: &str| {
        let head = format!(" vmascope ({pid}){more}, 5 threads, ");
        ensure!(page.contains(&head), "no {head:?} in:\n{page}");
        Ok(())
    };
    head(running, "")?;
    head(end, ", exited")?;
    let threads = truth["threads"].as_array().context("no threads")?;
    let (mut minor, mut major) = (0, 0);
    for thread in threads.iter().chain([&truth["main"]]) {
        minor += number(thread, "/minor")?;
        major += number(thread, "/major")?;
    }
    let total = words_after(end, "SINCE ARMING ")?;
    let (seen, ours) = (grouped(total.first())?, grouped(total.get(2))?);
    ensure!(
        (minor..=minor + LAST_FAULTS).contains(&ours) && grouped(total.get(4))? == major,
        "{minor} minor and {major} major faults by getrusage, shown: {total:?}"
    );
    // Where hooks were skipped a thread's faults on paths are fewer than the kernel's, by as many as all
    // together.
    let missed = (ours + major).saturating_sub(seen);
    ensure!(missed * 10 <= ours, "{missed} of {ours} faults missed");
    for thread in threads {
        let tid = number(thread, "/tid")?;
        let (minor, major) = (number(thread, "/minor")?, number(thread, "/major")?);
        let row = words_after(end, &format!(" {tid} "))?;
        let (faults, majors) = (grouped(row.get(2))?, grouped(row.get(3))?);
        ensure!(
            row.get(1) == Some(&"x")
                && faults <= minor + major
                && faults + missed >= minor + major
                && majors <= major,
            "thread {tid} had {minor} minor and {major} major faults, {missed} of all are missed: {row:?}"
        );
    }
    let seconds = number(&truth, "/elapsed_ns")? as f64 / 1e9;
    let rate = grouped(words_after(running, " now ")?.first())? as f64;
    let usual = minor as f64 / seconds;
    ensure!(
        rate > usual / 4.0 && rate < usual * 4.0,
        "{rate} faults/s are shown of {usual:.0}"
    );
    Ok(())
}

/// The words behind the first line's beginning of this kind.
fn words_after<'a>(screen: &'a str, start: &str) -> Result<Vec<&'a str>> {
    let line = screen
        .lines()
        .find(|line| line.trim_start().starts_with(start.trim_start()) && line.starts_with(' '));
    let line = line.with_context(|| format!("no {start:?} in:\n{screen}"))?;
    let rest = line.trim_start().strip_prefix(start.trim_start());
    Ok(rest.unwrap_or_default().split_whitespace().collect())
}

/// A count as screens have it: `13,506`.
fn grouped(word: Option<&&str>) -> Result<u64> {
    let word = word.context("a row without its figures")?;
    let digits = word.replace(',', "");
    digits
        .parse()
        .with_context(|| format!("{word} is no count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> Vec<String> {
        let mut lines = vec![String::new(); 10];
        lines[0] = " vmascope  lab  target all      412 ms".into();
        lines[1] = " 1 Overview  2  3  4  5  6  7".into();
        lines[9] = " loss 0      q quit  ? help".into();
        lines
    }

    #[test]
    fn leftovers_are_seen() {
        let whole = |lines: &[String]| is_whole(&lines.join("\n"), 40, 10);
        assert!(whole(&screen()).is_ok());
        for (at, left) in [
            (4, " loss 0"),
            (5, " vmascope  lab"),
            (6, "a line that is longer than the screen is wide"),
        ] {
            let mut lines = screen();
            lines[at] = left.into();
            assert!(whole(&lines).is_err(), "{left}");
        }
        assert!(whole(&screen()[..9]).is_err());
    }

    #[test]
    fn figures_are_read() {
        assert!((since_arming(&screen().join("\n")).unwrap() - 0.412).abs() < 1e-9);
        assert!((since_arming(" vmascope  x  3.30 s\n").unwrap() - 3.3).abs() < 1e-9);
        assert!(since_arming(" vmascope").is_err());
        assert_eq!(grouped(Some(&"13,506")).unwrap(), 13_506);
        assert!(grouped(Some(&"1.2M")).is_err());
    }
}
