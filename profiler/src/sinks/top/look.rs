//! What the terminal can show: colours unless NO_COLOR is set, block characters where the locale is
//! UTF-8, ASCII elsewhere.

use ratatui::style::{Color, Modifier, Style};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub color: bool,
    pub unicode: bool,
}

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

impl Look {
    pub fn of_environment() -> Self {
        Self::from(|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
    }

    fn from(var: impl Fn(&str) -> Option<String>) -> Self {
        // The order in which locale(7) looks.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(&var);
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        Self {
            color: var("NO_COLOR").is_none() && var("TERM").as_deref() != Some("dumb"),
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    pub fn head(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub fn dim(self) -> Style {
        self.colored(Color::DarkGray, Modifier::DIM)
    }

    /// Time spent waiting, and the paths that lead to it.
    pub fn wait(self) -> Style {
        self.colored(Color::Yellow, Modifier::empty())
    }

    /// Figures that cannot be trusted in full.
    pub fn alarm(self) -> Style {
        self.colored(Color::Red, Modifier::BOLD)
    }

    pub fn trend(self) -> Style {
        self.colored(Color::Cyan, Modifier::empty())
    }

    fn colored(self, color: Color, otherwise: Modifier) -> Style {
        if self.color {
            Style::new().fg(color)
        } else {
            Style::new().add_modifier(otherwise)
        }
    }

    /// The latest values as bars of one character, scaled to their largest, flush right.
    pub fn bars(self, values: impl DoubleEndedIterator<Item = f64>, width: usize) -> String {
        let levels = if self.unicode { BLOCKS } else { ASCII };
        let latest: Vec<f64> = values.rev().take(width).collect();
        let top = latest.iter().copied().fold(0.0, f64::max);
        let bar = |v: &f64| {
            // Something is never drawn as nothing.
            let level = if *v > 0.0 {
                (v / top * 7.0).ceil()
            } else {
                0.0
            };
            levels[(level as usize).min(7)]
        };
        let bars: String = latest.iter().rev().map(bar).collect();
        format!("{bars:>width$}")
    }

    pub fn sorted(self, reverse: bool) -> &'static str {
        match (self.unicode, reverse) {
            (true, false) => "▾",
            (true, true) => "▴",
            (false, _) => "*",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vars: &[(&str, &str)]) -> Look {
        Look::from(|name| {
            let var = vars.iter().find(|(n, _)| *n == name);
            var.map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn the_environment_decides() {
        assert!(!of(&[("LANG", "C")]).unicode);
        assert!(of(&[("LANG", "C.UTF-8")]).unicode);
        assert!(of(&[("LC_ALL", "en_GB.utf8"), ("LANG", "C")]).unicode);
        assert!(!of(&[("LC_ALL", "POSIX"), ("LANG", "C.UTF-8")]).unicode);
        assert!(!of(&[("NO_COLOR", "1")]).color);
        assert!(of(&[]).color);
    }

    #[test]
    fn bars_are_scaled_and_flush_right() {
        let look = of(&[]);
        assert_eq!(look.bars([0.0, 1.0, 7.0].into_iter(), 5), "  _.#");
        assert_eq!(look.bars([9.0, 0.0, 0.0].into_iter(), 2), "__");
        assert_eq!(look.bars([].into_iter(), 3), "   ");
    }
}
