//! Starts an Android app as a tap on its icon does, by the programs that Android's shell has for it. In: a
//! package. Out: what `am start -W` says of the launch.

use std::{
    io,
    process::{Command, Stdio},
    thread::JoinHandle,
};

/// An app that is not running, and what is to be started of it.
#[derive(Debug)]
pub struct Launch {
    component: String,
}

impl Launch {
    /// Finds the activity that the launcher shows, and stops the app.
    pub fn prepare(package: &str) -> Result<Self, String> {
        let found = say("cmd", &["package", "resolve-activity", "--brief", package])?;
        let component = found.lines().rev().map(str::trim);
        let component = component.into_iter().find(|line| line.contains('/'));
        let Some(component) = component else {
            return Err(format!(
                "{package} has no activity that a launcher shows: start it by hand, beside `record --package {package}`"
            ));
        };
        say("am", &["force-stop", package])?;
        Ok(Self {
            component: component.into(),
        })
    }

    /// Returns at once; the thread ends when the activity is there.
    pub fn launch(self) -> io::Result<JoinHandle<Result<String, String>>> {
        let run = move || {
            let said = say("am", &["start", "-W", "-n", &self.component])?;
            told(&said)
                .ok_or_else(|| format!("am did not start {}: {}", self.component, one_line(&said)))
        };
        std::thread::Builder::new()
            .name("vmascope-launch".into())
            .spawn(run)
    }
}

fn say(program: &str, args: &[&str]) -> Result<String, String> {
    let words = format!("{program} {}", args.join(" "));
    let ended = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run `{words}`: {e}: --app-start is for Android"))?;
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    if ended.status.success() {
        return Ok(said);
    }
    let why = String::from_utf8_lossy(&ended.stderr).into_owned();
    Err(format!("`{words}` failed: {}", one_line(&(why + &said))))
}

/// `COLD, TotalTime 512 ms`, of an activity that came.
fn told(said: &str) -> Option<String> {
    let value = |key: &str| {
        let mut lines = said.lines().map(str::trim);
        lines.find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim()))
    };
    if value("Status")? != "ok" {
        return None;
    }
    let time = value("TotalTime").map(|ms| format!("TotalTime {ms} ms"));
    let parts = [value("LaunchState").map(str::to_owned), time];
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_am_says() {
        let said = "Starting: Intent { cmp=org.example/.Main }\nStatus: ok\nLaunchState: COLD\n\
                    Activity: org.example/.Main\nTotalTime: 512\nWaitTime: 530\nComplete\n";
        assert_eq!(told(said).as_deref(), Some("COLD, TotalTime 512 ms"));
        assert_eq!(
            told("Status: ok\nTotalTime: 3\n").as_deref(),
            Some("TotalTime 3 ms")
        );
        assert_eq!(told("Status: timeout\nTotalTime: 9\n"), None);
        assert_eq!(told("Error: Activity class does not exist.\n"), None);
    }

    #[test]
    fn a_machine_that_is_no_phone_is_told() {
        let told = Launch::prepare("org.example").unwrap_err();
        assert!(told.ends_with("--app-start is for Android"), "{told}");
    }
}
