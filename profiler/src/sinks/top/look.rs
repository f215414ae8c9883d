//! What the terminal can show: colours unless NO_COLOR is set, for a dark or a light background; block
//! characters where the locale is UTF-8, ASCII elsewhere.

use ratatui::style::{Color, Modifier, Style};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub color: bool,
    pub unicode: bool,
    /// The background is.
    pub light: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Theme {
    /// As COLORFGBG says, where the terminal sets it; else dark
    Auto,
    Dark,
    Light,
}

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];
/// Ever more of them; the first is none.
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];
const ASCII_SHADES: [char; 10] = [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'];

impl Look {
    pub fn of_environment(theme: Theme) -> Self {
        Self::from(theme, |name| {
            std::env::var(name).ok().filter(|v| !v.is_empty())
        })
    }

    fn from(theme: Theme, var: impl Fn(&str) -> Option<String>) -> Self {
        // The order in which locale(7) looks.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(&var);
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        Self {
            color: var("NO_COLOR").is_none() && var("TERM").as_deref() != Some("dumb"),
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
            light: match theme {
                Theme::Dark => false,
                Theme::Light => true,
                Theme::Auto => var("COLORFGBG").is_some_and(|c| is_light(&c)),
            },
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
        self.colored(
            self.on_light(Color::Magenta, Color::Yellow),
            Modifier::empty(),
        )
    }

    /// The row that Enter opens; it has a mark as well.
    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Figures that cannot be trusted in full.
    pub fn alarm(self) -> Style {
        self.colored(Color::Red, Modifier::BOLD)
    }

    pub fn trend(self) -> Style {
        self.colored(self.on_light(Color::Blue, Color::Cyan), Modifier::empty())
    }

    fn on_light(self, light: Color, dark: Color) -> Color {
        if self.light { light } else { dark }
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

    /// `n` of at most `most`, on a logarithmic scale: a single one can be seen.
    pub fn shade(self, n: u64, most: u64) -> char {
        let shades: &[char] = if self.unicode { &SHADES } else { &ASCII_SHADES };
        if n == 0 {
            return shades[0];
        }
        let levels = shades.len() - 1;
        let share = (n as f64).ln_1p() / (most as f64).ln_1p();
        shades[((share * levels as f64).ceil() as usize).clamp(1, levels)]
    }

    pub fn mark(self) -> &'static str {
        if self.unicode { "▸" } else { ">" }
    }

    pub fn sorted(self, reverse: bool) -> &'static str {
        match (self.unicode, reverse) {
            (true, false) => "▾",
            (true, true) => "▴",
            (false, _) => "*",
        }
    }
}

/// `FOREGROUND;BACKGROUND`, of the sixteen colours: 7 and 15 are white.
fn is_light(colorfgbg: &str) -> bool {
    matches!(colorfgbg.rsplit(';').next(), Some("7" | "15"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vars: &[(&str, &str)]) -> Look {
        Look::from(Theme::Auto, |name| {
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
        assert!(of(&[("COLORFGBG", "0;15")]).light);
        assert!(of(&[("COLORFGBG", "0;default;7")]).light);
        assert!(!of(&[("COLORFGBG", "15;0")]).light && !of(&[]).light);
        assert!(Look::from(Theme::Light, |_| None).light);
        assert!(!Look::from(Theme::Dark, |_| Some("0;15".into())).light);
    }

    #[test]
    fn shades_tell_one_from_none_and_most_from_many() {
        let look = of(&[]);
        let shades = [0, 1, 30, 1_000].map(|n| look.shade(n, 1_000));
        assert_eq!(shades, [' ', '.', '+', '@']);
        assert_eq!(look.shade(1, 1), '@');
    }

    #[test]
    fn bars_are_scaled_and_flush_right() {
        let look = of(&[]);
        assert_eq!(look.bars([0.0, 1.0, 7.0].into_iter(), 5), "  _.#");
        assert_eq!(look.bars([9.0, 0.0, 0.0].into_iter(), 2), "__");
        assert_eq!(look.bars([].into_iter(), 3), "   ");
    }
}
