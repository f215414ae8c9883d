//! Ctrl-C beside `record -- CMD`: the command gets one SIGINT, whoever sends it. Needs root.

use crate::{pty::Pty, sample::Scratch, vmascope};

/// Says each SIGINT, and takes its time to end.
const SLOW: &str = "trap 'echo \"<interrupted>\"' INT; echo ready; n=0
    while [ $n -lt 20 ]; do sleep 0.1; n=$((n + 1)); done; exit 3";

fn recorder(scratch: &Scratch, command: &[&str]) -> Pty {
    let mut record = vmascope(&["record", "-o", "a.db", "--"]);
    record.args(command).current_dir(&scratch.0);
    let terminal = Pty::run(record, 80, 24);
    terminal.shows("ready");
    terminal
}

fn interrupts(terminal: &Pty) -> usize {
    terminal.until(|screen| screen.contains("<interrupted>"));
    // The command runs for two seconds.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    terminal.screen().matches("<interrupted>").count()
}

#[test]
fn of_a_terminal_s_ctrl_c_the_command_gets_one() {
    let scratch = Scratch::new("interrupt-key");
    let mut terminal = recorder(&scratch, &["sh", "-c", SLOW]);
    terminal.keys("\x03");
    assert_eq!(interrupts(&terminal), 1);
    let (status, said) = terminal.ended();
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("recording: a.db"), "{said}");
}

#[test]
fn one_that_somebody_sends_is_passed_on() {
    let scratch = Scratch::new("interrupt-kill");
    let terminal = recorder(&scratch, &["sh", "-c", SLOW]);
    terminal.signal(libc::SIGINT);
    assert_eq!(interrupts(&terminal), 1);
    let (status, said) = terminal.ended();
    assert_eq!(status.code(), Some(3), "{said}");
}

#[test]
fn a_command_that_left_the_terminal_gets_it_passed_on() {
    let scratch = Scratch::new("interrupt-left");
    // It leads no group, so that `setsid` becomes the command in the same process.
    let mut terminal = recorder(&scratch, &["setsid", "sh", "-c", SLOW]);
    terminal.keys("\x03");
    assert_eq!(interrupts(&terminal), 1);
    let (status, said) = terminal.ended();
    assert_eq!(status.code(), Some(3), "{said}");
}
