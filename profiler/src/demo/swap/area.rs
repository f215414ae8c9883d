//! A swap area of our own: made, switched on, and gone when dropped.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::demo::memory::page_size;

const ZRAM: &str = "/sys/class/zram-control";
/// Before any other area.
const PREFER: i32 = 0x8000 | 0x7fff;
/// The allocator hands out clusters to each processor.
const SLACK_PAGES: usize = 2048;
const APPEAR: Duration = Duration::from_secs(5);

pub struct Area {
    device: PathBuf,
    is_on: bool,
    origin: Origin,
    pub backing: &'static str,
}

enum Origin {
    /// Was there before.
    Device,
    /// Made by us, to be removed.
    File,
    /// The number of our own zram device.
    Zram(String),
}

impl Area {
    /// On a block device, or in a new file.
    pub fn at(path: &Path, pages: usize) -> Result<Self> {
        let named = || format!("cannot swap to {}", path.display());
        let is_device = path
            .metadata()
            .is_ok_and(|meta| meta.file_type().is_block_device());
        let is_zram = is_device && path.to_string_lossy().contains("/zram");
        let mut area = Self {
            device: path.to_owned(),
            is_on: false,
            origin: Origin::Device,
            backing: if is_zram { "zram" } else { "disk" },
        };
        if !is_device {
            let file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(named)?;
            area.origin = Origin::File;
            fill(&file, (pages + SLACK_PAGES) * page_size()).with_context(named)?;
        }
        area.switch_on().with_context(named)?;
        Ok(area)
    }

    /// On a zram device that is made for it.
    pub fn zram(pages: usize) -> Result<Self> {
        let number = fs::read_to_string(format!("{ZRAM}/hot_add"))
            .context("no zram device can be made: it needs root and the module zram")?;
        let number = number.trim().to_owned();
        let mut area = Self {
            device: format!("/dev/zram{number}").into(),
            is_on: false,
            origin: Origin::Zram(number.clone()),
            backing: "zram",
        };
        let size = (pages + SLACK_PAGES) * page_size();
        fs::write(
            format!("/sys/block/zram{number}/disksize"),
            size.to_string(),
        )
        .context("cannot size the zram device")?;
        let began = Instant::now();
        while !area.device.exists() {
            if began.elapsed() > APPEAR {
                bail!("{} did not appear", area.device.display());
            }
            thread::sleep(Duration::from_millis(5));
        }
        area.switch_on().context("cannot swap to the zram device")?;
        Ok(area)
    }

    fn switch_on(&mut self) -> io::Result<()> {
        let mut file = File::options().read(true).write(true).open(&self.device)?;
        let size = io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        file.write_all_at(&header(page_size(), size), 0)?;
        file.sync_all()?;
        drop(file);
        let path = self.c_path()?;
        // SAFETY: a NUL-terminated path.
        if unsafe { libc::swapon(path.as_ptr(), PREFER) } != 0 {
            return Err(io::Error::last_os_error());
        }
        self.is_on = true;
        Ok(())
    }

    fn c_path(&self) -> io::Result<CString> {
        CString::new(self.device.as_os_str().as_bytes()).map_err(io::Error::other)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        if self.is_on
            && let Ok(path) = self.c_path()
        {
            // SAFETY: a NUL-terminated path.
            unsafe { libc::swapoff(path.as_ptr()) };
        }
        match &self.origin {
            Origin::Device => {}
            Origin::File => {
                fs::remove_file(&self.device).ok();
            }
            Origin::Zram(number) => {
                fs::write(format!("/sys/block/zram{number}/reset"), "1").ok();
                fs::write(format!("{ZRAM}/hot_remove"), number).ok();
            }
        }
    }
}

/// A swap file may have no holes.
fn fill(mut file: &File, len: usize) -> io::Result<()> {
    let block = vec![0; 1 << 20];
    let mut left = len;
    while left > 0 {
        let part = left.min(block.len());
        file.write_all(&block[..part])?;
        left -= part;
    }
    file.sync_all()
}

/// The first page of an area: `union swap_header` of include/linux/swap.h.
fn header(page: usize, size: u64) -> Vec<u8> {
    let last = (size / page as u64).saturating_sub(1) as u32;
    let mut bytes = vec![0; page];
    let mut put = |at: usize, what: &[u8]| {
        for (byte, new) in bytes.iter_mut().skip(at).zip(what) {
            *byte = *new;
        }
    };
    put(1024, &1u32.to_ne_bytes());
    put(1028, &last.to_ne_bytes());
    put(page - 10, b"SWAPSPACE2");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_a_page_that_names_the_last_one() {
        let bytes = header(4096, 10 * 4096 + 17);
        assert_eq!(bytes.len(), 4096);
        assert_eq!(bytes[1024..1032], [1, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!(&bytes[4086..], b"SWAPSPACE2");
    }
}
