//! Debian's kernels: the newest of a series, or of one that stands for it.
//!
//! In: a series such as `6.12`, an architecture, a flavour; the package indexes. Out: an image and
//! its modules in the cache.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::apt::{Apt, Package};
use crate::arch::Arch;
use crate::{deb, paths};

/// The series of the test matrix: one for each design of the per-VMA lock.
pub const MATRIX: [&str; 4] = ["6.1", "6.12", "6.18", "7.3"];

/// Series that share a lock design may stand for one another; nearest first is chosen. The names
/// are those that `vmascope` gives the designs.
const DESIGNS: [(&str, &[&str]); 4] = [
    ("none", &["6.1"]),
    (
        "rwsem",
        &[
            "6.4", "6.5", "6.6", "6.7", "6.8", "6.9", "6.10", "6.11", "6.12", "6.13", "6.14",
        ],
    ),
    ("refcount", &["6.16", "6.17", "6.18", "6.19"]),
    // Refactored: the same fields, other functions.
    ("refcount", &["7.0", "7.1", "7.2", "7.3"]),
];

/// `none`, `rwsem` or `refcount`; a series that is not known is taken for a newer one.
pub fn vma_lock(series: &str) -> &'static str {
    let design = DESIGNS.iter().find(|(_, all)| all.contains(&series));
    design.map_or("refcount", |(name, _)| name)
}

const SUITES: [&str; 8] = [
    "bookworm",
    "bookworm-security",
    "bookworm-backports",
    "trixie",
    "trixie-security",
    "trixie-backports",
    "forky",
    "sid",
];

/// Smaller packages only name others.
const SMALLEST: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Flavour {
    /// Drivers for virtual machines only: small, and NVMe and ext4 are built in.
    Cloud,
    /// Debian's default kernel.
    Std,
    /// arm64 with pages of 16 KiB.
    #[value(name = "16k")]
    Pages16k,
    /// PREEMPT_RT.
    Rt,
}

impl Flavour {
    /// How the package's name ends.
    fn suffix(self, arch: Arch) -> String {
        let arch = arch.debian();
        match self {
            Self::Cloud => format!("-cloud-{arch}"),
            Self::Std => format!("-{arch}"),
            Self::Pages16k => format!("-{arch}-16k"),
            Self::Rt => format!("-rt-{arch}"),
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cloud => "cloud",
            Self::Std => "std",
            Self::Pages16k => "16k",
            Self::Rt => "rt",
        })
    }
}

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The series asked for; the one it is may be another of the same design.
    pub wanted: String,
    pub series: String,
    /// Package and version, or the file, for people.
    pub label: String,
    pub image: PathBuf,
    /// The folder that holds `kernel/`, where there are modules.
    pub modules: Option<PathBuf>,
    pub arch: Arch,
}

impl Kernel {
    /// A kernel of the user's own.
    pub fn from_file(image: &Path, modules: Option<&Path>, arch: Arch) -> Result<Self> {
        if !image.is_file() {
            bail!("no kernel image at {}", image.display());
        }
        Ok(Self {
            wanted: String::new(),
            series: String::new(),
            label: image.display().to_string(),
            image: image.to_path_buf(),
            modules: modules.map(Path::to_path_buf),
            arch,
        })
    }

    /// Finds, fetches and unpacks the newest kernel of a series or of its substitute.
    pub fn ensure(apt: &Apt, series: &str, arch: Arch, flavour: Flavour) -> Result<Self> {
        let packages = candidates(apt, arch)?;
        let Some(choice) = choose(&packages, series, arch, flavour) else {
            bail!(
                "Debian has no {flavour} kernel of series {series} for {arch}, nor one of the same lock design: see `apt-cache search linux-image`, or give --kernel-image"
            );
        };
        let abi = abi(&choice.image.name).unwrap_or_default();
        let label = format!("{} {}", choice.image.name, choice.image.version);
        let place = paths::cache()?.join("kernels");
        let version = choice.image.version.replace([':', '~', '+'], "-");
        let dir = place.join(format!("{abi}_{version}"));
        if !dir.exists() {
            let temp = paths::temp_beside(&dir);
            paths::make_dir(&temp)?;
            for package in [Some(choice.image), choice.modules].into_iter().flatten() {
                deb::unpack_over(&apt.fetch(package)?, &temp)?;
            }
            // Another process may have been faster: its copy is as good.
            if let Err(error) = fs::rename(&temp, &dir) {
                fs::remove_dir_all(&temp).ok();
                if !dir.exists() {
                    return Err(error).with_context(|| format!("cannot make {}", dir.display()));
                }
            }
        }
        let modules = ["usr/lib/modules", "lib/modules"]
            .map(|sub| dir.join(sub).join(abi))
            .into_iter()
            .find(|path| path.join("kernel").is_dir());
        let image = [
            dir.join(format!("boot/vmlinuz-{abi}")),
            dir.join(format!("usr/lib/modules/{abi}/vmlinuz")),
        ]
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("{label} holds no vmlinuz: remove {}", dir.display()))?;
        Ok(Self {
            wanted: series.to_owned(),
            series: choice.series.to_owned(),
            label,
            image,
            modules,
            arch,
        })
    }

    pub fn vma_lock(&self) -> &'static str {
        vma_lock(&self.series)
    }

    pub fn is_rt(&self) -> bool {
        self.label.contains(&Flavour::Rt.suffix(self.arch))
    }

    pub fn is_substitute(&self) -> bool {
        self.wanted != self.series
    }
}

fn candidates(apt: &Apt, arch: Arch) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    let mut first_error = None;
    for suite in SUITES {
        // A mirror need not carry every suite.
        match apt.all(&[suite], arch, |name| abi(name).is_some()) {
            Ok(found) => packages.extend(found),
            Err(error) => {
                eprintln!("no kernels from {suite}: {error:#}");
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        Some(error) if packages.is_empty() => Err(error),
        _ => Ok(packages),
    }
}

/// The kernel release that a package's name carries: `6.12.117+deb13-cloud-amd64`.
fn abi(name: &str) -> Option<&str> {
    let rest = ["linux-image-", "linux-binary-", "linux-modules-"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    rest.starts_with(|c: char| c.is_ascii_digit())
        .then_some(rest)
}

/// `6.12` of `6.12.117+deb13-cloud-amd64`.
fn series(abi: &str) -> Option<&str> {
    let mut dots = abi.match_indices('.').map(|(at, _)| at);
    dots.next()?;
    abi.get(..dots.next()?)
}

fn has_flavour(abi: &str, arch: Arch, flavour: Flavour) -> bool {
    let Some(version) = abi.strip_suffix(&flavour.suffix(arch)) else {
        return false;
    };
    // What is left of `6.12.117+deb13-rt-amd64` without `-amd64` names another flavour.
    !["-rt", "-cloud"]
        .iter()
        .any(|other| version.ends_with(other))
}

struct Choice<'a> {
    series: &'a str,
    image: &'a Package,
    modules: Option<&'a Package>,
}

fn choose<'a>(
    packages: &'a [Package],
    wanted: &'a str,
    arch: Arch,
    flavour: Flavour,
) -> Option<Choice<'a>> {
    substitutes(wanted)
        .into_iter()
        .filter_map(|series| newest(packages, series, arch, flavour))
        // The exact series is good without modules; a substitute should have them.
        .min_by_key(|choice| choice.series != wanted && !has_modules(choice))
}

fn has_modules(choice: &Choice<'_>) -> bool {
    choice.modules.is_some() || choice.image.name.starts_with("linux-image-")
}

/// The series itself, then those of its design from near to far.
fn substitutes(wanted: &str) -> Vec<&str> {
    let mut all = vec![wanted];
    if let Some((_, design)) = DESIGNS.iter().find(|(_, all)| all.contains(&wanted)) {
        let place = |s: &str| design.iter().position(|other| *other == s).unwrap_or(0);
        let own = place(wanted);
        let mut others: Vec<&str> = design.iter().copied().filter(|s| *s != wanted).collect();
        others.sort_by_key(|s| place(s).abs_diff(own));
        all.extend(others);
    }
    all
}

fn newest<'a>(
    packages: &'a [Package],
    wanted: &'a str,
    arch: Arch,
    flavour: Flavour,
) -> Option<Choice<'a>> {
    let image = packages
        .iter()
        .filter(|p| p.size >= SMALLEST && !p.name.starts_with("linux-modules-"))
        .filter(|p| {
            abi(&p.name)
                .is_some_and(|abi| series(abi) == Some(wanted) && has_flavour(abi, arch, flavour))
        })
        .max_by(|a, b| deb::compare(&a.version, &b.version))?;
    let modules = packages.iter().find(|p| {
        p.name.starts_with("linux-modules-")
            && abi(&p.name) == abi(&image.name)
            && p.version == image.version
    });
    Some(Choice {
        series: wanted,
        image,
        modules,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, size: u64) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            suite: "sid".into(),
            arch: Arch::X86_64,
            filename: String::new(),
            sha256: String::new(),
            size,
            depends: String::new(),
            provides: String::new(),
        }
    }

    fn index() -> Vec<Package> {
        const BIG: u64 = 30 << 20;
        vec![
            package("linux-image-6.1.0-9-cloud-amd64", "6.1.27-1", BIG),
            package("linux-image-6.1.0-56-cloud-amd64", "6.1.192-2", BIG),
            package("linux-image-6.1.0-56-amd64", "6.1.192-2", BIG),
            package("linux-image-6.12-cloud-amd64", "6.12.117-1", 1500),
            package("linux-image-6.12.99+deb13-cloud-amd64", "6.12.99-1", BIG),
            package(
                "linux-image-6.12.117+deb12-cloud-amd64",
                "6.12.117-1~deb12u1",
                BIG,
            ),
            package("linux-image-6.12.117+deb13-cloud-amd64", "6.12.117-1", BIG),
            package("linux-image-6.12.117+deb13-rt-amd64", "6.12.117-1", BIG),
            package("linux-image-6.12.117+deb13-amd64", "6.12.117-1", BIG),
            package(
                "linux-image-6.12.117+deb13-amd64-unsigned",
                "6.12.118-1",
                BIG,
            ),
            package("linux-image-6.12.117+deb13-amd64-dbg", "6.12.118-1", BIG),
            package("linux-image-6.16.12+deb13-cloud-amd64", "6.16.12-1", BIG),
            package("linux-image-7.2.13+deb14-cloud-amd64", "7.2.13-1", 1900),
            package("linux-binary-7.2.13+deb14-cloud-amd64", "7.2.13-1", BIG),
            package("linux-modules-7.2.13+deb14-cloud-amd64", "7.2.13-1", BIG),
            package("linux-binary-7.0.13+deb13-cloud-amd64", "7.0.13-1", BIG),
            package("linux-binary-6.19.14+deb13-cloud-amd64", "6.19.14-1", BIG),
        ]
    }

    fn chosen(wanted: &str, flavour: Flavour) -> Option<(String, String, bool)> {
        let packages = index();
        choose(&packages, wanted, Arch::X86_64, flavour).map(|choice| {
            let name = choice.image.name.clone();
            (choice.series.to_owned(), name, choice.modules.is_some())
        })
    }

    #[test]
    fn the_newest_of_the_series_and_flavour() {
        let cloud = |series: &str| chosen(series, Flavour::Cloud).unwrap().1;
        assert_eq!(cloud("6.1"), "linux-image-6.1.0-56-cloud-amd64");
        assert_eq!(cloud("6.12"), "linux-image-6.12.117+deb13-cloud-amd64");
        let std = chosen("6.12", Flavour::Std).unwrap().1;
        assert_eq!(std, "linux-image-6.12.117+deb13-amd64");
        let rt = chosen("6.12", Flavour::Rt).unwrap().1;
        assert_eq!(rt, "linux-image-6.12.117+deb13-rt-amd64");
        assert_eq!(chosen("6.12", Flavour::Pages16k), None);
    }

    #[test]
    fn split_packages_come_with_their_modules() {
        let (series, name, modules) = chosen("7.2", Flavour::Cloud).unwrap();
        assert_eq!(series, "7.2");
        assert_eq!(name, "linux-binary-7.2.13+deb14-cloud-amd64");
        assert!(modules);
    }

    #[test]
    fn a_missing_series_is_replaced_within_its_design() {
        let series = |wanted: &str| chosen(wanted, Flavour::Cloud).map(|c| c.0);
        assert_eq!(series("7.3").as_deref(), Some("7.2"));
        // 6.19 is nearer, but has no modules.
        assert_eq!(series("6.18").as_deref(), Some("6.16"));
        // There, but without modules: still what was asked for.
        assert_eq!(series("6.19").as_deref(), Some("6.19"));
        assert_eq!(series("6.6").as_deref(), Some("6.12"));
        assert_eq!(series("5.10"), None);
        assert_eq!(chosen("6.1", Flavour::Rt), None);
    }

    #[test]
    fn designs_have_the_names_of_the_profiler() {
        assert_eq!(vma_lock("6.1"), "none");
        assert_eq!(vma_lock("6.12"), "rwsem");
        assert_eq!(vma_lock("6.18"), "refcount");
        assert_eq!(vma_lock("7.9"), "refcount");
    }

    #[test]
    fn arm_pages_are_a_flavour_of_their_own() {
        let abi = "7.3.4+deb13-arm64-16k";
        assert!(has_flavour(abi, Arch::Aarch64, Flavour::Pages16k));
        assert!(!has_flavour(abi, Arch::Aarch64, Flavour::Std));
        let rt = "7.3.4+deb13-rt-arm64-16k";
        assert!(!has_flavour(rt, Arch::Aarch64, Flavour::Pages16k));
    }
}
