//! Callers that are not what they seem: a system call by the door of i386, a child in its parent's address
//! space, a thread that becomes its process.
//!
//! Out: one line of JSON, the truth: what each called, and its faults by the kernel's own count.

use std::ffi::c_void;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use guest::pages::Pages;
use serde_json::{Value, json};

const VFORKS: usize = 10;
/// Mappings that a child of vfork makes and takes away again.
const MAPPINGS: usize = 100;
const PAGES: usize = 300;

/// mprotect of a page, by `int 0x80`.
#[cfg(target_arch = "x86_64")]
fn i386_mprotect(page: *mut c_void, protection: i32) -> io::Result<()> {
    // arch/x86/entry/syscalls/syscall_32.tbl
    const MPROTECT: i64 = 125;
    let answer: i64;
    // SAFETY: a page of the caller's that holds nothing. The compiler keeps rbx for itself.
    unsafe {
        std::arch::asm!(
            "xchg {page}, rbx",
            "int 0x80",
            "xchg {page}, rbx",
            page = inout(reg) page => _,
            inlateout("rax") MPROTECT => answer,
            in("rcx") 4096_i64,
            in("rdx") i64::from(protection),
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
    match answer as i32 {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

#[cfg(target_arch = "x86_64")]
fn i386() -> io::Result<Value> {
    const CALLS: u64 = 2_000;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    // SAFETY: a fresh mapping at an address the kernel chooses, which i386 can name.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    for _ in 0..CALLS / 2 {
        i386_mprotect(page, libc::PROT_READ | libc::PROT_WRITE)?;
        i386_mprotect(page, libc::PROT_READ)?;
    }
    Ok(CALLS.into())
}

/// A 64-bit process of arm64 has no such door.
#[cfg(not(target_arch = "x86_64"))]
fn i386() -> io::Result<Value> {
    Ok(Value::Null)
}

/// Faults of a child that has ended well.
fn faults_of(pid: i32) -> io::Result<i64> {
    let mut status = 0;
    // SAFETY: plain numbers, zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: valid places for the answers.
    let ended = unsafe { libc::wait4(pid, &mut status, 0, &mut usage) };
    match (ended == pid, status) {
        (true, 0) => Ok(usage.ru_minflt + usage.ru_majflt),
        (true, status) => Err(io::Error::other(format!("{pid} ended with {status:#x}"))),
        (false, _) => Err(io::Error::last_os_error()),
    }
}

extern "C" fn maps_and_touches(_: *mut c_void) -> i32 {
    let work = || -> io::Result<()> {
        for _ in 0..MAPPINGS {
            Pages::new(2)?.touch();
        }
        Ok(())
    };
    i32::from(work().is_err())
}

/// As vfork does it: in our address space, and we stand still until it ends.
fn vfork() -> io::Result<Value> {
    let mut stack = vec![0_u128; 4096];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let top = stack.as_mut_ptr_range().end.cast();
    // SAFETY: the stack is the child's alone until it has ended, and this call returns no earlier.
    let pid = unsafe { libc::clone(maps_and_touches, top, flags, std::ptr::null_mut()) };
    if pid == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(json!({ "pid": pid, "faults": faults_of(pid)? }))
}

/// Children that take mmap_lock of this process, while one of its threads does; and that thread's calls.
fn vforks() -> io::Result<(Vec<Value>, u64)> {
    let done = AtomicBool::new(false);
    let protect = || -> io::Result<u64> {
        let page = Pages::new(1)?;
        let mut calls = 0;
        while !done.load(Ordering::Relaxed) {
            page.protect()?;
            calls += 1;
        }
        Ok(calls)
    };
    thread::scope(|scope| {
        let thread = scope.spawn(protect);
        let children = (0..VFORKS).map(|_| vfork()).collect::<io::Result<_>>();
        done.store(true, Ordering::Relaxed);
        let calls = thread.join();
        let calls = calls.map_err(|_| io::Error::other("a thread panicked"))??;
        Ok((children?, calls))
    })
}

fn touch() -> io::Result<()> {
    Pages::new(PAGES)?.touch();
    Ok(())
}

fn again(what: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(what);
    Ok(command)
}

/// A thread that is not the first of its process becomes all of it.
fn exec_by_thread() -> io::Result<()> {
    let named = thread::Builder::new().name("was-a-thread".to_owned());
    let thread = named.spawn(|| -> io::Result<()> {
        touch()?;
        Err(again("touch")?.exec())
    })?;
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("it panicked")))
}

fn callers() -> io::Result<()> {
    let i386_calls = i386()?;
    let (vforks, mprotects) = vforks()?;
    let pid = again("exec")?.spawn()?.id();
    let faults = faults_of(pid.cast_signed())?;
    let truth = json!({
        "scenario": "callers",
        "pid": std::process::id(),
        "i386_mprotects": i386_calls,
        "mprotects": mprotects,
        "vforks": vforks,
        "exec": { "pid": pid, "faults": faults, "touched": 2 * PAGES },
    });
    println!("{truth}");
    Ok(())
}

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        None => callers(),
        Some("exec") => exec_by_thread(),
        Some("touch") => touch(),
        Some(what) => Err(io::Error::other(format!("{what} is no caller"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callers: {error}");
            ExitCode::FAILURE
        }
    }
}
