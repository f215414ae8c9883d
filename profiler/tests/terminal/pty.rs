//! A program on a terminal of its own. In: keys, signals, a size. Out: the screen as a person would see
//! it, and what is left of the terminal when the program is gone.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    num::NonZero,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

/// Debug builds on a busy machine: what is not there by now will never be.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Pty {
    child: Child,
    ours: File,
    screen: Arc<Mutex<vt100::Parser>>,
    /// The terminal's modes before the program came.
    before: libc::termios,
}

impl Pty {
    pub fn run(mut command: Command, width: u16, height: u16) -> Self {
        let size = size(width, height);
        let (mut ours, mut theirs) = (-1, -1);
        // SAFETY: two places for descriptors, no name, no modes, a valid size.
        let made = unsafe {
            libc::openpty(
                &raw mut ours,
                &raw mut theirs,
                std::ptr::null_mut(),
                std::ptr::null(),
                &raw const size,
            )
        };
        assert_eq!(made, 0, "no terminal to be had");
        // SAFETY: both are open and nobody else's.
        let (ours, theirs) = unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
        let before = modes(&ours);
        command
            .env("LANG", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .env_remove("LC_ALL")
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs)
            .stderr(Stdio::piped());
        // SAFETY: system calls that are allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        // The child's side is closed here with the command: reading ends when the child does.
        drop(command);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(
            cells(height),
            cells(width),
            0,
        )));
        let (mut from, to) = (ours.try_clone().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                lock(&to).process(&bytes[..n]);
            }
        });
        Self {
            child,
            ours,
            screen,
            before,
        }
    }

    pub fn keys(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    pub fn signal(&self, number: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: no pointers; the child has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, number) }, 0);
    }

    pub fn resize(&mut self, width: u16, height: u16) {
        lock(&self.screen)
            .screen_mut()
            .set_size(cells(height), cells(width));
        let size = size(width, height);
        // SAFETY: a valid size.
        let done = unsafe { libc::ioctl(self.ours.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(done, 0);
    }

    pub fn screen(&self) -> String {
        lock(&self.screen).screen().contents()
    }

    /// The screen as soon as it is as wanted.
    #[track_caller]
    pub fn until(&self, wanted: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(begin.elapsed() < PATIENCE, "this stayed:\n{screen}");
            sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub fn shows(&self, text: &str) -> String {
        self.until(|screen| screen.contains(text))
    }

    /// How the program ended, and what it said; the terminal must be as it was found.
    #[track_caller]
    pub fn ended(mut self) -> (ExitStatus, String) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "still there:\n{}",
                self.screen()
            );
            sleep(Duration::from_millis(20));
        };
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        let now = modes(&self.ours);
        let flags = |m: &libc::termios| (m.c_iflag, m.c_oflag, m.c_cflag, m.c_lflag);
        assert_eq!(flags(&now), flags(&self.before), "modes are not restored");
        let is_restored = || {
            let parser = lock(&self.screen);
            !parser.screen().alternate_screen() && !parser.screen().hide_cursor()
        };
        let begin = Instant::now();
        while !is_restored() {
            assert!(begin.elapsed() < PATIENCE, "the screen is not restored");
            sleep(Duration::from_millis(20));
        }
        (status, said)
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn lock(screen: &Mutex<vt100::Parser>) -> MutexGuard<'_, vt100::Parser> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cells(n: u16) -> NonZero<u16> {
    NonZero::new(n).unwrap()
}

fn size(width: u16, height: u16) -> libc::winsize {
    libc::winsize {
        ws_row: height,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn modes(terminal: &File) -> libc::termios {
    // SAFETY: plain integers, which tcgetattr fills.
    let mut modes: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: an open terminal, and room for its modes.
    let done = unsafe { libc::tcgetattr(terminal.as_raw_fd(), &raw mut modes) };
    assert_eq!(done, 0);
    modes
}
