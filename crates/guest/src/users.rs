//! Users of the guest, straight from its files: a static program has no name service.

use std::fs;

/// What a login needs to know of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    pub shell: String,
    pub groups: Vec<u32>,
}

/// Looks a user up; no name means root, who exists even where there is no passwd file.
pub fn find(name: &str) -> Option<User> {
    let name = if name.is_empty() { "root" } else { name };
    let passwd = fs::read("/etc/passwd").unwrap_or_default();
    let group = fs::read("/etc/group").unwrap_or_default();
    let found = parse(name, &String::from_utf8_lossy(&passwd), &String::from_utf8_lossy(&group));
    found.or_else(|| (name == "root").then(bare_root))
}

fn bare_root() -> User {
    User { name: "root".into(), uid: 0, gid: 0, home: "/root".into(), shell: "/bin/sh".into(), groups: vec![0] }
}

fn parse(name: &str, passwd: &str, group: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [entry, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
        if *entry != name {
            return None;
        }
        let gid = gid.parse().ok()?;
        let shell = if shell.is_empty() { "/bin/sh" } else { shell };
        Some(User {
            name: name.into(),
            uid: uid.parse().ok()?,
            gid,
            home: (*home).into(),
            shell: shell.into(),
            groups: groups_of(name, gid, group),
        })
    })
}

fn groups_of(name: &str, own: u32, group: &str) -> Vec<u32> {
    let others = group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members] = fields.as_slice() else { return None };
        let member = members.split(',').any(|member| member == name);
        gid.parse::<u32>().ok().filter(|_| member)
    });
    let mut groups = vec![own];
    groups.extend(others.filter(|gid| *gid != own));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_comes_with_shell_and_groups() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\nann:x:1000:1000:Ann,,,:/home/ann:\n";
        let group = "root:x:0:\nsudo:x:27:bob,ann\nann:x:1000:ann\nvideo:x:44:annette\n";
        let ann = parse("ann", passwd, group).unwrap();
        assert_eq!((ann.uid, ann.gid, ann.groups), (1000, 1000, vec![1000, 27]));
        assert_eq!((ann.home.as_str(), ann.shell.as_str()), ("/home/ann", "/bin/sh"));
        assert_eq!(parse("nobody", passwd, group), None);
    }
}
