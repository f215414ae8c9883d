//! What packages need: dependencies followed to their end, for unpacking into a private folder.
//!
//! In: indexes and what the machine has installed. Out: the packages to unpack. Conflicts are of
//! no concern, since nothing is configured.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use super::index::Package;
use crate::{deb, system};

/// Names and versions of packages that are there already, provided names included.
#[derive(Clone, Debug, Default)]
pub struct Installed(HashMap<String, String>);

/// What dpkg has installed on this machine for its own architecture.
pub fn installed() -> Result<Installed> {
    let format = "-f=${db:Status-Abbrev}\t${Package}\t${Version}\t${Provides}\n";
    let text = system::output(Command::new("dpkg-query").args(["-W", format]))?;
    let mut found = HashMap::new();
    for line in text.lines().filter(|line| line.starts_with("ii")) {
        let mut columns = line.split('\t').skip(1);
        let (Some(name), Some(version)) = (columns.next(), columns.next()) else {
            continue;
        };
        found.insert(name.to_owned(), version.to_owned());
        for provided in wants(columns.next().unwrap_or_default())
            .into_iter()
            .flatten()
        {
            let version = provided.bound.map_or("", |(_, version)| version);
            found
                .entry(provided.name.to_owned())
                .or_insert_with(|| version.to_owned());
        }
    }
    Ok(Installed(found))
}

/// One alternative of a dependency: a name and perhaps a bound on its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Want<'a> {
    name: &'a str,
    bound: Option<(&'a str, &'a str)>,
}

impl Want<'_> {
    fn is_met_by(&self, version: &str) -> bool {
        let Some((relation, bound)) = self.bound else {
            return true;
        };
        let order = deb::compare(version, bound);
        match relation {
            "<<" => order == Ordering::Less,
            "<=" => order != Ordering::Greater,
            "=" => order == Ordering::Equal,
            ">=" => order != Ordering::Less,
            ">>" => order == Ordering::Greater,
            _ => false,
        }
    }
}

/// Reads `a (>= 1) | b:any, c`.
fn wants(depends: &str) -> Vec<Vec<Want<'_>>> {
    depends
        .split(',')
        .map(|group| group.split('|').filter_map(want).collect::<Vec<_>>())
        .filter(|group| !group.is_empty())
        .collect()
}

fn want(text: &str) -> Option<Want<'_>> {
    let (name, bound) = match text.split_once('(') {
        Some((name, bound)) => {
            let bound = bound.trim_end().trim_end_matches(')');
            let end = bound.find(|c| !matches!(c, '<' | '=' | '>'))?;
            let (relation, version) = bound.split_at(end);
            (name, Some((relation, version.trim())))
        }
        None => (text, None),
    };
    let name = name.trim();
    let name = name.split(':').next().unwrap_or(name);
    (!name.is_empty()).then_some(Want { name, bound })
}

struct Catalogue<'a> {
    by_name: HashMap<&'a str, Vec<&'a Package>>,
    providers: HashMap<&'a str, Vec<&'a Package>>,
}

impl<'a> Catalogue<'a> {
    fn new(indexes: &'a [Arc<Vec<Package>>]) -> Self {
        let mut by_name: HashMap<&str, Vec<&Package>> = HashMap::new();
        let mut providers: HashMap<&str, Vec<&Package>> = HashMap::new();
        for package in indexes.iter().flat_map(|index| index.iter()) {
            by_name.entry(&package.name).or_default().push(package);
            for provided in wants(&package.provides).into_iter().flatten() {
                providers.entry(provided.name).or_default().push(package);
            }
        }
        Self { by_name, providers }
    }

    /// The newest package that meets the want, by its own name before by a provided one.
    fn find(&self, want: &Want<'_>) -> Option<&'a Package> {
        let newest = |a: &&&Package, b: &&&Package| deb::compare(&a.version, &b.version);
        let real = self.by_name.get(want.name).into_iter().flatten();
        real.filter(|package| want.is_met_by(&package.version))
            .max_by(newest)
            .or_else(|| {
                let provides = |package: &Package| {
                    wants(&package.provides).into_iter().flatten().any(|p| {
                        let version = p.bound.map(|(_, version)| version);
                        p.name == want.name
                            && (want.bound.is_none() || version.is_some_and(|v| want.is_met_by(v)))
                    })
                };
                let all = self.providers.get(want.name).into_iter().flatten();
                all.filter(|package| provides(package)).max_by(newest)
            })
            .copied()
    }
}

/// Follows dependencies from `roots`; see `Apt::closure`.
pub fn closure(
    roots: &[&str],
    indexes: &[Arc<Vec<Package>>],
    have: &Installed,
) -> Result<Vec<Package>> {
    let catalogue = Catalogue::new(indexes);
    let is_there = |want: &Want<'_>| {
        let version = have.0.get(want.name);
        version.is_some_and(|version| want.is_met_by(version))
    };
    let mut chosen: Vec<&Package> = Vec::new();
    let mut names = HashSet::new();
    for root in roots {
        let want = Want {
            name: root,
            bound: None,
        };
        let package = catalogue.find(&want);
        let package = package.with_context(|| format!("no package {root} in these suites"))?;
        if names.insert(package.name.as_str()) {
            chosen.push(package);
        }
    }
    let mut next = 0;
    while let Some(package) = chosen.get(next).copied() {
        next += 1;
        for group in wants(&package.depends) {
            if group.iter().any(|w| is_there(w) || names.contains(w.name)) {
                continue;
            }
            let Some(found) = group.iter().find_map(|want| catalogue.find(want)) else {
                bail!(
                    "{} needs {}, which no suite has",
                    package.name,
                    group[0].name
                );
            };
            if names.insert(found.name.as_str()) {
                chosen.push(found);
            }
        }
    }
    Ok(chosen.into_iter().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::super::index::tests::package;
    use super::*;

    fn names(packages: &[Package]) -> Vec<(&str, &str)> {
        let pair = |p| -> (&str, &str) {
            let p: &Package = p;
            (&p.name, &p.version)
        };
        packages.iter().map(pair).collect()
    }

    #[test]
    fn reads_dependencies() {
        let groups = wants("a (>= 1.2~), b:any | c (<< 3), d");
        assert_eq!(groups.len(), 3);
        assert_eq!(groups[0][0].bound, Some((">=", "1.2~")));
        assert_eq!(groups[1][0].name, "b");
        assert_eq!(groups[1][1].bound, Some(("<<", "3")));
    }

    #[test]
    fn follows_to_the_end_and_stops_at_the_machine() {
        let mut provider = package("p", "1", "");
        provider.provides = "virtual".into();
        let old = vec![package("lib", "1", ""), provider];
        let new = vec![
            package("qemu", "10", "lib (>= 2), libc6 (>= 2.30), virtual, loop"),
            package("lib", "2", ""),
            package("lib", "3", ""),
            package("loop", "1", "qemu"),
        ];
        let have = Installed(HashMap::from([("libc6".into(), "2.36".into())]));
        let found = closure(&["qemu"], &[Arc::new(old), Arc::new(new)], &have).unwrap();
        assert_eq!(
            names(&found),
            [("qemu", "10"), ("lib", "3"), ("p", "1"), ("loop", "1")]
        );
    }

    #[test]
    fn a_bound_that_nothing_meets_is_an_error() {
        let index = Arc::new(vec![package("a", "1", "b (>= 2)"), package("b", "1", "")]);
        let error = closure(&["a"], &[index], &Installed::default()).unwrap_err();
        assert_eq!(error.to_string(), "a needs b, which no suite has");
    }

    #[test]
    fn an_installed_package_that_is_too_old_is_not_enough() {
        let index = Arc::new(vec![package("a", "1", "b (>= 2)"), package("b", "2", "")]);
        let have = Installed(HashMap::from([("b".into(), "1".into())]));
        let found = closure(&["a"], &[index], &have).unwrap();
        assert_eq!(names(&found), [("a", "1"), ("b", "2")]);
    }
}
