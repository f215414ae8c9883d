//! How Android, or whoever set it, stands to a process, as it was last seen: what it shows, and how soon it
//! is killed when memory is short. On servers usually nothing but 0.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ground {
    Foreground,
    Background,
}

impl Ground {
    pub fn name(self) -> &'static str {
        match self {
            Ground::Foreground => "foreground",
            Ground::Background => "background",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [Ground::Foreground, Ground::Background]
            .into_iter()
            .find(|ground| ground.name() == name)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// -1000 to 1000; `None`: not seen.
    pub oom_score_adj: Option<i32>,
    /// By cgroup; `None`: none of Android's.
    pub ground: Option<Ground>,
}

impl Standing {
    /// `fg 0`, `bg 905`; nothing where there is no such cgroup.
    pub fn short(self) -> String {
        let Some(ground) = self.ground else {
            return String::new();
        };
        let adj = self.oom_score_adj.map_or("?".into(), |adj| adj.to_string());
        match ground {
            Ground::Foreground => format!("fg {adj}"),
            Ground::Background => format!("bg {adj}"),
        }
    }
}

/// `main`, or `render` for the thread that draws for Android's views.
pub fn role(tgid: u32, tid: u32, comm: &str) -> Option<&'static str> {
    match comm {
        _ if tid == tgid => Some("main"),
        "RenderThread" => Some("render"),
        _ => None,
    }
}
