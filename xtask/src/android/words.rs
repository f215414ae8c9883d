//! What adb and devices say, and what it means. Nothing here asks anybody.
//!
//! In: their words. Out: decisions, or one line that names the trouble and the remedy.

use std::path::Path;

use crate::arch::Arch;

/// Where adb may write and programs may run, on every phone.
pub const DIR: &str = "/data/local/tmp";
/// Of the oldest kernel that has all that is measured.
const OLDEST: (u32, u32) = (6, 1);

/// What it comes to; that adb starts its server is said anywhere, and means nothing.
pub fn last_line(text: &str) -> &str {
    let lines = text.lines().map(str::trim);
    lines
        .rev()
        .find(|line| !line.is_empty() && !line.starts_with("* daemon "))
        .unwrap_or("no message")
}

/// A word of shell that is exactly this text.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A line of `adb devices`.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    serial: String,
    state: String,
}

pub fn devices(text: &str) -> Vec<Entry> {
    text.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(serial, state)| Entry {
            serial: serial.trim().to_owned(),
            state: state.trim().to_owned(),
        })
        .collect()
}

/// The device that is meant, if it can be used.
pub fn choose(devices: &[Entry], wanted: Option<&str>) -> Result<String, String> {
    let names = || {
        let all: Vec<String> = devices
            .iter()
            .map(|entry| format!("{} ({})", entry.serial, entry.state))
            .collect();
        all.join(", ")
    };
    let found = match (wanted, devices) {
        (_, []) => {
            return Err("no device: connect it by USB and turn on USB debugging in its developer options, or name one in the network with --serial HOST:PORT".into());
        }
        (Some(serial), _) => {
            let same = |entry: &&Entry| {
                // `adb connect HOST` means port 5555.
                entry.serial == serial || entry.serial.strip_suffix(":5555") == Some(serial)
            };
            let found = devices.iter().find(same);
            found.ok_or_else(|| format!("no device {serial}: there is {}", names()))?
        }
        (None, [only]) => only,
        (None, _) => {
            let mut ready = devices.iter().filter(|entry| entry.state == "device");
            let (Some(only), None) = (ready.next(), ready.next()) else {
                return Err(format!(
                    "several devices: choose with --serial from {}",
                    names()
                ));
            };
            only
        }
    };
    let serial = &found.serial;
    let state = found.state.as_str();
    Err(match state {
        "device" => return Ok(serial.clone()),
        "unauthorized" | "authorizing" => format!(
            "{serial} does not trust this machine yet: unlock it and allow USB debugging, then try again"
        ),
        "offline" | "connecting" => format!(
            "{serial} is {state}: connect it again, or run `adb reconnect offline`, then try again"
        ),
        "recovery" | "rescue" | "sideload" | "bootloader" => {
            format!("{serial} is in {state} mode: start Android with `adb reboot`")
        }
        _ if state.starts_with("no permissions") => format!(
            "{serial} may not be opened by this user: install the udev rules (package android-sdk-platform-tools-common) and join the group plugdev; adb says: {state}"
        ),
        _ => format!("{serial} cannot be used, adb calls it `{state}`"),
    })
}

/// Whether a device is about to become ready, as after `adb root`.
pub fn is_settling(devices: &[Entry]) -> bool {
    let states = ["offline", "connecting", "authorizing"];
    devices
        .iter()
        .any(|entry| states.contains(&entry.state.as_str()))
}

/// Why `adb connect` failed, if it did. Its exit code does not tell in every version.
pub fn not_connected(address: &str, said: &str) -> Option<String> {
    let line = last_line(said);
    if line.starts_with("connected to") || line.starts_with("already connected to") {
        return None;
    }
    // The device is known then; what it is called says more.
    if line.starts_with("failed to authenticate to") {
        return None;
    }
    Some(format!(
        "cannot connect to {address}: {line}; is adb over the network on (`adb tcpip 5555` by USB, or Wireless debugging)?"
    ))
}

/// Whether the connection broke, by adb's own complaint.
pub fn gone(stderr: &str) -> Option<String> {
    let line = last_line(stderr);
    let words = ["error: ", "adb: "]
        .iter()
        .find_map(|prefix| line.strip_prefix(prefix))?;
    let known = [
        "device offline",
        "device still",
        "device unauthorized",
        "closed",
        "no devices",
    ];
    let lost = known.iter().any(|phrase| words.starts_with(phrase))
        || (words.starts_with("device '") && words.ends_with("not found"));
    lost.then(|| format!("the connection broke ({words}): connect the device again"))
}

pub fn not_pushed(to: &str, said: &str) -> String {
    let line = last_line(said);
    let remedy = if line.contains("No space left") {
        "make room on the device"
    } else if line.contains("Read-only file system") {
        "remount it, or start the device again"
    } else if line.contains("Permission denied") {
        "a folder there belongs to root: remove it, or run `adb root`"
    } else if line.contains("No such file or directory") || line.contains("Is a directory") {
        "make that folder on the device"
    } else {
        "try again"
    };
    format!("cannot write {to}: {remedy}; adb says: {line}")
}

/// How to be root on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// adbd is: a debug build, or `adb root`.
    Already,
    /// AOSP's su, of debug builds: `su UID COMMAND ARGS`.
    Aosp,
    /// Magisk's and others': `su -c LINE`.
    Magisk,
}

impl Root {
    pub const ALL: [Self; 3] = [Self::Already, Self::Aosp, Self::Magisk];

    /// A line of shell, to be run as root.
    pub fn line(self, line: &str) -> String {
        match self {
            Self::Already => line.to_owned(),
            Self::Aosp => format!("su 0 sh -c {}", quote(line)),
            Self::Magisk => format!("su -c {}", quote(line)),
        }
    }
}

pub fn no_root(serial: &str) -> String {
    format!(
        "no root on {serial}: run `adb root` (debug builds, emulators), or allow root for the shell if the device has su; eBPF needs it, docs/android.md says what is left without"
    )
}

/// What a device says about itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Facts {
    machine: String,
    pub release: String,
    pub btf: bool,
    pub enforcing: bool,
    /// SHA-256 of the program that is there.
    pub hash: String,
    mounts: String,
}

impl Facts {
    /// A line of shell that makes a device tell.
    pub fn question() -> String {
        format!(
            "echo machine=$(uname -m); echo release=$(uname -r); echo selinux=$(getenforce 2>/dev/null); \
             test -e /sys/kernel/btf/vmlinux && echo btf=yes; \
             echo hash=$(sha256sum {DIR}/vmascope 2>/dev/null); cat /proc/mounts"
        )
    }

    pub fn parse(text: &str) -> Self {
        let mut facts = Self::default();
        for line in text.lines().map(str::trim_end) {
            match line.split_once('=') {
                Some(("machine", value)) => value.clone_into(&mut facts.machine),
                Some(("release", value)) => value.clone_into(&mut facts.release),
                Some(("selinux", value)) => facts.enforcing = value == "Enforcing",
                Some(("btf", value)) => facts.btf = value == "yes",
                Some(("hash", value)) => {
                    let hash = value.split_whitespace().next();
                    hash.unwrap_or_default().clone_into(&mut facts.hash);
                }
                _ => {
                    facts.mounts.push_str(line);
                    facts.mounts.push('\n');
                }
            }
        }
        facts
    }

    /// The architecture to build for; `wanted` must agree.
    pub fn arch(&self, wanted: Option<Arch>) -> Result<Arch, String> {
        let own = match self.machine.as_str() {
            // The second is what a 32-bit shell is told on a 64-bit kernel.
            "aarch64" | "armv8l" => Arch::Aarch64,
            "x86_64" => Arch::X86_64,
            other => {
                return Err(format!(
                    "the device's kernel is {other}: vmascope runs on aarch64 and x86_64 only"
                ));
            }
        };
        match wanted {
            Some(arch) if arch != own => Err(format!(
                "the device is {own}, not {arch}: leave --target out"
            )),
            _ => Ok(own),
        }
    }

    /// What to expect of an old kernel, or of one without type information.
    pub fn warning(&self, args: &[String]) -> Option<String> {
        let release = &self.release;
        if !self.btf && !args.iter().any(|arg| arg.starts_with("--btf")) {
            return Some(format!(
                "kernel {release} has no BTF, so vmascope will end with exit code 3: give --btf FILE, made from its vmlinux"
            ));
        }
        let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().ok());
        let version = (numbers.next()??, numbers.next()??);
        (version < OLDEST).then(|| {
            format!(
                "kernel {release} is older than {}.{}: expect the limited tier, or exit code 3; `-- doctor` shows what it can tell",
                OLDEST.0, OLDEST.1
            )
        })
    }

    /// The mount that this folder is on, if programs there may not be run.
    fn noexec(&self, dir: &str) -> Option<&str> {
        let rows = self.mounts.lines().filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (at, options) = (words.next()?, words.nth(1)?);
            Path::new(dir).starts_with(at).then_some((at, options))
        });
        // A later mount hides an earlier one at the same place.
        let (at, options) = rows.max_by_key(|(at, _)| at.len())?;
        options
            .split(',')
            .any(|option| option == "noexec")
            .then_some(at)
    }

    /// Why the program does not even tell its version.
    pub fn not_started(&self, code: i32, said: &str) -> String {
        let line = last_line(said);
        let program = format!("{DIR}/vmascope");
        let denied = line.contains("Permission denied") || line.contains("can't execute");
        if let Some(mount) = self.noexec(DIR).filter(|_| denied) {
            return format!(
                "{DIR} is on a noexec mount: run `mount -o remount,exec {mount}` on the device as root"
            );
        }
        if denied && self.enforcing {
            return format!(
                "SELinux does not let root run {program}: see `dmesg | grep avc` on the device; on a test device `setenforce 0` helps"
            );
        }
        let foreign = [
            "not executable",
            "Exec format error",
            "syntax error",
            "cannot execute binary",
        ];
        if foreign.iter().any(|phrase| line.contains(phrase)) {
            return format!(
                "{program} is for another processor than {}: remove it, and leave --target out; the device says: {line}",
                self.machine
            );
        }
        format!("{program} does not start (exit code {code}): {line}")
    }
}

/// What SELinux denied the program last, out of the kernel's log.
pub fn denial(dmesg: &str) -> Option<&str> {
    let lines = dmesg.lines().rev();
    let denied = |line: &&str| line.contains("avc:") && line.contains("denied");
    let line = lines
        .filter(denied)
        .find(|line| line.contains("vmascope"))?;
    line.get(line.find("avc:")?..).map(str::trim)
}

/// The file that `vmascope ARGS` has written on the device when it ends, if there is one. A detached
/// recorder goes on writing, until `stop FILE`.
pub fn recording(args: &[String]) -> Option<String> {
    let words = args.iter().map(String::as_str);
    let mut words = words.take_while(|word| *word != "--");
    match words.next() {
        Some("record") if words.clone().all(|word| word != "--detach") => {}
        Some("stop") => return words.find(|word| !word.starts_with('-')).map(str::to_owned),
        _ => return None,
    }
    let mut file = "vmascope.db";
    while let Some(word) = words.next() {
        let value = match word.split_once('=') {
            Some(("--output" | "--csv", value)) => Some(value),
            _ if word == "--output" || word == "--csv" => words.next(),
            _ if word.starts_with("--") => None,
            // A cluster such as `-ao FILE`; these have values, in the same word or in the next.
            _ => match word.strip_prefix('-').and_then(|cluster| {
                let at = cluster.find(['o', 'p', 'i', 'd'])?;
                Some((cluster.get(at..=at)?, cluster.get(at + 1..)?))
            }) {
                Some(("o", "")) => words.next(),
                Some(("o", value)) => Some(value.trim_start_matches('=')),
                _ => None,
            },
        };
        file = value.unwrap_or(file);
    }
    (file != "-").then(|| file.to_owned())
}

/// A line of shell that lists what belongs to a recording, readable for everybody: the file, what a
/// crash leaves beside it, and the numbered ones of `--max-size` and `--ring`.
pub fn listing(file: &str) -> String {
    let path = Path::new(file);
    let extension = path.extension().map(|ext| format!(".{}", ext.display()));
    let extension = extension.unwrap_or_default();
    let stem = quote(file.strip_suffix(extension.as_str()).unwrap_or(file));
    let (file, extension) = (quote(file), quote(&extension));
    let digits = "[0-9]".repeat(6);
    format!(
        "cd {DIR}; for f in {file} {file}-wal {file}-shm {stem}-{digits}{extension} {stem}-{digits}{extension}-wal {stem}-{digits}{extension}-shm; \
         do test -f \"$f\" && chmod a+r \"$f\" && echo \"$f\"; done; true"
    )
}

/// A path on the device, from the folder that the program runs in.
pub fn on_device(file: &str) -> String {
    if file.starts_with('/') {
        file.to_owned()
    } else {
        format!("{DIR}/{file}")
    }
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
