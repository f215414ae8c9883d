//! Who the command runs as, and who owns what vmascope writes: under sudo, the caller. In: a name, sudo's
//! variables, /etc/passwd and /etc/group, which are read here since a static binary has no name service.
//! Out: ids, and what a login gives beside them.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::lchown,
    path::Path,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// A user, and what a login would set for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub user: User,
    /// The user's own, then those that name them as a member.
    pub groups: Vec<u32>,
    /// `None`: nobody of that uid is known by name, as on Android.
    pub account: Option<Account>,
}

/// What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub home: String,
    pub shell: String,
}

/// Of /etc/passwd and /etc/group, as much as is read.
const FILE_MAX: u64 = 16 << 20;
/// The kernel's NGROUPS_MAX.
const GROUPS_MAX: usize = 65_536;

/// `--user NAME|UID`.
pub fn named(name: &str) -> Result<Login, String> {
    let passwd = text("/etc/passwd");
    let known = lookup(&passwd, |login, uid| login == name || uid == name);
    match (known, name.parse()) {
        (Some((user, account)), _) => Ok(Login::new(user, Some(account))),
        (None, Ok(uid)) => Ok(Login::new(User { uid, gid: uid }, None)),
        (None, Err(_)) => Err(format!(
            "user `{name}` is not in /etc/passwd: give a name from there, or a uid"
        )),
    }
}

/// Whoever called sudo.
pub fn caller() -> Option<User> {
    let id = |name| std::env::var(name).ok()?.parse().ok();
    Some(User {
        uid: id("SUDO_UID")?,
        gid: id("SUDO_GID")?,
    })
}

pub fn caller_s_login() -> Option<Login> {
    let user = caller()?;
    let passwd = text("/etc/passwd");
    let known = lookup(&passwd, |_, uid| uid == user.uid.to_string());
    Some(Login::new(
        user,
        known.map(|(_, account)| account).or_else(sudo_s_word),
    ))
}

/// Of somebody whom a directory server knows: what sudo says of them.
fn sudo_s_word() -> Option<Account> {
    Some(Account {
        name: std::env::var("SUDO_USER").ok()?,
        home: std::env::var("SUDO_HOME").unwrap_or_default(),
        shell: String::new(),
    })
}

impl Login {
    fn new(user: User, account: Option<Account>) -> Self {
        let name = account.as_ref().map(|account| account.name.as_str());
        Self {
            groups: groups(&text("/etc/group"), name, user.gid),
            user,
            account,
        }
    }

    /// Somebody else than we are.
    pub fn is_another(&self) -> bool {
        // SAFETY: no arguments.
        self.user.uid != unsafe { libc::geteuid() }
    }

    /// What the command is told of itself.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let known = self.account.as_ref();
        let (name, home, shell) = known.map_or(("", "", ""), |a| (&a.name, &a.home, &a.shell));
        let all = [
            ("HOME", home),
            ("USER", name),
            ("LOGNAME", name),
            ("SHELL", shell),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty())
    }
}

/// Empty where there is none; names in it may be in any encoding.
fn text(path: &str) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// By name or uid, as /etc/passwd has them.
fn lookup(passwd: &str, is_meant: impl Fn(&str, &str) -> bool) -> Option<(User, Account)> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let &[name, _, uid, gid, ..] = &fields[..] else {
            return None;
        };
        let field = |at: usize| fields.get(at).map_or(String::new(), ToString::to_string);
        let user = User {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        };
        let account = Account {
            name: name.to_owned(),
            home: field(5),
            shell: field(6),
        };
        is_meant(name, uid).then_some((user, account))
    })
}

fn groups(group: &str, name: Option<&str>, own: u32) -> Vec<u32> {
    let of_line = |line: &str| -> Option<u32> {
        let mut fields = line.split(':').skip(2);
        let gid = fields.next()?.parse().ok()?;
        let is_in = fields.next()?.split(',').any(|member| Some(member) == name);
        (is_in && gid != own).then_some(gid)
    };
    let others = group.lines().filter_map(of_line);
    std::iter::once(own)
        .chain(others)
        .take(GROUPS_MAX)
        .collect()
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

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        alice:x:1000:1001:Alice,,,:/srv/alice:/bin/zsh\nshort:x:7:8\nbroken\nodd:x:y:z::/:\n";

    #[test]
    fn names_and_numbers() {
        let named = |name: &str| lookup(PASSWD, |login, uid| login == name || uid == name);
        let alice = User {
            uid: 1000,
            gid: 1001,
        };
        let account = Account {
            name: "alice".into(),
            home: "/srv/alice".into(),
            shell: "/bin/zsh".into(),
        };
        let known = Some((alice, account));
        assert_eq!(named("alice"), known);
        assert_eq!(named("1000"), known);
        for (name, uid) in [
            ("bob", None),
            ("broken", None),
            ("odd", None),
            ("short", Some(7)),
        ] {
            assert_eq!(named(name).map(|(user, _)| user.uid), uid, "{name}");
        }
    }

    #[test]
    fn groups_are_the_own_one_and_those_with_the_name_in_them() {
        let group = "root:x:0:\nvideo:x:44:bob,alice\nalice:x:1001:alice\nodd:x:y:alice\nshort\n\
            kvm:x:105:alice\nal:x:106:al,alic\n";
        assert_eq!(groups(group, Some("alice"), 1001), [1001, 44, 105]);
        assert_eq!(groups(group, Some("carol"), 1001), [1001]);
        // Of one without a name, an empty list of members says nothing.
        assert_eq!(groups(group, None, 5), [5]);
        assert_eq!(groups("", Some("alice"), 5), [5]);
    }

    #[test]
    fn what_is_not_known_is_not_set() {
        let mut login = Login {
            user: User { uid: 7, gid: 8 },
            groups: vec![8],
            account: None,
        };
        assert_eq!(login.environment().count(), 0);
        login.account = Some(Account {
            name: "alice".into(),
            home: "/srv/alice".into(),
            shell: String::new(),
        });
        let all: Vec<_> = login.environment().collect();
        assert_eq!(
            all,
            [
                ("HOME", "/srv/alice"),
                ("USER", "alice"),
                ("LOGNAME", "alice")
            ]
        );
    }
}
