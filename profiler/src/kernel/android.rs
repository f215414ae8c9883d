//! What Android says of its apps. In: its list of packages, which root may read. Out: user ids: an app
//! is one, and so are all its processes, those that start later, too.

use std::fs;

const PACKAGES: &str = "/data/system/packages.list";

pub fn uid(package: &str) -> Result<u32, String> {
    let list = fs::read_to_string(PACKAGES)
        .map_err(|e| format!("cannot read {PACKAGES}: {e}: --package is for Android, as root"))?;
    find(&list, package).ok_or_else(|| {
        format!("no package `{package}`: see `pm list packages` for those there are")
    })
}

/// `NAME UID DEBUGGABLE DATA_DIR ...` in each line.
fn find(list: &str, package: &str) -> Option<u32> {
    let mut lines = list.lines().map(|line| line.split(' '));
    lines.find_map(|mut fields| (fields.next()? == package).then(|| fields.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_packages() {
        let list = "com.android.shell 2000 0 /data/user_de/0/com.android.shell platform 1 0 34\n\
                    org.example.app 10123 1 /data/user/0/org.example.app default 3003 0 7 1 @system\n";
        assert_eq!(find(list, "org.example.app"), Some(10_123));
        assert_eq!(find(list, "org.example"), None);
        assert_eq!(find("", "org.example.app"), None);
    }
}
