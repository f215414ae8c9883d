//! `userfault`: N faults that a thread of ours answers, each after a delay. In: N and the delay.
//! Out: the walk of the faulting thread, and what the answering one logged.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::{
    Answer,
    memory::{Mapping, page_size},
    now_ns,
    walk::{self, Plan, Touch, practise},
};

/// Of include/uapi/linux/userfaultfd.h.
const UFFD_API: u64 = 0xaa;
const UFFD_USER_MODE_ONLY: i32 = 1;
const REGISTER_MODE_MISSING: u64 = 1;
const EVENT_PAGEFAULT: u8 = 0x12;
const IOCTL_API: u64 = request::<Api>(0x3f);
const IOCTL_REGISTER: u64 = request::<Register>(0x00);
const IOCTL_ZEROPAGE: u64 = request::<Zeropage>(0x04);

/// `_IOWR(0xaa, nr, T)`.
const fn request<T>(nr: u64) -> u64 {
    (3 << 30) | ((size_of::<T>() as u64) << 16) | (0xaa << 8) | nr
}

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct Zeropage {
    start: u64,
    len: u64,
    mode: u64,
    zeroed: i64,
}

#[derive(Debug, Serialize)]
pub struct Truth {
    #[serde(flatten)]
    walk: walk::Truth,
    delay_ns: u64,
    /// Asked to answered, over all of them.
    wait_ns: u64,
    answers: Vec<Answer>,
}

pub fn run(pages: usize, delay: Duration) -> Result<Truth> {
    let page = page_size();
    let len = pages.checked_mul(page).context("too many --pages")?;
    let memory = Mapping::new(len)?;
    let file = open()?;
    let mut api = Api {
        api: UFFD_API,
        features: 0,
        ioctls: 0,
    };
    call(&file, IOCTL_API, &mut api).context("cannot agree with userfaultfd")?;
    let mut register = Register {
        start: memory.start(),
        len: len as u64,
        mode: REGISTER_MODE_MISSING,
        ioctls: 0,
    };
    call(&file, IOCTL_REGISTER, &mut register).context("cannot register with userfaultfd")?;
    let plan = Plan::new(0, pages, page, Touch::Write);
    practise()?;
    let answering = thread::Builder::new()
        .name("userfault".into())
        .spawn(move || answer(file, pages, page, delay))
        .context("cannot start a thread")?;
    let walk = plan.run(&memory);
    let answers = match answering.join() {
        Ok(answers) => answers.context("cannot answer a fault")?,
        Err(_) => bail!("the answering thread failed"),
    };
    Ok(Truth {
        walk: walk::Truth::of("userfault", page, walk)?,
        delay_ns: delay.as_nanos() as u64,
        wait_ns: answers.iter().map(Answer::ns).sum(),
        answers,
    })
}

fn open() -> Result<File> {
    let flags = libc::O_CLOEXEC | UFFD_USER_MODE_ONLY;
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
    if fd == -1 {
        return Err(io::Error::last_os_error())
            .context("this kernel or its policy does not allow userfaultfd");
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

fn call<T>(file: &File, request: u64, argument: &mut T) -> io::Result<()> {
    // SAFETY: the request's size is that of the argument, which the kernel may write.
    match unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Answers one fault a page. Dropping the descriptor lets go whoever still waits.
fn answer(mut file: File, pages: usize, page: usize, delay: Duration) -> io::Result<Vec<Answer>> {
    let mut answers = Vec::with_capacity(pages);
    while answers.len() < pages {
        // `struct uffd_msg`: the event first, the address of a fault at 16.
        let mut message = [0; 32];
        file.read_exact(&mut message)?;
        let asked_ns = now_ns();
        let [event, .., a, b, c, d, e, f, g, h, _, _, _, _, _, _, _, _] = message;
        if event != EVENT_PAGEFAULT {
            continue;
        }
        let start = u64::from_ne_bytes([a, b, c, d, e, f, g, h]) & !(page as u64 - 1);
        thread::sleep(delay);
        let answered_ns = now_ns();
        let mut zeropage = Zeropage {
            start,
            len: page as u64,
            mode: 0,
            zeroed: 0,
        };
        while let Err(e) = call(&file, IOCTL_ZEROPAGE, &mut zeropage) {
            match e.raw_os_error() {
                // The mappings were changing.
                Some(libc::EAGAIN) => zeropage.zeroed = 0,
                _ => return Err(e),
            }
        }
        answers.push(Answer {
            at: start,
            len: page as u64,
            asked_ns,
            answered_ns,
        });
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_waits_for_its_answer() {
        let delay = Duration::from_millis(2);
        match run(5, delay) {
            Ok(truth) => {
                assert_eq!(truth.answers.len(), 5);
                assert!(truth.wait_ns >= 5 * 2_000_000);
                let walk = &truth.walk.walk;
                assert!(walk.fault_ns.iter().all(|ns| *ns >= 2_000_000), "{walk:?}");
            }
            Err(e) => assert!(e.to_string().contains("does not allow"), "{e:#}"),
        }
    }
}
