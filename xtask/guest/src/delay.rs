//! A block device that answers late: device-mapper's `delay` target, set up by hand.
//!
//! In: a block device and a delay. Out: the path of the slow device. dmsetup would need libdevmapper.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;

use crate::sys;

const CONTROL: &str = "/dev/mapper/control";
/// `_IOWR(0xfd, nr, struct dm_ioctl)` of include/uapi/linux/dm-ioctl.h.
const fn request(nr: u64) -> u64 {
    (3 << 30) | ((size_of::<Header>() as u64) << 16) | (0xfd << 8) | nr
}
const DEV_CREATE: u64 = request(3);
const DEV_SUSPEND: u64 = request(6);
const TABLE_LOAD: u64 = request(9);

/// `struct dm_ioctl`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// `struct dm_target_spec`, with its parameters behind it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Target {
    sector_start: u64,
    length: u64,
    status: i32,
    next: u32,
    target_type: [u8; 16],
    params: [u8; 128],
}

#[repr(C)]
struct Message {
    header: Header,
    target: Target,
}

const _: () = assert!(size_of::<Header>() == 312 && size_of::<Target>() == 168);

/// Makes a device on top of `device` that answers reads and writes `delay_ms` late.
pub fn make(device: &str, delay_ms: u32) -> io::Result<String> {
    let short = device.trim_start_matches("/dev/");
    let sectors = fs::read_to_string(format!("/sys/class/block/{short}/size"))?;
    let sectors: u64 = sectors.trim().parse().map_err(io::Error::other)?;
    let control = File::options().read(true).write(true).open(CONTROL)?;
    let device_number = call(&control, short, DEV_CREATE, None)?;
    let params = format!("{device} 0 {delay_ms} {device} 0 {delay_ms}");
    call(&control, short, TABLE_LOAD, Some((sectors, &params)))?;
    // Without the suspend flag this call resumes: the table goes live.
    call(&control, short, DEV_SUSPEND, None)?;
    Ok(format!("/dev/dm-{}", libc::minor(device_number)))
}

/// Says the number of the device.
fn call(
    control: &File,
    name: &str,
    request: u64,
    table: Option<(u64, &str)>,
) -> io::Result<libc::dev_t> {
    let mut target = Target {
        sector_start: 0,
        length: 0,
        status: 0,
        next: 0,
        target_type: [0; 16],
        params: [0; 128],
    };
    if let Some((sectors, params)) = table {
        target.length = sectors;
        target.next = size_of::<Target>() as u32;
        copy(&mut target.target_type, b"delay")?;
        copy(&mut target.params, params.as_bytes())?;
    }
    let mut header = Header {
        version: [4, 0, 0],
        data_size: size_of::<Message>() as u32,
        data_start: size_of::<Header>() as u32,
        target_count: u32::from(table.is_some()),
        open_count: 0,
        flags: 0,
        event_nr: 0,
        padding: 0,
        dev: 0,
        name: [0; 128],
        uuid: [0; 129],
        data: [0; 7],
    };
    copy(&mut header.name, name.as_bytes())?;
    let mut message = Message { header, target };
    // SAFETY: the request is a dm ioctl, `data_size` is the size of the whole message, and the
    // kernel writes no more than that.
    let done = unsafe { libc::ioctl(control.as_raw_fd(), request as _, &raw mut message) };
    sys::check(done.into())?;
    Ok(message.header.dev)
}

/// Puts a text into a field that keeps a NUL at its end.
fn copy(field: &mut [u8], text: &[u8]) -> io::Result<()> {
    let room = field.len().saturating_sub(1);
    let part = field.get_mut(..text.len()).filter(|_| text.len() <= room);
    part.ok_or_else(|| io::Error::other("a name is too long for device-mapper"))?
        .copy_from_slice(text);
    Ok(())
}
