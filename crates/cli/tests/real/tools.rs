//! A leased partition with the tools that people have: files in and out, ports both ways, plain ssh.

use crate::fixture::{FULL, SMALL, world};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use sublet_testing::Person;
use sublet_testing::world::{eventually, free_port};

#[test]
fn ordinary_tools_come_in_and_ports_lead_both_ways() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    alice.rent("box", "linux-minimal", &SMALL)?;
    let dir = world.dir().join("tools");
    fs::create_dir_all(dir.join("tree/deep"))?;
    let bytes: Vec<u8> = (0u32..2 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(dir.join("tree/big"), &bytes)?;
    fs::write(dir.join("tree/deep/small"), b"s")?;

    let text = |path: &str| dir.join(path).to_string_lossy().into_owned();
    alice.run(&["cp", "-r", &text("tree"), "box:/root/tree"])?.ok()?;
    let inside = alice.inside("box", "sha256sum < /root/tree/big")?.ok()?.stdout;
    alice.run(&["cp", "-r", "box:/root/tree", &text("back")])?.ok()?;
    ensure!(fs::read(dir.join("back/big"))? == bytes && fs::read(dir.join("back/deep/small"))? == b"s");
    let outside = Command::new("sh").arg("-c").arg(format!("sha256sum < {}", text("tree/big"))).output()?.stdout;
    ensure!(inside.as_bytes() == outside, "{inside}");
    let lost = alice.run(&["cp", "box:/no/such", "."])?;
    ensure!(lost.code != 0, "{lost:?}");

    plain_ssh(&alice, &dir)?;
    ports(&alice)?;
    alice.run(&["release", "box"])?.ok()?;
    Ok(())
}

/// The file that a person's own configuration would include.
fn config(alice: &Person, dir: &std::path::Path) -> Result<String> {
    let config = dir.join("ssh_config");
    fs::write(&config, alice.run(&["ssh-config"])?.ok()?.stdout)?;
    Ok(config.to_string_lossy().into_owned())
}

/// A program of somebody else, which finds what a person's own shell has; what it said is printed.
fn tool(alice: &Person, first: &[&str], words: &[&str]) -> Result<Output> {
    let surroundings = alice.command(&[]);
    let mut tool = Command::new(words[0]);
    tool.args(first).args(&words[1..]).stdin(Stdio::null());
    tool.envs(surroundings.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = tool.output().with_context(|| format!("{} is not installed", words[0]))?;
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    println!("$ {}\n{out}{err}", words.join(" "));
    Ok(done)
}

#[test]
fn programs_that_call_ssh_come_in_as_they_are() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    alice.rent("box", "debian-12", &FULL)?;
    let dir = world.dir().join("tools");
    fs::create_dir_all(dir.join("src/deep"))?;
    fs::write(dir.join("src/deep/file"), "one\n")?;
    let config = config(&alice, &dir)?;
    let text = |path: &str| dir.join(path).to_string_lossy().into_owned();
    let ssh = format!("ssh -F {config}");
    let runs = |words: &[&str]| -> Result<Output> {
        let done = tool(&alice, &[], words)?;
        ensure!(done.status.success(), "{words:?}: {done:?}");
        Ok(done)
    };
    let here = |program: &str| Command::new(program).arg("--version").output().is_ok();

    runs(&["rsync", "-e", &ssh, "-a", "--stats", &format!("{}/", text("src")), "box.sublet:/root/src/"])?;
    ensure!(alice.inside("box", "cat /root/src/deep/file")?.ok()?.stdout == "one\n");
    let make =
        "cd /root/src && git init -q -b main && git add . && git -c user.name=a -c user.email=a@b commit -qm one";
    alice.inside("box", make)?.ok()?;
    let clone = format!("core.sshCommand={ssh}");
    runs(&["git", "-c", &clone, "clone", "box.sublet:/root/src", &text("clone")])?;
    ensure!(fs::read_to_string(dir.join("clone/deep/file"))? == "one\n");
    if here("sshfs") && std::path::Path::new("/dev/fuse").exists() {
        let at = text("mounted");
        fs::create_dir(&at)?;
        runs(&["sshfs", "-F", &config, "box.sublet:/root/src", &at])?;
        let seen = fs::read_to_string(dir.join("mounted/deep/file"));
        let written = fs::write(dir.join("mounted/deep/new"), "written through it\n");
        runs(&["fusermount", "-u", &at])?;
        written?;
        ensure!(seen? == "one\n");
        ensure!(alice.inside("box", "cat /root/src/deep/new")?.ok()?.stdout == "written through it\n");
    } else {
        println!("sshfs is not tried: it, or /dev/fuse, is not here");
    }
    if here("ansible") {
        let common = format!("ansible_ssh_common_args='-F {config}'");
        let done = runs(&["ansible", "box.sublet", "-i", "box.sublet,", "-e", &common, "-m", "ping"])?;
        ensure!(String::from_utf8_lossy(&done.stdout).contains("\"ping\": \"pong\""), "{done:?}");
    } else {
        println!("ansible is not tried: it is not here");
    }
    Ok(())
}

/// `ssh box.sublet` and its like, by the one line that `sublet ssh-config` prints.
fn plain_ssh(alice: &Person, dir: &std::path::Path) -> Result<()> {
    let config = config(alice, dir)?;
    let tool = |words: &[&str]| tool(alice, &["-F", &config], words);
    let done = tool(&["ssh", "box.sublet", "uname -r; echo $SUBLET_LEASE"])?;
    ensure!(done.status.success() && done.stdout.starts_with(b"6.12"), "{done:?}");
    let copy = dir.join("copy").to_string_lossy().into_owned();
    let done = tool(&["scp", "-r", "box.sublet:/root/tree", &copy])?;
    ensure!(done.status.success() && fs::read(dir.join("copy/deep/small"))? == b"s", "{done:?}");
    let batch = dir.join("batch");
    fs::write(&batch, "cd /root/tree\nls -l\nrename big large\ndf\n")?;
    let done = tool(&["sftp", "-b", &batch.to_string_lossy(), "box.sublet"])?;
    ensure!(done.status.success(), "{done:?}");
    ensure!(alice.inside("box", "ls /root/tree")?.ok()?.stdout == "deep\nlarge\n");
    let done = tool(&["ssh", "nothing-of-mine.sublet", "true"])?;
    ensure!(done.status.code() == Some(255), "{done:?}");
    Ok(())
}

/// Ports of the partition, which has no network, and ports of this computer.
fn ports(alice: &Person) -> Result<()> {
    let proxy = TcpListener::bind("127.0.0.1:0")?;
    let ours = proxy.local_addr()?.port();
    std::thread::spawn(move || {
        for connection in proxy.incoming() {
            let mut connection = connection?;
            let mut request = [0; 4096];
            let count = connection.read(&mut request)?;
            let asked = String::from_utf8_lossy(&request[..count]).lines().next().unwrap_or_default().to_owned();
            let body = format!("you asked {asked}\n");
            write!(connection, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        }
        std::io::Result::Ok(())
    });
    let here = free_port()?;
    let (into, from) = (format!("{here}:7000"), format!("3128:{ours}"));
    let mut forward = alice.command(&["forward", "box", &into, "--remote", &from]).spawn()?;
    let asked = eventually("the way out of the partition", Duration::from_secs(30), || {
        let got = alice.inside("box", "wget -qO- http://localhost:3128/word")?;
        Ok((got.code == 0).then_some(got.stdout))
    });
    let answered = asked.and_then(|asked| {
        ensure!(asked == "you asked GET /word HTTP/1.1\n", "{asked}");
        alice.inside("box", "(echo from inside | nc -l -p 7000 >/dev/null) >/dev/null 2>&1 &")?.ok()?;
        eventually("the way into the partition", Duration::from_secs(30), || {
            let mut said = String::new();
            let mut stream = TcpStream::connect(("127.0.0.1", here))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            Ok(stream.read_to_string(&mut said).is_ok().then_some(said).filter(|said| !said.is_empty()))
        })
    });
    forward.kill().context("the forwarder had gone by itself")?;
    forward.wait()?;
    let said = answered?;
    ensure!(said == "from inside\n", "{said}");
    Ok(())
}
