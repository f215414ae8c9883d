//! The words of adb 34 and of Android's and busybox's shells, and what is made of them.

use super::*;

fn args(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn chosen(list: &str, wanted: Option<&str>) -> Result<String, String> {
    choose(&devices(list), wanted)
}

const HEAD: &str = "List of devices attached\n";

#[test]
fn one_device_is_the_device() {
    let list = format!("{HEAD}127.0.0.1:5555\tdevice\n\n");
    assert_eq!(chosen(&list, None).as_deref(), Ok("127.0.0.1:5555"));
    assert_eq!(
        chosen(&list, Some("127.0.0.1:5555")).as_deref(),
        Ok("127.0.0.1:5555")
    );
    // A host alone means this port.
    assert_eq!(
        chosen(&list, Some("127.0.0.1")).as_deref(),
        Ok("127.0.0.1:5555")
    );
}

#[test]
fn what_cannot_be_used_is_told_with_its_remedy() {
    let says = |list: &str, wanted: Option<&str>, words: &[&str]| {
        let error = chosen(&format!("{HEAD}{list}\n"), wanted).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{word} not in {error}");
        }
        assert!(!error.contains('\n'), "more than a line: {error}");
    };
    says("", None, &["no device", "USB debugging", "--serial"]);
    says("", Some("A1"), &["no device"]);
    says(
        "A1\tdevice\nB2\tdevice\n",
        None,
        &["several", "--serial", "A1", "B2"],
    );
    says("A1\tdevice\n", Some("B2"), &["no device B2", "A1 (device)"]);
    says(
        "A1\tunauthorized\n",
        None,
        &["unlock", "allow USB debugging"],
    );
    says("A1\toffline\n", None, &["offline", "adb reconnect"]);
    says("A1\trecovery\n", None, &["recovery", "adb reboot"]);
    let udev = "A1\tno permissions (missing udev rules? user is in the plugdev group); see [http://developer.android.com/tools/device.html]\n";
    says(udev, None, &["udev rules", "plugdev"]);
}

#[test]
fn the_only_device_that_is_ready_is_meant() {
    let list = format!("{HEAD}A1\toffline\nB2\tdevice\n");
    assert_eq!(chosen(&list, None).as_deref(), Ok("B2"));
}

#[test]
fn a_device_may_need_a_moment() {
    let settles = |state: &str| is_settling(&devices(&format!("{HEAD}A1\t{state}\n")));
    assert!(settles("offline") && settles("authorizing"));
    assert!(!settles("device") && !settles("unauthorized") && !is_settling(&[]));
}

#[test]
fn connecting_is_judged_by_words() {
    let why = |said: &str| not_connected("127.0.0.1:5555", said);
    assert_eq!(why("connected to 127.0.0.1:5555\n"), None);
    assert_eq!(why("already connected to 127.0.0.1:5555\n"), None);
    assert_eq!(why("failed to authenticate to 127.0.0.1:5555\n"), None);
    // The server's start is told on stderr, which is read after stdout.
    let started = "connected to 127.0.0.1:5555\n* daemon not running; starting now at tcp:5037\n* daemon started successfully\n";
    assert_eq!(why(started), None);
    let refused = why("failed to connect to '127.0.0.1:5555': Connection refused\n").unwrap();
    assert!(refused.contains("Connection refused") && refused.contains("adb tcpip 5555"));
}

#[test]
fn a_broken_connection_is_not_a_failed_command() {
    assert!(gone("error: device offline\n").is_some());
    assert!(gone("adb: device 'A1' not found\n").is_some());
    assert!(gone("error: closed\n").is_some());
    assert!(gone("error: invalid value 'x' for '--hooks <HOOKS>'\n").is_none());
    assert!(gone("/system/bin/sh: su: inaccessible or not found\n").is_none());
    assert!(gone("").is_none());
}

#[test]
fn pushes_fail_for_reasons() {
    let why = |reason: &str| {
        not_pushed(
            "/x/y",
            &format!("adb: error: failed to copy 'a' to '/x/y': remote {reason}\n"),
        )
    };
    assert!(why("couldn't create file: No space left on device").contains("make room"));
    assert!(why("write failed: No space left on device").contains("make room"));
    assert!(why("couldn't create file: Permission denied").contains("adb root"));
    assert!(why("couldn't create file: Read-only file system").contains("remount"));
    let folder = "secure_mkdirs failed: No such file or directory";
    assert!(why(folder).contains("make that folder"));
}

#[test]
fn words_for_the_shell_are_exact() {
    assert_eq!(quote("a b"), "'a b'");
    assert_eq!(quote("it's"), r"'it'\''s'");
    assert_eq!(Root::Already.line("id -u"), "id -u");
    assert_eq!(Root::Magisk.line("id -u"), "su -c 'id -u'");
    assert_eq!(Root::Aosp.line("echo 'a'"), r"su 0 sh -c 'echo '\''a'\'''");
    // What a shell makes of it.
    let line = format!("printf %s {}", quote("a'b \"$HOME\" `id`\n\\"));
    let out = std::process::Command::new("sh")
        .args(["-c", &line])
        .output()
        .unwrap();
    assert_eq!(out.stdout, b"a'b \"$HOME\" `id`\n\\");
}

fn phone() -> Facts {
    Facts::parse(
        "machine=aarch64\nrelease=6.1.75-android14-11-g1234\nselinux=Enforcing\nbtf=yes\n\
         hash=0a1b  /data/local/tmp/vmascope\n\
         /dev/block/dm-1 / ext4 ro,seclabel,nodev,relatime 0 0\n\
         /dev/block/dm-44 /data f2fs rw,lazytime,seclabel,nosuid,nodev,noatime 0 0\n",
    )
}

#[test]
fn facts_are_read() {
    let facts = phone();
    assert_eq!(facts.release, "6.1.75-android14-11-g1234");
    assert_eq!(facts.hash, "0a1b");
    assert!(facts.btf && facts.enforcing);
    let bare = Facts::parse("machine=armv7l\nrelease=4.19.1\nselinux=\nhash=\n");
    assert!(!bare.btf && !bare.enforcing && bare.hash.is_empty());
}

#[test]
fn the_architecture_is_the_device_s() {
    assert_eq!(phone().arch(None), Ok(Arch::Aarch64));
    assert_eq!(phone().arch(Some(Arch::Aarch64)), Ok(Arch::Aarch64));
    assert!(
        phone()
            .arch(Some(Arch::X86_64))
            .unwrap_err()
            .contains("--target")
    );
    let with = |machine: &str| Facts::parse(&format!("machine={machine}\n")).arch(None);
    assert_eq!(with("x86_64"), Ok(Arch::X86_64));
    assert_eq!(with("armv8l"), Ok(Arch::Aarch64));
    assert!(
        with("armv7l")
            .unwrap_err()
            .contains("aarch64 and x86_64 only")
    );
}

#[test]
fn old_kernels_are_told_plainly() {
    let warning = |release: &str, btf: bool, line: &str| {
        let facts = Facts {
            release: release.to_owned(),
            btf,
            ..Facts::default()
        };
        facts.warning(&args(line))
    };
    assert_eq!(warning("6.1.75-android14", true, "top"), None);
    assert_eq!(warning("6.12", true, "top"), None);
    for old in ["5.10.149-android13-4", "5.15.104"] {
        let text = warning(old, true, "record").unwrap();
        assert!(text.contains(old) && text.contains("limited tier") && text.contains("3"));
    }
    assert!(
        warning("5.10.1", false, "record")
            .unwrap()
            .contains("no BTF")
    );
    assert!(
        warning("5.10.1", false, "record --btf x")
            .unwrap()
            .contains("limited")
    );
    assert_eq!(warning("unknown", true, "top"), None);
}

#[test]
fn a_program_that_does_not_start_says_why() {
    let mksh = "/system/bin/sh: /data/local/tmp/vmascope: can't execute: Permission denied\n";
    assert!(phone().not_started(126, mksh).contains("SELinux"));
    let mut facts = phone();
    facts
        .mounts
        .push_str("tmpfs /data/local tmpfs rw,noexec 0 0\n");
    assert!(
        facts
            .not_started(126, mksh)
            .contains("remount,exec /data/local`")
    );
    // Nothing of /data2 holds for /data.
    let mut facts = phone();
    facts
        .mounts
        .push_str("tmpfs /data/loc tmpfs rw,noexec 0 0\n");
    assert!(!facts.not_started(126, mksh).contains("noexec"));
    let foreign = "/system/bin/sh: /data/local/tmp/vmascope: not executable: 64-bit ELF file\n";
    assert!(
        phone()
            .not_started(126, foreign)
            .contains("another processor")
    );
    let busybox = "/data/local/tmp/vmascope: line 1: syntax error: unexpected \"(\"\n";
    assert!(
        phone()
            .not_started(2, busybox)
            .contains("another processor")
    );
    assert!(
        phone()
            .not_started(139, "Segmentation fault\n")
            .contains("139")
    );
}

#[test]
fn denials_are_found_in_the_log() {
    let log = "[   1.0] type=1400 audit(1.0:1): avc:  denied  { read } for  pid=1 comm=\"init\"\n\
        [  90.1] type=1400 audit(9.0:4): avc:  denied  { prog_load } for  pid=77 comm=\"vmascope\" scontext=u:r:su:s0\n\
        [  91.0] something else of vmascope\n";
    let found = denial(log).unwrap();
    assert!(found.starts_with("avc:  denied  { prog_load }"));
    assert_eq!(denial("[ 1.0] avc: granted vmascope"), None);
}

#[test]
fn the_recording_is_what_record_writes() {
    let file = |line: &str| recording(&args(line));
    for line in [
        "record -o a.db",
        "record -oa.db -- true",
        "record --output a.db -d 3",
        "record --output=a.db",
        "record -p 12 -ao a.db",
        "record -d10 -o a.db -- sh -o b.db",
        "record --csv a.db",
        "record -o a.db -- sh --detach",
        "stop a.db",
    ] {
        assert_eq!(file(line).as_deref(), Some("a.db"), "{line}");
    }
    for line in ["record", "record -d 10 -p1 -- cmd -o x", "record -pod -d5"] {
        assert_eq!(file(line).as_deref(), Some("vmascope.db"), "{line}");
    }
    for line in [
        "",
        "report -o x",
        "record --csv -",
        "doctor",
        "record --csv=-",
        "record -o a.db --detach -d 1h",
        "stop",
    ] {
        assert_eq!(file(line), None, "{line}");
    }
    assert_eq!(on_device("a.db"), "/data/local/tmp/a.db");
    assert_eq!(on_device("/sdcard/a.db"), "/sdcard/a.db");
}

#[test]
fn all_files_of_a_recording_are_listed() {
    let dir = std::env::temp_dir().join(format!("xtask-android-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for name in [
        "a b.db",
        "a b.db-wal",
        "a b.db-shm",
        "a b-000001.db",
        "a b-x.db",
        "other.db",
    ] {
        std::fs::write(dir.join(name), "").unwrap();
    }
    let line = listing("a b.db").replace(DIR, &dir.display().to_string());
    let out = std::process::Command::new("sh")
        .args(["-c", &line])
        .output()
        .unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let found: Vec<&str> = text.lines().collect();
    assert_eq!(
        found,
        ["a b.db", "a b.db-wal", "a b.db-shm", "a b-000001.db"]
    );
    assert!(out.status.success());
}
