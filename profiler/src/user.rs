//! Who the command runs as, and who owns what vmascope writes: under sudo, the caller.

use std::{fs, io, os::unix::fs::lchown, path::Path};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// `--user NAME|UID`. Reads /etc/passwd itself: a static binary has no name service.
pub fn named(name: &str) -> Result<User, String> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    if let Some(user) = lookup(&passwd, name) {
        return Ok(user);
    }
    match name.parse() {
        Ok(uid) => Ok(User { uid, gid: uid }),
        Err(_) => Err(format!(
            "user `{name}` is not in /etc/passwd: give a name from there, or a uid"
        )),
    }
}

fn lookup(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (login, _, uid, gid) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        (login == name || uid == name).then(|| {
            Some(User {
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
            })
        })?
    })
}

/// Whoever called sudo.
pub fn caller() -> Option<User> {
    let id = |name| std::env::var(name).ok()?.parse().ok();
    Some(User {
        uid: id("SUDO_UID")?,
        gid: id("SUDO_GID")?,
    })
}

/// Hands a file to the caller of sudo, if there is one.
pub fn give(path: &Path) -> io::Result<()> {
    match caller() {
        Some(user) => lchown(path, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}

/// A file, or a folder with what is in it.
pub fn give_all(path: &Path) -> io::Result<()> {
    give(path)?;
    if path.is_dir() {
        for file in fs::read_dir(path)? {
            give(&file?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001::/srv/alice:/bin/sh\nbroken\n";
        assert_eq!(
            lookup(passwd, "alice"),
            Some(User {
                uid: 1000,
                gid: 1001
            })
        );
        assert_eq!(
            lookup(passwd, "1000"),
            Some(User {
                uid: 1000,
                gid: 1001
            })
        );
        assert_eq!(lookup(passwd, "bob"), None);
        assert_eq!(lookup(passwd, "broken"), None);
    }
}
