//! What this kernel can tell: every signal, how well, by which hook, and why no better; and what telling
//! it costs.

use ratatui::text::{Line, Span};

use super::{own_bytes, part, share};
use crate::{
    doctor::quality,
    model::Quality,
    report::units::{bytes, clean, wrap},
    sinks::top::app::App,
};

const NAME: usize = 20;
const QUALITY: usize = 12;

pub fn draw(app: &App, width: usize) -> Vec<Line<'static>> {
    let (s, look) = (&app.session, app.look);
    let about = format!(
        "tier {}   per-VMA lock {}   mmap_lock {}   armed in {:.0} ms",
        s.tier, s.vma_lock, s.mmap_lock, s.start_ms
    );
    let head = format!(
        "{}  {}  HOOK AND WHY",
        part("SIGNAL", NAME),
        part("QUALITY", QUALITY)
    );
    let mut lines = vec![
        Line::from(about),
        Line::default(),
        Line::styled(head, look.head()),
    ];
    let rest = width.saturating_sub(NAME + QUALITY + 4);
    for signal in &s.signals {
        let style = match signal.quality {
            Quality::Exact => look.trend(),
            Quality::Approximate => look.wait(),
            Quality::Unavailable => look.dim(),
        };
        let hook = if signal.hook.is_empty() {
            "-"
        } else {
            &signal.hook
        };
        lines.push(Line::from(vec![
            Span::raw(format!("{}  ", part(&signal.name, NAME))),
            Span::styled(
                format!("{}  ", part(quality(signal.quality), QUALITY)),
                style,
            ),
            Span::raw(clean(hook)),
        ]));
        let why = wrap(&clean(&signal.reason), rest, "");
        for line in why.lines().filter(|l| !l.is_empty()) {
            let line = format!("{:1$}{line}", "", NAME + QUALITY + 4);
            lines.push(Line::styled(line, look.dim()));
        }
    }
    lines.push(Line::default());
    lines.push(Line::styled("OWN COST", look.head()));
    for text in cost(app) {
        lines.extend(super::text(&text, width));
    }
    lines
}

fn cost(app: &App) -> Vec<String> {
    let last = app.rates.last();
    let bpf = match app.rates.own_bpf {
        Some(bpf) => format!(
            "BPF programs: {} of one CPU, {} of all CPUs",
            share(bpf, 1.0),
            share(bpf, f64::from(app.session.host.cpus.max(1)))
        ),
        None if app.is_recording() => "BPF programs: not in a recording".into(),
        None => {
            "BPF programs: - (the kernel does not time them; --bpf-stats has it do so, for two \
                 clock reads in each run)"
                .into()
        }
    };
    let mapped = match last.own_mapped_bytes {
        0 => String::new(),
        n => format!(", without {} of mapped map pages", bytes(n)),
    };
    vec![
        format!("vmascope: {} of one CPU", share(app.rates.own_cpu, 1.0)),
        bpf,
        format!("memory: {} resident{mapped}", bytes(own_bytes(app))),
        format!("maps in the kernel: {}", bytes(app.session.map_bytes)),
    ]
}
