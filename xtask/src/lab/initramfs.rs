//! An initramfs: a cpio archive ("newc") in memory.
//!
//! In: files and their contents. Out: the bytes that the kernel unpacks into its root.

use std::collections::BTreeSet;

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const DEVICE: u32 = 0o020_000;

/// An archive that grows; folders are made as needed.
pub struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    next_inode: u32,
}

impl Archive {
    pub fn new() -> Self {
        Self {
            bytes: Vec::new(),
            folders: BTreeSet::new(),
            next_inode: 1,
        }
    }

    pub fn folder(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || !self.folders.insert(path.to_owned()) {
            return;
        }
        self.parents(path);
        let mode = if path == "tmp" { 0o1777 } else { 0o755 };
        self.entry(path, DIRECTORY | mode, (0, 0), &[]);
    }

    pub fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        let path = path.trim_matches('/');
        self.parents(path);
        self.entry(path, FILE | mode, (0, 0), bytes);
    }

    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        let path = path.trim_matches('/');
        self.parents(path);
        self.entry(path, DEVICE | 0o600, (major, minor), &[]);
    }

    /// The archive with its end mark.
    pub fn finish(mut self) -> Vec<u8> {
        self.next_inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), bytes: &[u8]) {
        let links = 1;
        // The format ends at 4 GiB; the kernel would not take such a file either.
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        let fields = [
            self.next_inode,
            mode,
            0, // user
            0, // group
            links,
            0, // time
            size,
            0, // device of the archive, major and minor
            0,
            device.0,
            device.1,
            name_size,
            0, // checksum, unused
        ];
        self.next_inode += 1;
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// Names with their header, and contents, end on multiples of four.
    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// Reads an archive back: path, mode, contents.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[6 + 8 * n..14 + 8 * n]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&bytes[110..110 + name_size - 1]).unwrap();
            assert_eq!(bytes[110 + name_size - 1], 0);
            let start = (110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(bytes.len(), start);
                return entries;
            }
            let contents = bytes[start..start + size].to_vec();
            entries.push((name.to_owned(), mode, contents));
            bytes = &bytes[(start + size).next_multiple_of(4)..];
        }
    }

    fn sample() -> Vec<u8> {
        let mut archive = Archive::new();
        archive.file("/init", 0o755, b"program");
        archive.file("etc/deep/er/passwd", 0o644, b"root");
        archive.folder("/etc");
        archive.folder("tmp");
        archive.file("tmp/empty", 0o644, b"");
        archive.character_device("/dev/console", 5, 1);
        archive.finish()
    }

    #[test]
    fn what_goes_in_comes_out() {
        let entries = read(&sample());
        let names: Vec<&str> = entries.iter().map(|e| e.0.as_str()).collect();
        // Parents come before what is in them, each once.
        assert_eq!(
            names,
            [
                "init",
                "etc",
                "etc/deep",
                "etc/deep/er",
                "etc/deep/er/passwd",
                "tmp",
                "tmp/empty",
                "dev",
                "dev/console",
            ]
        );
        assert_eq!(entries[0].1, 0o100_755);
        assert_eq!(entries[0].2, b"program");
        assert_eq!(entries[5].1, 0o041_777);
        assert_eq!(entries[8].1, 0o020_600);
    }

    #[test]
    fn cpio_agrees_where_it_is_installed() {
        let Ok(mut cpio) = Command::new("cpio")
            .arg("-t")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        else {
            return;
        };
        cpio.stdin.take().unwrap().write_all(&sample()).unwrap();
        let out = cpio.wait_with_output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(out.status.success());
        assert_eq!(text.lines().count(), 9);
    }
}
