//! Recordings that were cut short, flipped or swapped: each is an error of one line or a recording
//! that can be read to its end, by every reader there is, and never a panic.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{self, Scratch};
use vmascope::{
    model::session::SCHEMA,
    recording::{Recording, Writer, repair},
    report, sinks,
};

/// A finished recording, and another as a crash left it: FILE and FILE-wal.
fn samples(dir: &Scratch) -> (Vec<u8>, [Vec<u8>; 2]) {
    let path = dir.file("good.vmas");
    let mut writer = Writer::create(&path, &support::session()).unwrap();
    writer.interval(&support::busy(1)).unwrap();
    writer.events(&support::batch()).unwrap();
    writer.interval(&support::busy(2)).unwrap();
    let crashed = [fs::read(&path), fs::read(companion(&path, "-wal"))].map(Result::unwrap);
    writer.finish(&support::busy(2)).unwrap();
    (fs::read(&path).unwrap(), crashed)
}

fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Everything that reads a recording; whether all of it could.
fn read(path: &Path, scratch: &Path) -> Result<(), String> {
    let one_line = |e: &dyn std::error::Error| {
        let text = e.to_string();
        assert!(!text.is_empty() && !text.trim().contains('\n'), "{text}");
        text
    };
    let recording = Recording::open(path).map_err(|e| one_line(&e))?;
    let every = || {
        recording.snapshot()?;
        recording.intervals().try_for_each(|i| i.map(drop))?;
        recording.waits().try_for_each(|w| w.map(drop))?;
        recording.windows().try_for_each(|w| w.map(drop))?;
        recording.arrivals().try_for_each(|a| a.map(drop))?;
        recording.conflicts().try_for_each(|c| c.map(drop))?;
        recording.faults().try_for_each(|f| f.map(drop))
    };
    // Each reader has its try, whatever became of the one before.
    let read = every().map_err(|e| one_line(&e));
    let told = report::of(&recording)
        .map_err(|e| one_line(&e))
        .map(|report| {
            assert!(!report::text(&report).is_empty());
            report::json(&report).unwrap();
            report::lkml(&report);
            report::short(&report);
        });
    let exported = sinks::csv::export(&recording, scratch).map_err(|e| one_line(&e));
    read.and(told).and(exported)
}

fn put(path: &Path, main: &[u8], wal: Option<&[u8]>) {
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(companion(path, suffix)).ok();
    }
    fs::write(path, main).unwrap();
    if let Some(wal) = wal {
        fs::write(companion(path, "-wal"), wal).unwrap();
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

#[test]
fn cut_at_any_length() {
    let dir = Scratch::new("cut");
    let (good, _) = samples(&dir);
    let (path, out) = (dir.file("a.vmas"), dir.file("csv"));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    // The header byte by byte, then page edges and their neighbours, then anywhere.
    let edges = (0..good.len()).step_by(4096 * 4);
    let mut lengths: Vec<_> = (0..=110)
        .chain(edges.flat_map(|at| [at.saturating_sub(1), at, at + 1]))
        .collect();
    lengths.extend((0..40).map(|_| random.below(good.len())));
    for length in lengths {
        put(&path, &good[..length.min(good.len() - 1)], None);
        let error = read(&path, &out).expect_err("part of it is gone");
        assert!(error.contains("a.vmas"), "{length}: {error}");
        repair(&path).expect_err("part of it is gone");
    }
    put(&path, &good, None);
    assert_eq!(read(&path, &out), Ok(()));
}

#[test]
fn flipped_anywhere() {
    let dir = Scratch::new("flipped");
    let (good, _) = samples(&dir);
    let (path, out) = (dir.file("a.vmas"), dir.file("csv"));
    let mut noticed = 0;
    for seed in 1..=150_u64 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut bad = good.clone();
        for _ in 0..1 << (seed % 8) {
            bad[random.below(good.len())] ^= 1 << random.below(8);
        }
        put(&path, &bad, None);
        noticed += u32::from(read(&path, &out).is_err());
        // Whatever it says, it says it.
        repair(&path).ok();
    }
    assert!(noticed > 20, "{noticed} of 150 were noticed");
}

/// SQLite's checksums find where a WAL breaks off: all up to there is read.
#[test]
fn a_wal_cut_or_flipped_is_read_up_to_there() {
    let dir = Scratch::new("wal");
    let (_, [main, wal]) = samples(&dir);
    let (path, out) = (dir.file("a.vmas"), dir.file("csv"));
    let mut random = Random(0x1234_5678_9abc_def1);
    put(&path, &main, Some(&wal));
    assert_eq!(read(&path, &out), Ok(()));
    for _ in 0..40 {
        let at = random.below(wal.len());
        let mut flipped = wal.clone();
        flipped[at] ^= 1 << random.below(8);
        for bad in [&wal[..at], &flipped[..]] {
            put(&path, &main, Some(bad));
            assert_eq!(read(&path, &out), Ok(()), "at {at} of {}", wal.len());
            let before = Recording::open(&path).unwrap().snapshot().unwrap();
            repair(&path).unwrap();
            assert!(!companion(&path, "-wal").exists(), "at {at}");
            let after = Recording::open(&path).unwrap();
            assert_eq!(after.snapshot().unwrap(), before, "at {at}");
            assert!(!after.complete(), "it was cut short, and still says so");
        }
    }
}

#[test]
fn foreign_files_are_refused() {
    let dir = Scratch::new("foreign");
    let (good, _) = samples(&dir);
    let (path, out) = (dir.file("a.vmas"), dir.file("csv"));
    let mut newer = good.clone();
    newer[60..64].copy_from_slice(&(SCHEMA + 1).to_be_bytes());
    let mut other = good.clone();
    other[68..72].copy_from_slice(b"fire");
    let table: [(&str, &[u8], &str); 6] = [
        ("nothing", b"", "is not a vmascope recording"),
        ("text", b"hello\n", "is not a vmascope recording"),
        ("zeroes", &[0; 8192], "is not a vmascope recording"),
        (
            "an ELF",
            b"\x7fELF\x02\x01\x01\0",
            "is not a vmascope recording",
        ),
        ("another's database", &other, "is not a vmascope recording"),
        ("the future", &newer, "use the version that made it"),
    ];
    for (what, bytes, says) in table {
        put(&path, bytes, None);
        let error = read(&path, &out).expect_err(what);
        assert!(
            error.contains(says) && error.contains("a.vmas"),
            "{what}: {error}"
        );
        let error = repair(&path).expect_err(what).to_string();
        assert!(error.contains(says), "{what}: {error}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{what} is left alone");
    }
}
