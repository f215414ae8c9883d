//! What the guest is asked to do, and what it says happened.
//!
//! `Plan` goes in as /plan.json of the initramfs, `Report` comes back over the wire.

use serde::{Deserialize, Serialize};

/// Where the plan lies in the initramfs.
pub const PLAN_PATH: &str = "/plan.json";
/// What the steps leave here goes to the host.
pub const OUT_DIR: &str = "/out";
/// The name of the virtio-serial port.
pub const PORT: &str = "vmascope.lab";
/// The last line on the console of a guest that ended as it should begins with this.
pub const VERDICT: &str = "vmascope-lab verdict:";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Kernel modules in the order in which they can be loaded: paths in the initramfs.
    pub modules: Vec<String>,
    pub disks: Vec<Disk>,
    pub steps: Vec<Step>,
}

/// A scratch disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The block device, such as `/dev/nvme0n1`; it holds an ext4.
    pub device: String,
    /// Where it is mounted, such as `/data`.
    pub at: String,
    /// Added to every read and write by dm-delay when not 0.
    pub delay_ms: u32,
}

/// One command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Names the files `/out/NAME.stdout` and `/out/NAME.stderr`.
    pub name: String,
    pub argv: Vec<String>,
    pub timeout_s: u64,
    /// Runs as this user and group; 0 is root.
    pub uid: u32,
    /// Is left running while the steps after it run, and is killed after the last of them.
    pub background: bool,
    /// Output goes to the host as it comes, not into files.
    pub stream: bool,
}

impl Step {
    /// A step that runs as root with its output kept in files.
    pub fn new(name: &str, timeout_s: u64, argv: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            timeout_s,
            ..Self::default()
        }
    }
}

/// What the guest says at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `uname -r`.
    pub kernel: String,
    pub results: Vec<StepResult>,
    /// Why the plan could not be run to its end.
    pub error: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    pub name: String,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub timed_out: bool,
    /// Why the command could not be started, and the code a shell would give (126 or 127).
    pub start_error: Option<String>,
    pub duration_ms: u64,
}

impl StepResult {
    /// The exit code as a shell has it: 128 + n for a signal, 124 for a timeout.
    pub fn code(&self) -> i32 {
        if self.timed_out {
            return 124;
        }
        match (self.exit_code, self.signal) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            (None, None) => 125,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_the_trip() {
        let mut step = Step::new("a", 3, &["sh", "-c", "echo \"ü\" > '/out/x y'"]);
        step.background = true;
        step.uid = 1000;
        let plan = Plan {
            modules: vec!["/modules/virtio.ko".into()],
            disks: vec![Disk {
                device: "/dev/nvme0n1".into(),
                at: "/data".into(),
                delay_ms: 20,
            }],
            steps: vec![step],
        };
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn codes_are_those_of_a_shell() {
        let mut result = StepResult {
            exit_code: Some(3),
            ..StepResult::default()
        };
        assert_eq!(result.code(), 3);
        result.exit_code = None;
        result.signal = Some(9);
        assert_eq!(result.code(), 137);
        result.timed_out = true;
        assert_eq!(result.code(), 124);
    }
}
