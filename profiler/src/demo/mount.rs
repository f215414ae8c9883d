//! Mounts that nobody else meets: in a mount namespace of our own, gone with its last process.

use std::{ffi::CString, io, os::unix::ffi::OsStrExt as _, path::Path};

/// From now on, mounts are those of this process and its children alone.
pub fn private() -> io::Result<()> {
    // SAFETY: no pointers.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(io::Error::last_os_error());
    }
    mount(
        "none",
        Path::new("/"),
        "",
        libc::MS_REC | libc::MS_PRIVATE,
        "",
    )
}

pub fn mount(source: &str, at: &Path, kind: &str, flags: u64, data: &str) -> io::Result<()> {
    let text = |text: &str| CString::new(text).map_err(io::Error::other);
    let (source, kind, data) = (text(source)?, text(kind)?, text(data)?);
    let at = path(at)?;
    // SAFETY: NUL-terminated strings that outlive the call.
    let done = unsafe {
        libc::mount(
            source.as_ptr(),
            at.as_ptr(),
            kind.as_ptr(),
            flags as _,
            data.as_ptr().cast(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes the mount away from all who look for it; those who have it open keep it.
pub fn detach(at: &Path) {
    if let Ok(at) = path(at) {
        // SAFETY: a NUL-terminated path. Failure means that it is unmounted already.
        unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
    }
}

fn path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}
