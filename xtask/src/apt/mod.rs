//! A private apt: packages of any Debian suite and architecture, beside the system's own apt.
//!
//! In: the mirrors named in the machine's apt configuration. Out: verified .deb files in the cache.
//! The system's lists, sources and packages are read but never changed. Every (suite,
//! architecture) has a folder of its own, so that processes hinder each other only on the same one.

mod index;
mod mirror;
mod resolve;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::arch::Arch;
use crate::{deb, paths, system};
pub use index::Package;
pub use resolve::{Installed, installed};

/// An index younger than this is used as it is, unless the mirror lacks what it names.
const FRESH: Duration = Duration::from_secs(12 * 3600);
const KEYRING: &str = "debian-archive-keyring";

type Indexes = HashMap<(String, Arch), Arc<Vec<Package>>>;

/// The private apt. Its methods take `&self` and may be called from several threads.
pub struct Apt {
    dir: PathBuf,
    mirrors: mirror::Mirrors,
    indexes: Mutex<Indexes>,
}

impl Apt {
    /// `cache` is the project's cache folder (`paths::cache()`).
    pub fn new(cache: &Path) -> Result<Self> {
        if system::find("apt-get").is_none() || system::find("dpkg-deb").is_none() {
            bail!("apt-get and dpkg-deb are needed: use a Debian machine or container");
        }
        let dir = cache.join("apt");
        paths::make_dir(&dir.join("debs"))?;
        Ok(Self {
            dir,
            mirrors: mirror::find()?,
            indexes: Mutex::default(),
        })
    }

    /// Gets an index anew, whatever its age.
    pub fn refresh(&self, suite: &str, arch: Arch) -> Result<()> {
        let place = self.place(suite, arch)?;
        let _lock = place.lock()?;
        self.download_index(&place)?;
        self.indexes().remove(&(suite.to_owned(), arch));
        Ok(())
    }

    /// All packages of the suites whose name is wanted, newest version first.
    pub fn all(
        &self,
        suites: &[&str],
        arch: Arch,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Package>> {
        let mut found = Vec::new();
        for suite in suites {
            let index = self.index(suite, arch)?;
            found.extend(index.iter().filter(|p| wanted(&p.name)).cloned());
        }
        found.sort_by(|a, b| deb::compare(&b.version, &a.version));
        Ok(found)
    }

    /// The newest package of the suites whose name is wanted.
    pub fn newest(
        &self,
        suites: &[&str],
        arch: Arch,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Option<Package>> {
        Ok(self.all(suites, arch, wanted)?.into_iter().next())
    }

    /// The packages that `roots` need, themselves included, without what `have` provides.
    pub fn closure(
        &self,
        roots: &[&str],
        suites: &[&str],
        arch: Arch,
        have: &Installed,
    ) -> Result<Vec<Package>> {
        let indexes: Vec<_> = suites
            .iter()
            .map(|suite| self.index(suite, arch))
            .collect::<Result<_>>()?;
        resolve::closure(roots, &indexes, have)
    }

    /// The package's .deb in the cache, checked by apt against the signed index. When the mirror
    /// no longer has it, the suite's newest package of that name takes its place.
    pub fn fetch(&self, package: &Package) -> Result<PathBuf> {
        let file = self.deb_file(package);
        if file.exists() {
            return Ok(file);
        }
        let Err(first) = self.download_deb(package, &file) else {
            return Ok(file);
        };
        self.refresh(&package.suite, package.arch)?;
        let newer = self
            .newest(&[&package.suite], package.arch, |name| name == package.name)?
            .with_context(|| format!("{} left suite {}", package.name, package.suite))?;
        let file = self.deb_file(&newer);
        if !file.exists() {
            self.download_deb(&newer, &file)
                .with_context(|| format!("twice; first: {first:#}"))?;
        }
        Ok(file)
    }

    fn deb_file(&self, package: &Package) -> PathBuf {
        let digest = package.sha256.get(..16).unwrap_or(&package.sha256);
        self.dir
            .join("debs")
            .join(format!("{}_{digest}.deb", package.name))
    }

    fn indexes(&self) -> std::sync::MutexGuard<'_, Indexes> {
        // A panic elsewhere leaves the map whole: entries are inserted complete.
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, suite: &str, arch: Arch) -> Result<Place> {
        let place = Place {
            dir: self.dir.join(format!("{suite}-{}", arch.debian())),
            suite: suite.to_owned(),
            arch,
        };
        for sub in ["lists/partial", "cache/archives/partial"] {
            paths::make_dir(&place.dir.join(sub))?;
        }
        Ok(place)
    }

    fn index(&self, suite: &str, arch: Arch) -> Result<Arc<Vec<Package>>> {
        let key = (suite.to_owned(), arch);
        if let Some(index) = self.indexes().get(&key) {
            return Ok(Arc::clone(index));
        }
        let place = self.place(suite, arch)?;
        let lock = place.lock()?;
        if !place.is_fresh()
            && let Err(error) = self.download_index(&place)
        {
            // What was fetched with an old index is still right; a missing package says so itself.
            if !place.index().exists() {
                return Err(error);
            }
            println!("apt: using an old index: {error:#}");
        }
        let index = Arc::new(index::read(&place.index(), suite, arch)?);
        drop(lock);
        self.indexes().insert(key, Arc::clone(&index));
        Ok(index)
    }

    fn download_index(&self, place: &Place) -> Result<()> {
        println!(
            "apt: reading the index of {} {}",
            place.suite,
            place.arch.debian()
        );
        let (mirror, what) = (self.mirrors.of(&place.suite), &place.suite);
        let failed = || format!("cannot read the index of {what} from {mirror}");
        let mut outcome = place.update(mirror, &self.keyring());
        // A suite newer than the machine may be signed with keys the machine does not know yet.
        let unknown_key = |e: &anyhow::Error| e.to_string().contains("NO_PUBKEY");
        if outcome.as_ref().is_err_and(unknown_key) && !place.suite.starts_with(&host_suite()?) {
            self.newer_keyring().with_context(failed)?;
            outcome = place.update(mirror, &self.keyring());
        }
        outcome.with_context(failed)?;
        index::slim(&place.packages_file()?, &place.index())
    }

    fn keyring(&self) -> Option<PathBuf> {
        let own = self.dir.join("keyring/usr/share/keyrings");
        let folders = [own, PathBuf::from("/usr/share/keyrings")];
        folders
            .iter()
            .flat_map(|dir| ["pgp", "gpg"].map(|ext| dir.join(format!("{KEYRING}.{ext}"))))
            .find(|path| path.exists())
    }

    /// Debian puts the next release's keys into the keyring package of the running one.
    fn newer_keyring(&self) -> Result<()> {
        let host = host_suite()?;
        let security = format!("{host}-security");
        let package = self
            .newest(&[&host, &security], Arch::HOST, |name| name == KEYRING)?
            .with_context(|| format!("no {KEYRING} in {host}"))?;
        let dir = self.dir.join("keyring");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        deb::unpack(&self.fetch(&package)?, &dir)
    }

    fn download_deb(&self, package: &Package, file: &Path) -> Result<()> {
        let place = self.place(&package.suite, package.arch)?;
        let _lock = place.lock()?;
        if file.exists() {
            return Ok(());
        }
        println!("apt: fetching {} {}", package.name, package.version);
        let temp = paths::temp_beside(file);
        paths::make_dir(&temp)?;
        let mut download = place.apt_get();
        download
            .current_dir(&temp)
            .args(["-q", "download"])
            .arg(format!("{}={}", package.name, package.version));
        let outcome = system::output(&mut download)
            .with_context(|| format!("cannot fetch {} of {}", package.name, package.suite))
            .and_then(|_| {
                let fetched = only_file(&temp)?;
                fs::rename(&fetched, file)
                    .with_context(|| format!("cannot move to {}", file.display()))
            });
        fs::remove_dir_all(&temp).ok();
        outcome
    }
}

fn only_file(dir: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(dir)?;
    let first = entries.next().context("apt-get download left no file")??;
    Ok(first.path())
}

/// The code name of the machine's own release, such as `bookworm`.
pub fn host_suite() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned());
    // Debian testing and unstable images may have no code name; sid's index is right for them.
    Ok(name.unwrap_or_else(|| "sid".to_owned()))
}

/// The folder of one suite and architecture.
struct Place {
    dir: PathBuf,
    suite: String,
    arch: Arch,
}

impl Place {
    fn index(&self) -> PathBuf {
        self.dir.join("index")
    }

    fn is_fresh(&self) -> bool {
        let modified = self.index().metadata().and_then(|meta| meta.modified());
        modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age < FRESH))
    }

    /// Keeps other processes out until dropped.
    fn lock(&self) -> Result<File> {
        let path = self.dir.join("lock");
        let file =
            File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command
            .env("LC_ALL", "C")
            .arg("-c")
            .arg(self.dir.join("apt.conf"));
        command
    }

    fn update(&self, mirror: &str, keyring: &Option<PathBuf>) -> Result<()> {
        let dir = self.dir.display();
        let arch = self.arch.debian();
        let conf = format!(
            "#clear APT::Update;\n#clear APT::Architectures;\n\
             APT::Architecture \"{arch}\";\nAPT::Architectures {{ \"{arch}\"; }};\n\
             APT::Sandbox::User \"root\";\nAPT::Update::Error-Mode \"any\";\n\
             Dir::State \"{dir}\";\nDir::State::lists \"{dir}/lists\";\n\
             Dir::State::status \"{dir}/status\";\nDir::Cache \"{dir}/cache\";\n\
             Dir::Etc::sourcelist \"{dir}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
             Dir::Etc::preferences \"-\";\nDir::Etc::preferencesparts \"-\";\n\
             Acquire::Languages \"none\";\nAcquire::GzipIndexes \"false\";\n\
             Acquire::Retries \"3\";\n"
        );
        let signed = keyring
            .as_ref()
            .map(|path| format!(" signed-by={}", path.display()))
            .unwrap_or_default();
        let source = format!(
            "deb [arch={arch} target=Packages{signed}] {mirror} {} main\n",
            self.suite
        );
        for (name, text) in [
            ("apt.conf", conf.as_str()),
            ("sources.list", source.as_str()),
            ("status", ""),
        ] {
            let path = self.dir.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        system::output_or_all_errors(self.apt_get().args(["-q", "update"])).map(drop)
    }

    fn packages_file(&self) -> Result<PathBuf> {
        let lists = self.dir.join("lists");
        for entry in fs::read_dir(&lists)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with("_Packages") {
                return Ok(path);
            }
        }
        bail!("apt-get update left no package list for {}", self.suite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deb_files_of_two_versions_differ() {
        let apt = Apt {
            dir: PathBuf::from("cache"),
            mirrors: mirror::Mirrors::default(),
            indexes: Mutex::default(),
        };
        let mut package = index::tests::package("a", "1", "");
        package.sha256 = "0123456789abcdef0".into();
        let one = apt.deb_file(&package);
        package.sha256 = "f123456789abcdef0".into();
        assert_ne!(one, apt.deb_file(&package));
        assert_eq!(one, PathBuf::from("cache/debs/a_0123456789abcdef.deb"));
    }

    #[test]
    #[ignore = "reads many indexes from the mirror: run by hand when a suite is released"]
    fn every_suite_of_the_lab_can_be_read() {
        let apt = Apt::new(&paths::cache().unwrap()).unwrap();
        for arch in Arch::ALL {
            for suite in [
                "bookworm",
                "bookworm-security",
                "bookworm-backports",
                "trixie",
                "trixie-security",
                "trixie-backports",
                "forky",
                "sid",
            ] {
                let kernel = |name: &str| name.starts_with("linux-image-");
                assert!(apt.newest(&[suite], arch, kernel).unwrap().is_some());
            }
        }
        let suites = ["bookworm", "bookworm-security", "bookworm-backports"];
        let have = installed().unwrap();
        let qemu = apt
            .closure(&["qemu-system-x86"], &suites, Arch::X86_64, &have)
            .unwrap();
        assert_eq!(qemu[0].name, "qemu-system-x86");
        for package in &qemu {
            println!("{} {} {}", package.name, package.version, package.suite);
        }
        let udeb = apt.newest(&["sid"], Arch::Aarch64, |name| name == "busybox-static");
        assert!(apt.fetch(&udeb.unwrap().unwrap()).unwrap().exists());
    }
}
