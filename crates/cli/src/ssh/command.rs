//! From a pass to the arguments of `ssh`.

use super::{ClientKey, Pass};
use anyhow::Context;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// One call of `ssh`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// Whether the guest gets a terminal; none: as `ssh` itself decides.
    pub terminal: Option<bool>,
    /// Words that stand before where to go, such as those of forwarded ports.
    pub forwards: Vec<String>,
    /// What to run, as one line of shell; none: a login shell.
    pub command: Option<String>,
    /// Where `ssh` writes what it has to say itself, apart from what the guest says.
    pub log: Option<std::path::PathBuf>,
}

impl Invocation {
    /// Arguments of `ssh`, the program's own name left out.
    pub fn arguments(&self, pass: &Pass, key: &ClientKey) -> anyhow::Result<Vec<OsString>> {
        Ok(self.arguments_to(&Target::of(pass, key)?))
    }

    /// The same, to any target.
    pub fn arguments_to(&self, target: &Target) -> Vec<OsString> {
        let mut arguments = target.way();
        if let Some(log) = &self.log {
            arguments.extend(["-E".into(), log.into()]);
        }
        match self.terminal {
            Some(true) => arguments.push("-tt".into()),
            Some(false) => arguments.push("-T".into()),
            None => {}
        }
        arguments.extend(self.forwards.iter().map(Into::into));
        arguments.extend(["--".into(), target.user.clone().into()]);
        arguments.extend(self.command.as_ref().map(OsString::from));
        arguments
    }
}

/// What `ssh`, `scp` and `sftp` all take and need to come in; the lease's id is then the name of the
/// computer to go to.
pub fn way(pass: &Pass, key: &ClientKey) -> anyhow::Result<Vec<OsString>> {
    Ok(Target::of(pass, key)?.way())
}

/// Where to go, and all that lets us in.
#[derive(Debug, Clone)]
pub struct Target {
    /// As whom to log in.
    pub user: String,
    /// What `ssh` is told.
    pub settings: Vec<(&'static str, String)>,
    /// Where files about it may lie.
    pub folder: PathBuf,
}

impl Target {
    /// A lease.
    pub fn of(pass: &Pass, key: &ClientKey) -> anyhow::Result<Self> {
        let reach = pass.reach()?;
        let to = match &reach.tcp {
            _ if reach.has_quic() => through_us(&pass.lease.to_string(), &["--pass".into(), text(&pass.folder)])?,
            Some(tcp) => {
                let (host, port) = address(tcp)?;
                vec![("HostName", host), ("Port", port.to_string())]
            }
            None => anyhow::bail!("the host says no way in that this program knows: {:?}", pass.dial),
        };
        let files = [pass.known_hosts(), pass.certificate(), key.path.clone()];
        Ok(Self::new(&pass.user, &pass.lease.to_string(), to, files, pass.folder.clone()))
    }

    /// Through a unix socket of this computer. `folder` holds `known_hosts` and `certificate.pub`.
    pub fn local(user: &str, socket: &Path, folder: PathBuf, key: &ClientKey) -> anyhow::Result<Self> {
        let to = through_us(user, &["--socket".into(), text(socket)])?;
        let files = [folder.join("known_hosts"), folder.join("certificate.pub"), key.path.clone()];
        Ok(Self::new(user, user, to, files, folder))
    }

    /// `files` are the known hosts, the certificate and the key.
    fn new(
        user: &str,
        alias: &str,
        mut settings: Vec<(&'static str, String)>,
        files: [PathBuf; 3],
        folder: PathBuf,
    ) -> Self {
        settings.push(("User", user.to_owned()));
        settings.extend(options(alias));
        let names = ["UserKnownHostsFile", "CertificateFile", "IdentityFile"];
        settings.extend(names.into_iter().zip(files.iter().map(|file| in_quotes(file))));
        Self { user: user.to_owned(), settings, folder }
    }

    fn way(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = ["-F", "none"].map(Into::into).into();
        for (name, value) in &self.settings {
            arguments.extend(["-o".into(), format!("{name}={value}").into()]);
        }
        arguments
    }
}

/// This program, as what carries the bytes. A shell runs it, after `ssh` has expanded `%`.
fn through_us(host: &str, more: &[String]) -> anyhow::Result<Vec<(&'static str, String)>> {
    let ours = std::env::current_exe().context("failed to find this program's own file")?;
    let mut words = vec![text(&ours)];
    if crate::logs::is_verbose() {
        words.push("-v".into());
    }
    words.push("proxy".into());
    words.extend_from_slice(more);
    Ok(vec![("HostName", host.to_owned()), ("ProxyCommand", quoted(&words).replace('%', "%%"))])
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Nothing is asked, nothing is trusted that the market did not vouch for, nothing of the
/// person's own set-up interferes.
fn options(alias: &str) -> [(&'static str, String); 13] {
    [
        ("StrictHostKeyChecking", "yes".into()),
        ("GlobalKnownHostsFile", "/dev/null".into()),
        ("UpdateHostKeys", "no".into()),
        ("CheckHostIP", "no".into()),
        ("HostKeyAlias", alias.to_owned()),
        ("IdentitiesOnly", "yes".into()),
        ("IdentityAgent", "none".into()),
        ("PreferredAuthentications", "publickey".into()),
        ("BatchMode", "yes".into()),
        ("ControlPath", "none".into()),
        ("ServerAliveInterval", "15".into()),
        ("ConnectTimeout", "20".into()),
        ("LogLevel", "ERROR".into()),
    ]
}

/// `ssh` splits at spaces and expands `%` in these.
fn in_quotes(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('%', "%%"))
}

/// `127.0.0.1:40222` or `[::1]:22`; a name of letters only, since the market chooses it.
pub(super) fn address(dial: &str) -> anyhow::Result<(String, u16)> {
    let bad = || anyhow::anyhow!("the market gave {dial:?} as where to dial, which is no address");
    let (host, port) = dial.rsplit_once(':').ok_or_else(bad)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_ip = bare.parse::<std::net::IpAddr>().is_ok();
    let is_name = host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
        && host.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !is_ip && !is_name {
        return Err(bad());
    }
    Ok((bare.into(), port.parse().map_err(|_| bad())?))
}

/// What a person wrote after `--`, as one line of shell: a single word is a line already, as with
/// plain `ssh`; several words are passed on exactly as they are.
pub fn shell_line(words: &[String]) -> String {
    match words {
        [line] => line.clone(),
        words => quoted(words),
    }
}

/// An argument vector as one line of shell that gives the same vector again.
pub fn quoted(words: &[String]) -> String {
    let plain = |w: &str| !w.is_empty() && w.chars().all(|c| c.is_ascii_alphanumeric() || "%+,-./:=@_^".contains(c));
    let quote = |w: &String| if plain(w) { w.clone() } else { format!("'{}'", w.replace('\'', r"'\''")) };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sublet_model::identity::PublicKey;
    use sublet_model::units::Timestamp;

    fn pass(dial: &str) -> Pass {
        Pass {
            lease: uuid::Uuid::from_u128(5).into(),
            name: "box".into(),
            user: "lease_00000000000000000000000005".into(),
            dial: dial.into(),
            identity: Some(PublicKey([7; 32])),
            relay: None,
            expires_at: Timestamp(0),
            folder: "/home/a b/leases/5".into(),
        }
    }

    fn line(invocation: &Invocation, dial: &str) -> String {
        let key = ClientKey { path: "/home/a b/100%/id".into(), public: String::new() };
        let arguments = invocation.arguments(&pass(dial), &key).unwrap();
        arguments.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_call_pins_the_host_and_asks_nothing() {
        let all = line(&Invocation::default(), "127.0.0.1:40222");
        for wanted in [
            "-F none",
            "-o StrictHostKeyChecking=yes",
            "-o UserKnownHostsFile=\"/home/a b/leases/5/known_hosts\"",
            "-o GlobalKnownHostsFile=/dev/null",
            "-o HostKeyAlias=lease_00000000000000000000000005",
            "-o CertificateFile=\"/home/a b/leases/5/certificate.pub\"",
            "-o IdentityFile=\"/home/a b/100%%/id\"",
            "-o HostName=127.0.0.1",
            "-o IdentitiesOnly=yes",
            "-o ServerAliveInterval=15",
            "-o ControlPath=none",
            "-o BatchMode=yes",
            "-o Port=40222",
            "-o User=lease_00000000000000000000000005",
        ] {
            assert!(all.contains(wanted), "{wanted} is missing in {all}");
        }
        assert!(all.ends_with("-- lease_00000000000000000000000005"), "{all}");
    }

    #[test]
    fn a_host_with_quic_is_reached_through_this_program() {
        for dial in ["quic=192.0.2.7:1", "quic=192.0.2.7:1;tcp=192.0.2.7:22"] {
            let all = line(&Invocation::default(), dial);
            assert!(all.contains(" proxy --pass '/home/a b/leases/5'"), "{all}");
            assert!(all.contains("HostName=lease_00000000000000000000000005"), "{all}");
            assert!(!all.contains("Port="), "{all}");
        }
        // A relay to which we have no pass leads nowhere, and a line without any way is said to be one.
        let key = ClientKey { path: "id".into(), public: String::new() };
        for nowhere in ["quic=;relay", "pigeon", ""] {
            let error = Invocation::default().arguments(&pass(nowhere), &key).unwrap_err().to_string();
            assert!(error.contains("no way in"), "{error}");
        }
    }

    #[test]
    fn terminal_command_and_log_stand_where_ssh_reads_them() {
        let tail = |invocation: Invocation| {
            let all = line(&invocation, "[::1]:22");
            all.split_once("100%%/id\"").unwrap().1.replace("lease_00000000000000000000000005", "L")
        };
        let command = Some("echo hi".to_string());
        for (invocation, wanted) in [
            (Invocation::default(), " -- L"),
            (Invocation { terminal: Some(true), ..Default::default() }, " -tt -- L"),
            (Invocation { terminal: Some(false), command, ..Default::default() }, " -T -- L echo hi"),
            (Invocation { log: Some("/l".into()), ..Default::default() }, " -E /l -- L"),
            (Invocation { forwards: vec!["-N".into()], ..Default::default() }, " -N -- L"),
        ] {
            assert_eq!(tail(invocation), wanted);
        }
    }

    #[test]
    fn an_address_that_ssh_could_misread_is_refused() {
        for bad in ["", "127.0.0.1", "-oProxyCommand=x:22", "a b:22", "host:ssh", "host:99999", "%h:22", "a;b:1"] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
        assert_eq!(address("lab-1.example:7").unwrap(), ("lab-1.example".into(), 7));
    }

    #[test]
    fn one_word_is_a_line_and_several_are_exact() {
        assert_eq!(shell_line(&["cat /proc/1/comm; id".into()]), "cat /proc/1/comm; id");
        assert_eq!(shell_line(&["echo".into(), "a  b".into()]), "echo 'a  b'");
    }

    #[test]
    fn words_survive_a_shell() {
        let words = ["a", "", "b c", "it's", "$HOME", "x\ny", "\"", "-n", "\\"].map(String::from);
        let shell = format!("printf '%s\\0' {}", quoted(&words));
        let out = std::process::Command::new("sh").arg("-c").arg(shell).output().unwrap().stdout;
        let back: Vec<&[u8]> = out.strip_suffix(b"\0").unwrap().split(|b| *b == 0).collect();
        assert_eq!(back, words.iter().map(|w| w.as_bytes()).collect::<Vec<_>>());
    }
}
