//! A leased partition with the tools that people have: files in and out, ports both ways, plain ssh.

use crate::fixture::{SMALL, world};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
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

/// `ssh box.sublet` and its like, by the one line that `sublet ssh-config` prints.
fn plain_ssh(alice: &Person, dir: &std::path::Path) -> Result<()> {
    let line = alice.run(&["ssh-config"])?.ok()?.stdout;
    let config = dir.join("ssh_config");
    fs::write(&config, &line)?;
    let tool = |words: &[&str]| -> Result<Output> {
        let mut command = alice.command(&[]);
        let mut tool = Command::new(words[0]);
        tool.args(["-F".as_ref(), config.as_os_str()]).args(&words[1..]);
        tool.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env_clear();
        let done = tool.output()?;
        println!(
            "$ {}\n{}{}",
            words.join(" "),
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(done)
    };
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
