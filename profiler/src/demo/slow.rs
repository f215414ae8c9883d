//! Storage that answers late and logs what it was asked: a FUSE server with one file, or two.
//!
//! In: the size of the file and the delay. Out: the open file, and in the end a log. The second file
//! is a latch: one page with a delay of its own, to keep `mmap_lock` held for so long. The server is
//! a process of its own, so that no thread that faults serves itself. The mount is in a mount
//! namespace of ours alone: nobody else meets it, and it goes with the last of the two processes.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow, bail};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen,
    Request, Session, SessionACL,
};

use super::{
    Answer,
    memory::page_size,
    mount::{detach, mount, private},
    now_ns,
};

const NAME: &str = "slow";
const FILE: INodeNo = INodeNo(2);
const LATCH_NAME: &str = "latch";
const LATCH: INodeNo = INodeNo(3);
/// Requests at one time; the kernel's own limit is a dozen.
const BACKGROUND: u16 = 1024;
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// The server, as the process that asks sees it.
pub struct Server {
    pid: i32,
    log: File,
    at: PathBuf,
}

impl Server {
    /// A file of so many bytes, none of them in the page cache.
    pub fn start(len: u64, delay: Duration) -> Result<(Self, File)> {
        Self::with_latch(len, delay, delay)
    }

    /// The same, with a delay for the latch.
    pub fn with_latch(len: u64, delay: Duration, latch: Duration) -> Result<(Self, File)> {
        let root = "the built-in slow storage needs root; name a file on slow storage with --path";
        private().context(root)?;
        // Over the folder for temporary files: nothing has to be made, nor removed.
        let at = std::env::temp_dir();
        let device = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .context("this kernel has no FUSE, or its module is not loaded")?;
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        mount("vmascope", &at, "fuse", flags, &data)
            .with_context(|| format!("cannot mount over {}", at.display()))?;
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error()).context("cannot make a pipe");
        }
        // SAFETY: fresh descriptors that nobody else owns.
        let [log, tell] = ends.map(|fd| File::from(unsafe { OwnedFd::from_raw_fd(fd) }));
        // SAFETY: this process has one thread, so the child may do anything; it leaves by _exit.
        let pid = match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()).context("cannot fork"),
            0 => {
                drop(log);
                let told = tell_log(tell, serve(device, len, [delay, latch]));
                // SAFETY: ends the process, without the parent's clean-up.
                unsafe { libc::_exit(i32::from(told.is_err())) }
            }
            pid => pid,
        };
        // Were it open here, the file system would outlive a server that dies.
        drop((device, tell));
        let server = Self { pid, log, at };
        let file = File::open(server.at.join(NAME)).context("the built-in storage does not answer");
        Ok((server, file?))
    }

    /// The latch, opened in two ways. From a read-ahead by the first until its answer, the page is
    /// locked; a private mapping of the second throws the cached pages away, and waits for that
    /// page with `mmap_lock` held for write.
    pub fn latch(&self) -> Result<(File, File)> {
        let open = |flags: i32| {
            let mut options = File::options();
            let file = options.read(true).custom_flags(flags);
            let file = file.open(self.at.join(LATCH_NAME));
            file.context("the built-in storage does not answer")
        };
        Ok((open(0)?, open(DIRECT)?))
    }

    /// Ends the server. Its file must be closed and unmapped before.
    pub fn stop(mut self) -> Result<Vec<Answer>> {
        detach(&self.at);
        let mut text = Vec::new();
        self.log
            .read_to_end(&mut text)
            .context("cannot read the log of the built-in storage")?;
        let log: Result<Vec<Answer>, String> =
            serde_json::from_slice(&text).context("the built-in storage left no log")?;
        log.map_err(|why| anyhow!("the built-in storage failed: {why}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        detach(&self.at);
        // SAFETY: our own child, which nobody else waits for; it may have ended.
        unsafe {
            libc::kill(self.pid, libc::SIGTERM);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

/// The server's process: until the file system is unmounted.
fn serve(device: File, len: u64, [delay, latch]: [Duration; 2]) -> io::Result<Vec<Answer>> {
    // SAFETY: a number; without the faulting process there is nothing to serve.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
    let log = Arc::new(Mutex::new(Vec::new()));
    let slow = Slow {
        len,
        delay,
        latch,
        log: Arc::clone(&log),
    };
    let session = Session::from_fd(slow, device.into(), SessionACL::All, Config::default())?;
    match session.run() {
        // Unmounted while the server took up the release of the file: fuse_dev_do_read says so.
        Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
        done => done?,
    }
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *log))
}

/// To the process that asks: the log, or why there is none.
fn tell_log(mut tell: File, log: io::Result<Vec<Answer>>) -> io::Result<()> {
    let log = log.map_err(|why| why.to_string());
    tell.write_all(&serde_json::to_vec(&log)?)
}

struct Slow {
    len: u64,
    delay: Duration,
    latch: Duration,
    log: Arc<Mutex<Vec<Answer>>>,
}

/// Says to the server, by open(2), that the file is to be used without its cached pages. O_DIRECT
/// itself the kernel would act on.
const DIRECT: i32 = libc::O_SYNC;

impl Slow {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0o555, 0),
            FILE => (FileType::RegularFile, 0o444, self.len),
            LATCH => (FileType::RegularFile, 0o444, page_size() as u64),
            _ => return None,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: page_size() as u32,
            flags: 0,
        })
    }
}

impl Filesystem for Slow {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // One page at a time, and through read-ahead all the same: a read for one fault that goes
        // another way waits outside of `io_schedule`, where nobody takes it for I/O.
        config.set_max_readahead(page_size() as u32).ok();
        config.add_capabilities(InitFlags::FUSE_ASYNC_READ).ok();
        config.set_max_background(BACKGROUND).ok();
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let files = [(NAME, FILE), (LATCH_NAME, LATCH)];
        let file = files.into_iter().find(|(known, _)| *known == name);
        match file.and_then(|(_, inode)| self.attributes(inode)) {
            Some(file) if parent == INodeNo::ROOT => {
                reply.entry(&FOREVER, &file, Generation(0));
            }
            _ => reply.error(Errno::ENOENT),
        }
    }

    /// What is cached stays: to throw it away means to wait for pages that are being read.
    fn open(&self, _: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mut how = FopenFlags::FOPEN_KEEP_CACHE;
        if inode == LATCH && flags.0 & DIRECT == DIRECT {
            how |= FopenFlags::FOPEN_DIRECT_IO;
        }
        reply.opened(FileHandle(0), how);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    /// Answers from a thread of its own: requests do not wait for each other.
    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let asked_ns = now_ns();
        let (size_of_file, delay) = match inode {
            LATCH => (page_size() as u64, self.latch),
            _ => (self.len, self.delay),
        };
        let len = u64::from(size).min(size_of_file.saturating_sub(offset));
        let log = (inode == FILE).then(|| Arc::clone(&self.log));
        thread::spawn(move || {
            thread::sleep(delay);
            let bytes = vec![b'v'; len as usize];
            // Before the answer: after it, the log may already have been asked for.
            if let Some(log) = log {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.push(Answer {
                    at: offset,
                    len,
                    asked_ns,
                    answered_ns: now_ns(),
                });
            }
            reply.data(&bytes);
        });
    }
}

/// Wants the log to tell of every page, once.
pub fn check(log: &[Answer], pages: usize) -> Result<()> {
    let asked: u64 = log.iter().map(|answer| answer.len).sum();
    let wanted = (pages * page_size()) as u64;
    if asked != wanted {
        bail!("the pages hold {wanted} bytes, but the storage was asked for {asked}");
    }
    Ok(())
}
