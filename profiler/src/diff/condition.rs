//! `--fail-if 'p99(mmap_lock_wait.read) > +10%'`: a metric, `>` or `<`, and an amount. With a sign the
//! amount is a change, in percent or in the metric's unit; without, it is a value of B.

use std::{fmt, str::FromStr};

use super::{Diff, metric::METRICS};

#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    metric: usize,
    more: bool,
    amount: Amount,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    /// Of A: 0.1 is ten percent more.
    Ratio(f64),
    Difference(f64),
    Value(f64),
}

const LITTLE: &str = "too little data: record for longer, or several times";
const NOTHING: &str = "nothing of it was seen: see `vmascope doctor` for what a kernel can tell";

/// Of two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Holds,
    /// Or not for certain.
    DoesNot,
    /// Why it cannot be told, and the remedy.
    Untold(&'static str),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConditionError(String);

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let at = text.find(['>', '<']).ok_or_else(|| {
            ConditionError("no `>` or `<` in it: try 'p99(mmap_lock_wait.read) > +10%'".into())
        })?;
        let (name, rest) = text.split_at(at);
        let name: String = name.split_whitespace().collect();
        let metric = METRICS
            .iter()
            .position(|metric| metric.name() == name)
            .ok_or_else(|| unknown(&name))?;
        let more = rest.starts_with('>');
        let amount = amount(rest[1..].trim(), METRICS[metric].unit())?;
        Ok(Self {
            text: text.trim().to_owned(),
            metric,
            more,
            amount,
        })
    }
}

fn unknown(name: &str) -> ConditionError {
    let inner = |name: &str| {
        let from = name.find('(').map_or(0, |at| at + 1);
        name[from..].trim_end_matches(')').to_owned()
    };
    let like: Vec<String> = super::names()
        .filter(|known| {
            !name.is_empty() && (inner(known) == inner(name) || known.starts_with(name))
        })
        .collect();
    ConditionError(if like.is_empty() {
        format!("no metric is called `{name}`: see `vmascope diff --list-metrics`")
    } else {
        format!(
            "no metric is called `{name}`: did you mean {}?",
            like.join(", ")
        )
    })
}

fn amount(text: &str, unit: &str) -> Result<Amount, ConditionError> {
    let is_change = text.starts_with(['+', '-']);
    let split = text
        .find(|c: char| c.is_ascii_alphabetic() || c == '%')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let number: f64 = number
        .trim()
        .parse()
        .ok()
        .filter(|n: &f64| n.is_finite())
        .ok_or_else(|| ConditionError(format!("`{text}` is no amount: try +10%, +5ms or 50ms")))?;
    let scale = match (suffix, unit) {
        ("%", _) if is_change => return Ok(Amount::Ratio(number / 100.0)),
        ("%", "") => 0.01,
        ("%", _) => {
            return Err(ConditionError(format!(
                "`{text}` needs a sign: +10% is a tenth more"
            )));
        }
        ("ns", "ns" | "ns/s") => 1.0,
        ("us", "ns" | "ns/s") => 1e3,
        ("ms", "ns" | "ns/s") => 1e6,
        ("s", "ns" | "ns/s") => 1e9,
        ("", "ns" | "ns/s") => {
            return Err(ConditionError(format!(
                "`{text}` has no unit: ns, us, ms or s"
            )));
        }
        ("", _) => 1.0,
        _ => {
            let unit = if unit.is_empty() { "a share" } else { unit };
            return Err(ConditionError(format!(
                "`{suffix}` is no unit of what is in {unit}"
            )));
        }
    };
    let value = number * scale;
    Ok(if is_change {
        Amount::Difference(value)
    } else {
        Amount::Value(value)
    })
}

impl Condition {
    /// Whether it holds for certain: for a change, its whole interval is beyond the amount.
    pub fn judge(&self, diff: &Diff) -> Judgement {
        let name = METRICS[self.metric].name();
        let Some(row) = diff.metrics.iter().find(|row| row.metric == name) else {
            return Judgement::Untold(NOTHING);
        };
        let beyond = |value: f64, limit: f64| {
            if self.more {
                value > limit
            } else {
                value < limit
            }
        };
        // The end of the interval that is nearer to no change.
        let change = if self.more { row.low } else { row.high };
        let holds = match self.amount {
            Amount::Ratio(limit) => change.map(|change| beyond(change, limit)),
            // With what was added: of an A of nothing, any change would be nothing too.
            Amount::Difference(limit) => change
                .zip(row.a)
                .map(|(change, a)| beyond(change * (a + row.added), limit)),
            Amount::Value(limit) => row.b.map(|b| beyond(b, limit)),
        };
        match holds {
            Some(true) => Judgement::Holds,
            Some(false) => Judgement::DoesNot,
            None if matches!(self.amount, Amount::Value(_)) => Judgement::Untold(NOTHING),
            None => Judgement::Untold(LITTLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::{Row, Verdict};

    /// Without an interval.
    fn row(metric: &str, unit: &'static str, a: f64, b: f64) -> Row {
        Row {
            metric: metric.into(),
            unit,
            a: Some(a),
            b: Some(b),
            added: 0.0,
            change: Some(b / a - 1.0),
            low: None,
            high: None,
            verdict: Verdict::TooLittleData,
        }
    }

    fn judged(text: &str, row: Row) -> Judgement {
        let diff = Diff {
            verdict: String::new(),
            a: Vec::new(),
            b: Vec::new(),
            warnings: Vec::new(),
            metrics: vec![row],
            decades: None,
            decades_why: None,
        };
        text.parse::<Condition>().unwrap().judge(&diff)
    }

    fn parsed(text: &str) -> (usize, bool, Amount) {
        let condition: Condition = text.parse().unwrap();
        (condition.metric, condition.more, condition.amount)
    }

    #[test]
    fn a_condition_is_a_metric_and_an_amount() {
        let at = |name: &str| METRICS.iter().position(|m| m.name() == name).unwrap();
        let p99 = at("p99(mmap_lock_wait.read)");
        for (text, amount) in [
            ("p99(mmap_lock_wait.read) > +10%", Amount::Ratio(0.1)),
            ("p99(mmap_lock_wait.read)>+1.5ms", Amount::Difference(1.5e6)),
            ("p99( mmap_lock_wait.read ) > 50us", Amount::Value(5e4)),
        ] {
            assert_eq!(parsed(text), (p99, true, amount), "{text}");
        }
        let less = parsed("rate(faults) < -5%");
        assert_eq!(less, (at("rate(faults)"), false, Amount::Ratio(-0.05)));
        let share = parsed("share(faults.retry) > 2%");
        assert_eq!(share.2, Amount::Value(0.02));
    }

    #[test]
    fn mistakes_end_in_one_line_with_a_remedy() {
        for (text, wanted) in [
            ("", "no `>`"),
            ("p99(mmap_lock_wait.read)", "no `>`"),
            ("p98(mmap_lock_wait.read) > +10%", "did you mean"),
            ("p99(locks) > +10%", "--list-metrics"),
            ("> +10%", "--list-metrics"),
            ("rate(faults) > ", "no amount"),
            ("rate(faults) > many", "no amount"),
            ("rate(faults) > nan", "no amount"),
            ("rate(faults) > 10%", "needs a sign"),
            ("rate(faults) > +5ms", "no unit of"),
            ("mean(faults) > +5", "has no unit"),
            ("mean(faults) > +5h", "no unit of"),
            ("mean(faults) >> 5ms", "no amount"),
        ] {
            let error = text.parse::<Condition>().unwrap_err().to_string();
            assert!(
                error.contains(wanted) && !error.contains('\n'),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn it_holds_only_where_the_whole_interval_is_beyond() {
        let holds = |text: &str, low, high| {
            let row = Row {
                low: Some(low),
                high: Some(high),
                ..row("mean(faults)", "ns", 1000.0, 1200.0)
            };
            judged(text, row) == Judgement::Holds
        };
        assert!(holds("mean(faults) > +10%", 0.15, 0.25));
        assert!(!holds("mean(faults) > +10%", 0.05, 0.35));
        assert!(holds("mean(faults) > +100ns", 0.15, 0.25));
        assert!(!holds("mean(faults) > +100ns", 0.05, 0.25));
        assert!(holds("mean(faults) > 1100ns", -0.5, 0.5));
        assert!(holds("mean(faults) < -10%", -0.3, -0.2));
        assert!(!holds("rate(faults) > +1%", 5.0, 6.0));
    }

    #[test]
    fn a_difference_from_nothing_is_told() {
        // In 10 s none, then 200 of them: with half an event on both sides, 401 times as many.
        let none = Row {
            added: 0.05,
            low: Some(300.0),
            high: Some(500.0),
            ..row("rate(faults.retry)", "1/s", 0.0, 20.0)
        };
        for (text, judgement) in [
            ("rate(faults.retry) > +5", Judgement::Holds),
            ("rate(faults.retry) > +15", Judgement::DoesNot),
            ("rate(faults.retry) < -1", Judgement::DoesNot),
        ] {
            assert_eq!(judged(text, none.clone()), judgement, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_what_does_not_hold() {
        let little = || row("p99(faults)", "ns", 1000.0, 2000.0);
        for (text, wanted) in [
            ("p99(faults) > +10%", Judgement::Untold(LITTLE)),
            ("p99(faults) > +1us", Judgement::Untold(LITTLE)),
            ("p90(faults) > 1s", Judgement::Untold(NOTHING)),
            ("p99(faults) > 1us", Judgement::Holds),
            ("p99(faults) > 1s", Judgement::DoesNot),
        ] {
            assert_eq!(judged(text, little()), wanted, "{text}");
        }
    }
}
