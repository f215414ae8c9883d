//! The help: keys, and what the words on the screen mean.

use ratatui::{
    Frame,
    layout::Rect,
    text::Line,
    widgets::{Block, BorderType, Clear, Paragraph},
};

use crate::sinks::top::app::App;

const TEXT: &[&str] = &[
    "q, Ctrl-C  quit          space  pause",
    "Tab 1-7    view          j k    choose, scroll",
    "Enter Esc  open, back    /      search",
    "s r        sort, reverse f      only this process",
    "+ -        more often, less; in a recording: speed",
    "left right 5 s back, on (in a recording)",
    "c          forget events S      save last minute",
    "",
    "vma_lock   fault done under its VMA's lock",
    "fallback   no VMA lock was had: under mmap_lock",
    "retry      dropped the VMA lock to wait, then",
    "           finished under mmap_lock",
    "waiting    time spent waiting, of one thread's",
    "           time (thr: that many at once)",
    "~          approximate on this kernel",
    "Figures are of the last interval, the sentence",
    "and the losses of the whole session.",
];

pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let widest = TEXT.iter().map(|l| l.len()).max().unwrap_or(0) as u16;
    let width = (widest + 4).min(area.width);
    let height = (TEXT.len() as u16 + 2).min(area.height);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let block = Block::bordered()
        .title(" help ")
        .padding(ratatui::widgets::Padding::horizontal(1));
    let block = if app.look.unicode {
        block.border_type(BorderType::Rounded)
    } else {
        block.border_set(ASCII)
    };
    let text: Vec<_> = TEXT.iter().map(|l| Line::from(*l)).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(text).block(block), place);
}

const ASCII: ratatui::symbols::border::Set<'static> = ratatui::symbols::border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};
