//! Files in and out with the tools that people have.

use crate::setup::{House, sha256};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use sublet_host::ssh::SessionEvent;
use tokio::process::Command;

fn bytes(count: u32) -> Vec<u8> {
    (0..count).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn scp_brings_files_in_and_out_as_they_are() {
    let house = House::open().await;
    let (there, back) = (house.path("there"), house.path("back"));
    let tree = house.path("tree");
    std::fs::create_dir_all(tree.join("deep/er")).unwrap();
    std::fs::write(tree.join("big"), bytes(21_000_000)).unwrap();
    std::fs::write(tree.join("deep/er/empty"), b"").unwrap();
    std::fs::write(tree.join("deep/a name; with 'quotes'"), b"x").unwrap();
    std::fs::set_permissions(tree.join("deep/er/empty"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let past = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    std::fs::File::options().write(true).open(tree.join("big")).unwrap().set_modified(past).unwrap();

    let into = format!("lease:{}", there.display());
    let done = house.copy("scp", &["-rp", &tree.display().to_string(), &into], "").await;
    assert_eq!(done.code(), 0, "{}", done.err());
    let out = format!("lease:{}", there.display());
    let done = house.copy("scp", &["-rp", &out, &back.display().to_string()], "").await;
    assert_eq!(done.code(), 0, "{}", done.err());

    for copy in [&there, &back] {
        let big = std::fs::read(copy.join("big")).unwrap();
        assert_eq!(sha256(&big), sha256(&bytes(21_000_000)));
        assert_eq!(copy.join("big").metadata().unwrap().mtime(), 1_000_000_000);
        assert_eq!(copy.join("deep/er/empty").metadata().unwrap().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read(copy.join("deep/a name; with 'quotes'")).unwrap(), b"x");
    }
    let done = house.copy("scp", &["lease:/no/such/file", "/tmp"], "").await;
    assert!(done.code() != 0 && done.err().contains("No such file"), "{}", done.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_does_what_its_commands_say() {
    let house = House::open().await;
    let room = house.path("room");
    std::fs::write(house.path("local"), b"0123456789").unwrap();
    let script = format!(
        "mkdir {room}\ncd {room}\nput {local} one\nput {local} two\nrename one three\nln three hard\nsymlink three soft\n\
         chmod 600 three\nls -l\nls -la\ndf\n-rename -l two three\nrm two\nmkdir sub\n-rmdir {room}\nrmdir sub\npwd\n",
        room = room.display(),
        local = house.path("local").display()
    );
    let done = house.copy("sftp", &["-b", "-", "lease:"], &script).await;
    assert_eq!(done.code(), 0, "{}", done.err());
    let out = done.out();
    assert!(out.contains("-rw-------    2 "), "{out}");
    assert!(out.contains("lrwxrwxrwx") && out.contains(" soft"), "{out}");
    assert!(out.contains("%Capacity"), "df: {out}");
    assert!(out.contains(&format!("Remote working directory: {}", room.display())), "{out}");
    let mut left: Vec<_> = std::fs::read_dir(&room).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["hard", "soft", "three"]);
    assert_eq!(std::fs::read(room.join("three")).unwrap(), b"0123456789");
    assert_eq!(std::fs::read_link(room.join("soft")).unwrap(), Path::new("three"));
    // A transfer that broke goes on where it stopped.
    std::fs::write(room.join("half"), &bytes(3_000_000)[..1_000_001]).unwrap();
    std::fs::write(house.path("whole"), bytes(3_000_000)).unwrap();
    let script = format!("reput {} {}\n", house.path("whole").display(), room.join("half").display());
    let done = house.copy("sftp", &["-b", "-", "lease:"], &script).await;
    assert_eq!(done.code(), 0, "{}", done.err());
    assert_eq!(sha256(&std::fs::read(room.join("half")).unwrap()), sha256(&bytes(3_000_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_many_is_listed_whole() {
    let house = House::open().await;
    let folder = house.path("many");
    std::fs::create_dir(&folder).unwrap();
    (0..1234).for_each(|n| drop(std::fs::write(folder.join(format!("{n:04}")), b"")));
    let done = house.copy("sftp", &["-b", "-", "lease:"], &format!("ls -1 {}\n", folder.display())).await;
    let listed = done.out().lines().filter(|line| line.starts_with(&folder.display().to_string())).count();
    assert_eq!(listed, 1234, "{}", done.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn file_transfer_is_not_the_one_job() {
    let house = House::one_shot().await;
    std::fs::write(house.path("job.sh"), b"echo done; exit 5\n").unwrap();
    let to = house.path("brought.sh");
    let done =
        house.copy("scp", &[&house.path("job.sh").display().to_string(), &format!("lease:{}", to.display())], "").await;
    assert_eq!(done.code(), 0, "{}", done.err());
    assert!(!house.saw(|event| matches!(event, SessionEvent::Opened { only: true, .. })));
    let done = house.ssh(&[], &[&format!("sh {}", to.display())], b"").await;
    assert_eq!((done.out().as_str(), done.code()), ("done\n", 5));
    assert!(house.saw(|event| matches!(event, SessionEvent::Opened { only: true, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn git_and_rsync_work_as_they_are() {
    let house = House::open().await;
    let (origin, clone) = (house.path("origin"), house.path("clone"));
    let script = format!(
        "git init -q {0} && cd {0} && echo one > a && git add a && \
         git -c user.name=x -c user.email=x@x commit -qm first",
        origin.display()
    );
    assert_eq!(house.ssh(&[], &[&script], b"").await.code(), 0);
    let mut git = Command::new("git");
    git.env("GIT_SSH_COMMAND", house.ssh_line()).args(["clone", "-q"]);
    let done = git.arg(format!("lease_a@127.0.0.1:{}", origin.display())).arg(&clone).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(std::fs::read(clone.join("a")).unwrap(), b"one\n");

    let (from, to) = (house.path("from"), house.path("to"));
    std::fs::create_dir(&from).unwrap();
    std::fs::write(from.join("big"), bytes(5_000_000)).unwrap();
    let mut rsync = Command::new("rsync");
    rsync.args(["-a", "--stats", "-e", &house.ssh_line()]).arg(format!("{}/", from.display()));
    let done = rsync.arg(format!("lease_a@127.0.0.1:{}/", to.display())).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(sha256(&std::fs::read(to.join("big")).unwrap()), sha256(&bytes(5_000_000)));
}
