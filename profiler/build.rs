//! Builds profiler-ebpf for the kernel; the program embeds it from `OUT_DIR/vmascope-ebpf`.
//!
//! In: the sources of profiler-ebpf and profiler-common, bpf-linker, rust-src. Out: the object, for
//! the architecture of the user side. It is cargo within cargo, in a target folder of its own,
//! because artifact dependencies are not stable (rust-lang/cargo#9096).

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

const OBJECT: &str = "vmascope-ebpf";
const TARGET: &str = "bpfel-unknown-none";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let profiler = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = profiler.parent().context("no workspace")?;
    for source in [
        "Cargo.toml",
        "Cargo.lock",
        "profiler-common/Cargo.toml",
        "profiler-common/src",
        "profiler-ebpf/Cargo.toml",
        "profiler-ebpf/src",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    println!("cargo::rerun-if-env-changed=XDG_CACHE_HOME");

    let rustc = variable("RUSTC")?;
    check_rust_src(&rustc)?;
    let linker = linker_dir(&rustc)?;
    println!(
        "cargo::rerun-if-changed={}",
        linker.join("bpf-linker").display()
    );
    let old_path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([linker].into_iter().chain(env::split_paths(&old_path)))?;

    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let arch = arch.to_str().context("CARGO_CFG_TARGET_ARCH")?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target_dir = target_dir(&out).join(format!("ebpf-{arch}"));
    let flags = [
        // Which pt_regs aya-ebpf reads arguments from.
        &format!("--cfg=bpf_target_arch=\"{arch}\""),
        "--check-cfg=cfg(bpf_target_arch,values(\"x86_64\",\"aarch64\"))",
        // The verifier quotes source lines: of the project, wherever it was built.
        &format!("--remap-path-prefix={}/=", root.display()),
        // The object's BTF is made from the debug information.
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        // 32-bit arithmetic and all the jumps: Linux 5.1.
        "-Ctarget-cpu=v3",
    ];
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(root)
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "profiler-ebpf",
        ])
        .args(["--bin", OBJECT, "--target", TARGET, "-Zbuild-std=core"])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("PATH", path)
        // The pinned compiler is a stable one; build-std is the only unstable thing asked of it.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // Under `cargo clippy` these would lint the object instead of building it.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER");
    let done = cargo.output().context("cannot start cargo")?;
    let messages = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        eprintln!("{messages}");
        bail!("profiler-ebpf does not build for the kernel: see above");
    }
    for line in messages.lines().filter(|line| !line.is_empty()) {
        println!("cargo::warning={line}");
    }
    let built = target_dir.join(TARGET).join("release").join(OBJECT);
    strip(&rustc, &built, &out.join(OBJECT))
}

/// Without its debug information, from which its BTF is made: that is four fifths of the object, in
/// every program that embeds it, and read at every start.
fn strip(rustc: &OsString, from: &Path, to: &Path) -> Result<()> {
    let root = PathBuf::from(rustc_says(rustc, &["--print", "sysroot"])?.trim());
    let host = root.join("lib/rustlib").join(variable("HOST")?);
    let objcopy = host.join("bin/rust-objcopy");
    if !objcopy.exists() {
        // A compiler that was packaged without it: the object works as well, and is larger.
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
        return Ok(());
    }
    let done = Command::new(&objcopy)
        .env("LD_LIBRARY_PATH", root.join("lib"))
        .arg("--strip-debug")
        .args([from, to])
        .output()
        .with_context(|| format!("cannot start {}", objcopy.display()))?;
    if !done.status.success() {
        let why = String::from_utf8_lossy(&done.stderr);
        bail!("cannot strip {}: {}", from.display(), why.trim());
    }
    Ok(())
}

fn variable(name: &str) -> Result<OsString> {
    env::var_os(name).with_context(|| format!("{name} is not set: build with cargo"))
}

/// The outermost folder that cargo marked as its own, so that debug and release builds, tests and
/// lints share one kernel object; `core` alone takes longer than all of ours.
fn target_dir(out: &Path) -> PathBuf {
    let is_cargos = |dir: &&Path| dir.join("CACHEDIR.TAG").exists();
    let found = out.ancestors().filter(is_cargos).last();
    found.unwrap_or(out).to_path_buf()
}

fn rustc_says(rustc: &OsString, question: &[&str]) -> Result<String> {
    let done = Command::new(rustc).args(question).output();
    let done = done.context("cannot start rustc")?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn check_rust_src(rustc: &OsString) -> Result<()> {
    let sysroot = rustc_says(rustc, &["--print", "sysroot"])?;
    let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    if !core.exists() {
        bail!("rust-src is missing: run `cargo xtask setup`");
    }
    Ok(())
}

/// The linker that `cargo xtask setup` built for this very compiler, else one on PATH.
fn linker_dir(rustc: &OsString) -> Result<PathBuf> {
    let version = rustc_says(rustc, &["-vV"])?;
    let release = version.lines().find_map(|l| l.strip_prefix("release: "));
    let suffix = format!("-rust-{}", release.context("rustc -vV names no release")?);
    let ours = |dir: &Path| {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("bpf-linker-") && name.ends_with(&suffix)
    };
    let folder = |name| env::var_os(name).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME")
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(folder("HOME")?.join(".cache")));
    let tools = cache.map(|dir| dir.join("vmascope/tools"));
    let built = tools
        .and_then(|tools| fs::read_dir(tools).ok())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|dir| ours(dir))
        .map(|dir| dir.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    built
        .chain(env::split_paths(&path))
        .find(|dir| dir.join("bpf-linker").exists())
        .context("bpf-linker is missing: run `cargo xtask setup`")
}
