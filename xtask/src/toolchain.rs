//! What compiles the two halves: rust-src and bpf-linker for eBPF, std and a linker per target.
//!
//! In: the pinned rustc, rustup, the crate registry, Debian's packages. Out: tools under the cache
//! folder and in the toolchain. Each `ensure_*` is quick when nothing is missing.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt::{self, Apt};
use crate::arch::Arch;
use crate::system::{self, Need};
use crate::{deb, paths};

/// A linker must read the LLVM of the compiler it serves: raise both together.
const BPF_LINKER: &str = "0.13";

/// The compiler in use, as it describes itself.
pub struct Rustc {
    pub release: String,
    pub sysroot: PathBuf,
    llvm_major: String,
}

impl Rustc {
    pub fn current() -> Result<Self> {
        let text = system::output(rust_tool("rustc").arg("-vV"))
            .context("no Rust compiler: install rustup and the toolchain of rust-toolchain.toml")?;
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|value| value.trim().to_owned())
                .with_context(|| format!("rustc -vV says no `{name}`"))
        };
        let llvm = field("LLVM version:")?;
        let sysroot = system::output(rust_tool("rustc").args(["--print", "sysroot"]))?;
        Ok(Self {
            release: field("release:")?,
            sysroot: PathBuf::from(sysroot.trim()),
            llvm_major: llvm.split('.').next().unwrap_or(&llvm).to_owned(),
        })
    }

    fn rustlib(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib")
    }

    fn library(&self) -> PathBuf {
        self.rustlib().join("src/rust/library")
    }

    pub fn has_src(&self) -> bool {
        self.library().join("core/Cargo.toml").exists()
            && self.library().join("Cargo.lock").exists()
    }

    /// The folder of this compiler's own bpf-linker; profiler/build.rs knows the name too.
    fn linker_dir(&self) -> Result<PathBuf> {
        let name = format!("bpf-linker-{BPF_LINKER}-rust-{}", self.release);
        Ok(paths::cache()?.join("tools").join(name))
    }
}

/// A program of the toolchain, run where rust-toolchain.toml applies.
fn rust_tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(paths::root());
    command
}

/// `cargo`, in the checkout, with bpf-linker on its PATH.
pub fn cargo() -> Result<Command> {
    let linker = ensure_ebpf()?;
    let mut command = rust_tool("cargo");
    command.env("PATH", path_with(&linker)?);
    Ok(command)
}

fn path_with(dir: &Path) -> Result<OsString> {
    let old = env::var_os("PATH").unwrap_or_default();
    let dirs = [dir.to_path_buf()]
        .into_iter()
        .chain(env::split_paths(&old));
    env::join_paths(dirs).context("PATH holds a folder with a quote or colon in its name")
}

/// Everything the eBPF crate needs; returns the folder that holds bpf-linker.
pub fn ensure_ebpf() -> Result<PathBuf> {
    let rustc = Rustc::current()?;
    ensure_rust_src(&rustc)?;
    ensure_bpf_linker(&rustc)
}

/// The standard library's source: `core` is compiled for the BPF target from it.
fn ensure_rust_src(rustc: &Rustc) -> Result<()> {
    if rustc.has_src() {
        return Ok(());
    }
    println!(
        "installing rust-src {}: core is built for BPF from it",
        rustc.release
    );
    let added = rustup(&["component", "add", "rust-src"]);
    if rustc.has_src() {
        return Ok(());
    }
    println!("rustup has none; trying Debian's package");
    debian_rust_src(rustc).with_context(|| {
        let why = added.err().map(|e| format!(" ({e:#})")).unwrap_or_default();
        format!("run `rustup component add rust-src` where it can download{why}")
    })
}

fn rustup(args: &[&str]) -> Result<()> {
    system::output(rust_tool("rustup").args(args)).map(drop)
}

/// A component of the toolchain that runs as a cargo sub-command.
pub fn ensure_component(name: &str) -> Result<()> {
    let program = if name == "clippy" {
        "clippy-driver"
    } else {
        name
    };
    let bin = Rustc::current()?.sysroot.join("bin").join(program);
    if bin.exists() {
        return Ok(());
    }
    println!("installing {name}: the checks run it");
    rustup(&["component", "add", name])
        .with_context(|| format!("run `rustup component add {name}`"))
}

/// Debian carries the source of the compilers it has; only the very same release will do.
fn debian_rust_src(rustc: &Rustc) -> Result<()> {
    let cache = paths::cache()?;
    let apt = Apt::new(&cache)?;
    let upstream = format!("{}+", rustc.release);
    let mut found = None;
    for suite in ["trixie-backports", "forky", "sid"] {
        let named = |name: &str| name == "rust-src" || name.starts_with("rust-1.");
        // A suite that the mirror lacks is no reason not to ask the next.
        let Ok(all) = apt.all(&[suite], Arch::HOST, named) else {
            continue;
        };
        found = all
            .into_iter()
            .find(|p| p.name.ends_with("-src") && p.version.starts_with(&upstream));
        if found.is_some() {
            break;
        }
    }
    let package =
        found.with_context(|| format!("Debian has no source of Rust {}", rustc.release))?;
    let dir = cache
        .join("tools")
        .join(format!("rust-src-{}", rustc.release));
    if !dir.exists() {
        paths::make_dir(&cache.join("tools"))?;
        deb::unpack(&apt.fetch(&package)?, &dir)?;
    }
    let library = fs::read_dir(dir.join("usr/src"))?
        .filter_map(|entry| Some(entry.ok()?.path().join("library")))
        .find(|path| path.join("core/Cargo.toml").exists())
        .with_context(|| format!("{} holds no library/core", package.name))?;
    let link = rustc.library();
    if let Some(parent) = link.parent() {
        paths::make_dir(parent)?;
    }
    fs::remove_file(&link).ok();
    symlink(&library, &link).with_context(|| format!("cannot make the link {}", link.display()))?;
    if !rustc.has_src() {
        bail!("{} lacks library/Cargo.lock", package.name);
    }
    Ok(())
}

/// bpf-linker against the compiler's own LLVM: reader and writer of the bitcode are then the same,
/// and no LLVM has to be installed.
fn ensure_bpf_linker(rustc: &Rustc) -> Result<PathBuf> {
    let dir = rustc.linker_dir()?;
    let bin = dir.join("bin");
    let linker = bin.join("bpf-linker");
    let llvm = dir.join("llvm");
    let works = || system::output(Command::new(&linker).arg("--version")).is_ok();
    if linker.exists() {
        if works() {
            return Ok(bin);
        }
        // The links to libLLVM break when the toolchain moves; the linker itself stays right.
        link_llvm(rustc, &llvm)?;
        if works() {
            return Ok(bin);
        }
    }
    paths::make_dir(&dir)?;
    let lock = File::create(dir.join("lock"))?;
    lock.lock().context("cannot lock the tools folder")?;
    if works() {
        return Ok(bin);
    }
    println!("building bpf-linker {BPF_LINKER} (about a minute): it links the eBPF object");
    link_llvm(rustc, &llvm)?;
    let stage = paths::temp_beside(&dir.join("stage"));
    let mut install = rust_tool("cargo");
    install
        .args(["install", "bpf-linker", "--version"])
        .arg(format!("^{BPF_LINKER}"))
        .args(["--locked", "--no-default-features", "--features"])
        .arg(format!("llvm-{}", rustc.llvm_major))
        .arg("--root")
        .arg(&stage)
        .arg("--target-dir")
        .arg(stage.join("target"))
        .env("LLVM_PREFIX", &llvm)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let outcome = system::output(&mut install)
        .context("run `cargo xtask setup` where the crate registry can be reached")
        .and_then(|_| {
            paths::make_dir(&bin)?;
            fs::rename(stage.join("bin/bpf-linker"), &linker)
                .with_context(|| format!("cannot write {}", linker.display()))
        });
    fs::remove_dir_all(&stage).ok();
    outcome?;
    if !works() {
        bail!(
            "{} does not start: remove {} and run `cargo xtask setup`",
            linker.display(),
            dir.display()
        );
    }
    Ok(bin)
}

/// Shows the compiler's libLLVM under the name that a linker flag looks for.
fn link_llvm(rustc: &Rustc, llvm: &Path) -> Result<()> {
    let from = rustc.sysroot.join("lib");
    let is_llvm = |name: &str| name.starts_with("libLLVM.so.") || name.starts_with("libLLVM-");
    // The larger of the two is the library; the other one is a linker script that names it.
    let library = fs::read_dir(&from)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let is_ours = is_llvm(entry.file_name().to_str()?);
            is_ours.then_some((entry.metadata().ok()?.len(), entry.path()))
        })
        .max();
    let (_, library) = library.with_context(|| format!("no libLLVM in {}", from.display()))?;
    let lib = llvm.join("lib");
    paths::make_dir(&lib)?;
    let own_name = library.file_name().unwrap_or_default();
    for name in [own_name, "libLLVM.so".as_ref()] {
        let temp = paths::temp_beside(&lib.join(name));
        symlink(&library, &temp)?;
        fs::rename(&temp, lib.join(name))?;
    }
    Ok(())
}

/// How the standard library of a target comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Std {
    /// rustup has it.
    Ready,
    /// Compiled with ours, from rust-src.
    FromSource,
}

/// What links for a target: a C compiler and a static C library; and Rust's standard library.
pub fn ensure_target(arch: Arch) -> Result<Std> {
    system::install(&cross_needs(arch))?;
    let rustc = Rustc::current()?;
    let std = rustc.rustlib().join(arch.triple()).join("lib");
    if std.exists() {
        return Ok(Std::Ready);
    }
    println!("installing Rust's standard library for {arch}");
    if rustup(&["target", "add", arch.triple()]).is_ok() && std.exists() {
        return Ok(Std::Ready);
    }
    println!("rustup has none; std is built from source");
    ensure_rust_src(&rustc)?;
    Ok(Std::FromSource)
}

/// The C compiler for a target.
pub fn c_compiler(arch: Arch) -> String {
    if arch == Arch::HOST {
        "cc".to_owned()
    } else {
        format!("{}-gcc", arch.gnu())
    }
}

/// The packages that bring a target's C compiler and static C library.
pub fn cross_needs(arch: Arch) -> Vec<Need> {
    let compiler = system::find(&c_compiler(arch)).is_some();
    if arch == Arch::HOST {
        let archive = format!("/usr/lib/{}/libc.a", arch.gnu());
        return vec![
            Need {
                package: "gcc",
                why: "links programs",
                present: compiler,
            },
            Need {
                package: "libc6-dev",
                why: "the C library for static programs",
                present: Path::new(&archive).exists(),
            },
        ];
    }
    let (gcc, libc) = match arch {
        Arch::X86_64 => ("gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"),
        Arch::Aarch64 => ("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"),
    };
    let archive = format!("/usr/{}/lib/libc.a", arch.gnu());
    vec![
        Need {
            package: gcc,
            why: "compiles and links for the other architecture",
            present: compiler,
        },
        Need {
            package: libc,
            why: "its C library for static programs",
            present: Path::new(&archive).exists(),
        },
    ]
}

/// Name and version of every tool, for `setup` to print.
pub fn versions() -> Result<Vec<(String, String)>> {
    let rustc = Rustc::current()?;
    let mut found = vec![("rustc".to_owned(), rustc.release.clone())];
    let src = if rustc.has_src() { "there" } else { "missing" };
    found.push(("rust-src".to_owned(), src.to_owned()));
    let linker = rustc.linker_dir()?.join("bin/bpf-linker");
    found.push(("bpf-linker".to_owned(), version_of(&linker)));
    for arch in Arch::ALL {
        let compiler = c_compiler(arch);
        let version = version_of(Path::new(&compiler));
        found.push((compiler, version));
    }
    if let Ok(suite) = apt::host_suite() {
        found.push(("Debian".to_owned(), suite));
    }
    Ok(found)
}

/// The first line of `--version`.
pub fn version_of(program: &Path) -> String {
    match system::output(Command::new(program).arg("--version")) {
        Ok(text) => text.lines().next().unwrap_or_default().to_owned(),
        Err(_) => "missing".to_owned(),
    }
}
