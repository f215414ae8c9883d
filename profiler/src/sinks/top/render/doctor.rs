//! What this kernel can tell: every signal, how well, by which hook, and why no better.

use ratatui::text::{Line, Span};

use super::part;
use crate::{
    doctor::quality,
    model::Quality,
    report::units::{clean, wrap},
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
    lines
}
