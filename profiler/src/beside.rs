//! A place for what is being made, beside the one it is for: on the same file system, so that it can be
//! moved there when it is whole. In: that path. Out: a hidden name that nobody has.

use std::{
    ffi::OsString,
    io::{Error, ErrorKind, Result},
    path::{Path, PathBuf},
};

/// Made by `make`, which must fail with `AlreadyExists` where something is. Names that are taken are left
/// alone: who knows whose they are.
pub fn make<T>(of: &Path, make: impl Fn(&Path) -> Result<T>) -> Result<(PathBuf, T)> {
    let pid = std::process::id();
    // In a container each run may have the same pid, and one that was killed leaves its own behind.
    for n in 0..1000 {
        let mut name = OsString::from(".");
        name.push(of.file_name().unwrap_or_default());
        name.push(format!(".{pid}-{n}.new"));
        let path = of.with_file_name(name);
        match make(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            made => return made.map(|made| (path, made)),
        }
    }
    Err(Error::new(
        ErrorKind::AlreadyExists,
        "a thousand hidden files named .new are beside it: delete them",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_there_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("vmascope-beside-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let of = dir.join("a.db");
        let (first, ()) = make(&of, |path| fs::create_dir(path)).unwrap();
        let (second, file) = make(&of, |path| fs::File::create_new(path)).unwrap();
        assert_ne!(first, second);
        assert!(first.is_dir() && file.metadata().unwrap().is_file());
        let name = second.file_name().unwrap().to_string_lossy();
        assert!(name.starts_with(".a.db."), "{name}");
        let missing = make(&dir.join("no/a.db"), |path| fs::create_dir(path));
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
        fs::remove_dir_all(dir).unwrap();
    }
}
