//! What a daemon may do once its probes are attached: nothing more than anybody. In: this thread, while
//! it is the only one. Out: a process without capabilities that cannot get any again.
//!
//! Maps and programs are open by then. From 5.19 on the kernel lets everybody use those he holds,
//! whatever `kernel.unprivileged_bpf_disabled` says (kernel/bpf/syscall.c, `__sys_bpf`).

use std::io;

/// linux/capability.h.
const VERSION_3: u32 = 0x2008_0522;
const CAP_LAST: libc::c_ulong = 63;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

pub fn drop_all() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    for capability in 0..=CAP_LAST {
        // EINVAL: beyond the last this kernel knows. EPERM: not ours to drop; without any there is
        // nothing it could give back, now that new privileges are out of reach.
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
            Err(e) if e.raw_os_error() != Some(libc::EPERM) => return Err(e),
            _ => {}
        }
    }
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
    )?;
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let none = [Data::default(); 2];
    // SAFETY: version 3 has two sets of data; both are ours, and only read.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<()> {
    let zero: libc::c_ulong = 0;
    // SAFETY: no pointers.
    match unsafe { libc::prctl(option, argument, zero, zero, zero) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
