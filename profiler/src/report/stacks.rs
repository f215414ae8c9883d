//! Where in the kernel waiters and holders stood: the part of the report for `--stacks`. In: the
//! stacks of a recording with the waits that speak of them. Out: those with the most time.

use serde::Serialize;

use super::units::{count, time};
use crate::recording::{self, Recording, StackRow};

/// Stacks told of each side, and the innermost frames of one in text.
const TOP: u32 = 10;
const SHOWN: usize = 3;
const FRAMES: usize = 8;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Stacks {
    /// By the time that was waited there.
    pub waiters: Vec<Stack>,
    /// By the time that is blamed on those who let go there.
    pub holders: Vec<Stack>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Stack {
    pub waits: u64,
    pub wait_ns: u64,
    /// The innermost first.
    pub frames: Vec<String>,
}

impl From<StackRow> for Stack {
    fn from(row: StackRow) -> Self {
        Self {
            waits: row.waits,
            wait_ns: row.ns,
            frames: row.frames.rsplit(';').map(str::to_owned).collect(),
        }
    }
}

/// `None`: no stack was kept.
pub fn of(recording: &Recording) -> recording::Result<Option<Stacks>> {
    let top = |column, ns| -> recording::Result<Vec<Stack>> {
        let rows = recording.stacks(column, ns, TOP)?;
        Ok(rows.into_iter().map(Stack::from).collect())
    };
    let stacks = Stacks {
        waiters: top("stack", "wait_ns")?,
        holders: top("holder_stack", "blamed_ns")?,
    };
    Ok((!stacks.waiters.is_empty() || !stacks.holders.is_empty()).then_some(stacks))
}

pub fn text(stacks: &Stacks) -> String {
    let mut out = String::new();
    for (title, stacks) in [
        ("STACKS OF WAITERS", &stacks.waiters),
        ("STACKS OF HOLDERS, AS THEY LET GO", &stacks.holders),
    ] {
        if stacks.is_empty() {
            continue;
        }
        out.push_str(title);
        out.push('\n');
        for stack in stacks.iter().take(SHOWN) {
            out.push_str(&format!(
                "{:>9}  {} {}\n",
                time(stack.wait_ns),
                count(stack.waits),
                if stack.waits == 1 { "wait" } else { "waits" }
            ));
            for frame in stack.frames.iter().take(FRAMES) {
                out.push_str(&format!("           {frame}\n"));
            }
            if stack.frames.len() > FRAMES {
                out.push_str(&format!(
                    "           and {} more\n",
                    stack.frames.len() - FRAMES
                ));
            }
        }
    }
    out
}
