//! A host with one lease: market's and attacker's keys, an agent as small as can be, the server.

use crate::rehearsal::{self, Rehearsal};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use sublet_host::guest_link::{GuestLink, LinkError, Status};
use sublet_host::jobs::{self, Jobs, LeaseJobs};
use sublet_host::ssh::{Admission, Door, LeaseKey, SessionEvent, SshServer};
use sublet_model::units::{GiB, MiB};
use sublet_wire::jobs::Figures;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The agent's side of the door, for one lease.
struct OneLease {
    admission: Admission,
    link: watch::Receiver<Option<GuestLink>>,
    events: watch::Sender<Vec<SessionEvent>>,
    jobs: Arc<Mutex<Arc<Jobs>>>,
}

impl Door for OneLease {
    async fn lease(&self, user: &str) -> Option<Admission> {
        (user == self.admission.key.lease).then(|| self.admission.clone())
    }

    async fn link(&self, key: &LeaseKey) -> Result<GuestLink, String> {
        assert_eq!(*key, self.admission.key);
        let mut link = self.link.clone();
        let link = link.wait_for(Option::is_some).await.map_err(|_| "nobody boots it".to_owned())?;
        Ok(link.clone().unwrap())
    }

    async fn jobs(&self, key: &LeaseKey) -> Result<Arc<LeaseJobs>, String> {
        self.jobs.lock().unwrap().of(key).map_err(|error| error.to_string())
    }

    async fn figures(&self, key: &LeaseKey) -> Result<Figures, String> {
        Ok(Figures { generation: key.generation, vcpus: 2, memory: MiB(256), cpu: None, disk: GiB(0) })
    }

    fn event(&self, _key: &LeaseKey, event: SessionEvent) {
        self.events.send_modify(|events| events.push(event));
    }
}

fn key() -> LeaseKey {
    LeaseKey { lease: "lease_a".into(), generation: 3 }
}

/// Everything a test needs.
pub struct House {
    guest: Mutex<Rehearsal>,
    pub keys: Keys,
    right: PathBuf,
    port: u16,
    server: Arc<SshServer<OneLease>>,
    ended: watch::Sender<Option<String>>,
    link: watch::Sender<Option<GuestLink>>,
    events: watch::Receiver<Vec<SessionEvent>>,
    jobs: Arc<Mutex<Arc<Jobs>>>,
    drive: Mutex<Option<AbortHandle>>,
    _stop: DropGuard,
}

impl House {
    /// A lease whose guest is up.
    pub async fn open() -> Self {
        let house = Self::build(false).await;
        house.boot().await;
        house
    }

    /// A one-shot lease whose guest is up.
    pub async fn one_shot() -> Self {
        let house = Self::build(true).await;
        house.boot().await;
        house
    }

    /// A lease whose guest comes up when the test says so.
    pub async fn boot_later() -> Self {
        Self::build(false).await
    }

    async fn build(one_shot: bool) -> Self {
        let guest = Rehearsal::start();
        let keys = Keys::make(guest.directory());
        let right = keys.issue("client", Some(&Cert::default()));
        let (ended, ended_receiver) = watch::channel(None);
        let (link, link_receiver) = watch::channel(None);
        let (event_sender, events) = watch::channel(Vec::new());
        let authority = std::fs::read_to_string(keys.path("market.pub")).unwrap();
        let admission = Admission {
            key: key(),
            authorities: vec!["no key at all".into(), authority.trim().into()],
            login_user: "root".into(),
            one_shot,
            ended: ended_receiver,
        };
        let jobs = Arc::new(Mutex::new(Arc::new(Jobs::new(guest.directory().join("jobs")))));
        let door = OneLease { admission, link: link_receiver, events: event_sender, jobs: Arc::clone(&jobs) };
        let host_key = std::fs::read_to_string(keys.path("host")).unwrap();
        let server = SshServer::new(&host_key, Arc::new(door)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        tokio::spawn({
            let (server, stop) = (Arc::clone(&server), stop.clone());
            async move { server.serve(listener, stop).await }
        });
        let known = format!("sublet {}", std::fs::read_to_string(keys.path("host.pub")).unwrap());
        std::fs::write(keys.path("known"), known).unwrap();
        let guest = Mutex::new(guest);
        Self {
            guest,
            keys,
            right,
            port,
            server,
            ended,
            link,
            events,
            jobs,
            drive: Mutex::default(),
            _stop: stop.drop_guard(),
        }
    }

    pub async fn boot(&self) {
        let socket = self.guest.lock().unwrap().socket();
        let link = loop {
            match GuestLink::connect(&socket, rehearsal::soon()).await {
                Ok(link) => break link,
                // What a program forked that was killed holds its socket open for a moment.
                Err(LinkError::Gone) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(other) => panic!("{other}"),
            }
        };
        link.identify(&rehearsal::identity("lease_a", 3)).await.unwrap();
        let jobs = self.jobs.lock().unwrap().of(&key()).unwrap();
        let drive = tokio::spawn(jobs::serve(jobs, "root".into(), link.clone()));
        *self.drive.lock().unwrap() = Some(drive.abort_handle());
        self.link.send_replace(Some(link));
    }

    /// What an agent forgets that is killed: all but what is on the disk.
    pub async fn forget_all(&self) {
        if let Some(drive) = self.drive.lock().unwrap().take() {
            drive.abort();
        }
        let link = self.link.send_replace(None);
        link.expect("it was up").close();
        *self.jobs.lock().unwrap() = Arc::new(Jobs::new(self.guest.lock().unwrap().directory().join("jobs")));
    }

    /// Another guest program in the place of this one, which knows nothing of it.
    pub fn replace_guest(&self) {
        self.guest.lock().unwrap().restart();
    }

    /// How the one job ended, as the guest says.
    pub async fn job_ends(&self) -> Status {
        let link = self.link.borrow().clone().unwrap();
        loop {
            if let Some(status) = link.jobs().await.unwrap()[0].ended {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks the subsystem of detached jobs.
    pub async fn ask(&self, request: &serde_json::Value) -> Done {
        self.ssh(&["-s"], &["sublet-jobs"], format!("{request}\n").as_bytes()).await
    }

    pub fn crash_guest(&self) {
        self.guest.lock().unwrap().kill();
    }

    pub fn end_lease(&self, reason: &str) {
        self.ended.send_replace(Some(reason.into()));
    }

    pub fn events(&self) -> Vec<SessionEvent> {
        self.events.borrow().clone()
    }

    pub fn saw(&self, wanted: impl Fn(&SessionEvent) -> bool) -> bool {
        self.events.borrow().iter().any(wanted)
    }

    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&[SessionEvent]) -> bool) {
        let mut events = self.events.clone();
        let waited = tokio::time::timeout(Duration::from_secs(30), events.wait_for(|events| wanted(events))).await;
        assert!(waited.is_ok(), "no {what} in {:?}", self.events());
    }

    pub fn refused(&self, name: &str) -> u64 {
        self.server.refusals().get(name).copied().unwrap_or(0)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.keys.path(name)
    }

    fn command(&self, key: &Path, user: &str, options: &[&str]) -> Command {
        let mut command = self.tool("ssh", key, options);
        command.arg("-p").arg(self.port.to_string()).arg(format!("{user}@127.0.0.1"));
        command
    }

    /// A program of OpenSSH with what it needs to come in, but for the port and whither.
    fn tool(&self, program: &str, key: &Path, options: &[&str]) -> Command {
        let mut command = Command::new(program);
        // What comes first counts, so a test's own options do.
        command.args(["-F", "none"]).args(options);
        command.args(["-o", "PasswordAuthentication=no", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]);
        command.args(["-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=sublet", "-o", "LogLevel=INFO"]);
        command.arg("-o").arg(format!("UserKnownHostsFile={}", self.keys.path("known").display()));
        command.arg("-i").arg(key);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub async fn ssh(&self, options: &[&str], words: &[&str], input: &[u8]) -> Done {
        self.ssh_with(&self.right, "lease_a", options, words, input).await
    }

    pub async fn ssh_lines(&self, options: &[&str], line: &str) -> Done {
        self.ssh(options, &[line], b"").await
    }

    pub async fn ssh_with(&self, key: &Path, user: &str, options: &[&str], words: &[&str], input: &[u8]) -> Done {
        let mut command = self.command(key, user, options);
        if options.contains(&"-f") {
            // It stays behind and would hold the pipes.
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let mut child = command.args(words).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let write = async move {
            // A client that was refused reads nothing.
            let _ = stdin.write_all(input).await;
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), write);
        Done(output.unwrap())
    }

    /// Runs `scp` or `sftp`; in its words, `lease:` stands for the partition.
    pub async fn copy(&self, program: &str, words: &[&str], input: &str) -> Done {
        let mut command = self.tool(program, &self.right, &[]);
        command.arg("-P").arg(self.port.to_string());
        command.args(words.iter().map(|word| word.replace("lease:", "lease_a@127.0.0.1:")));
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        Done(child.wait_with_output().await.unwrap())
    }

    /// The command line by which other programs are told to call `ssh`.
    pub fn ssh_line(&self) -> String {
        let command = self.command(&self.right, "lease_a", &[]);
        let command = command.as_std();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        // Whither is for the program to say.
        words[..words.len() - 1].join(" ")
    }

    /// A client that forwards and does nothing else, until it is dropped.
    pub fn forwarding(&self, options: &[&str]) -> Child {
        self.command(&self.right, "lease_a", &[options, &["-N", "-o", "ExitOnForwardFailure=yes"]].concat())
            .spawn()
            .unwrap()
    }

    /// Runs a command whose output is not read for a second.
    pub async fn ssh_slowly(&self, line: &str) -> Done {
        let child = self.command(&self.right, "lease_a", &[]).arg(line).spawn().unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        Done(child.wait_with_output().await.unwrap())
    }

    /// Runs a command whose output is thrown away; how much more memory this process had at most, in KiB.
    pub async fn ssh_to_nowhere(&self, line: &str) -> u64 {
        let mut child = self.command(&self.right, "lease_a", &[]).arg(line).stdout(Stdio::null()).spawn().unwrap();
        drop(child.stdin.take());
        let before = rehearsal::resident_kib();
        let mut most = before;
        loop {
            tokio::select! {
                status = child.wait() => {
                    assert!(status.unwrap().success());
                    return most - before;
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => most = most.max(rehearsal::resident_kib()),
            }
        }
    }

    /// Starts a command, waits for a word of it, kills the client.
    pub async fn ssh_killed(&self, options: &[&str], line: &str, word: &str) {
        let mut child = self.command(&self.right, "lease_a", options).arg(line).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let seen = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap();
        assert_eq!(seen.as_deref().map(str::trim_end), Some(word));
        child.kill().await.unwrap();
    }
}

/// How a client ended.
pub struct Done(Output);

impl std::ops::Deref for Done {
    type Target = Output;

    fn deref(&self) -> &Output {
        &self.0
    }
}

impl Done {
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }
}

/// A certificate to be made by `ssh-keygen`.
pub struct Cert {
    pub ca: &'static str,
    pub principals: &'static str,
    pub validity: &'static str,
    pub host: bool,
    pub option: &'static str,
}

impl Default for Cert {
    fn default() -> Self {
        Self { ca: "market", principals: "lease_a.g3", validity: "-1m:+1h", host: false, option: "" }
    }
}

/// Keys in files, as OpenSSH wants them.
pub struct Keys(PathBuf);

impl Keys {
    fn make(directory: &Path) -> Self {
        let keys = Self(directory.to_owned());
        ["market", "attacker", "host"].iter().for_each(|name| keys.new_key(name));
        keys
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn new_key(&self, name: &str) {
        keygen(&["-t", "ed25519", "-N", "", "-C", name, "-f", &self.path(name).display().to_string()]);
    }

    /// A new client key, with a certificate beside it.
    pub fn issue(&self, name: &str, cert: Option<&Cert>) -> PathBuf {
        let name = name.replace(['\'', ' '], "-");
        self.new_key(&name);
        let Some(cert) = cert else { return self.path(&name) };
        let (ca, public) =
            (self.path(cert.ca).display().to_string(), self.path(&format!("{name}.pub")).display().to_string());
        let mut words = vec!["-s", &ca, "-I", &name, "-V", cert.validity];
        if !cert.principals.is_empty() {
            words.extend(["-n", cert.principals]);
        }
        if cert.host {
            words.push("-h");
        }
        if !cert.option.is_empty() {
            words.extend(["-O", cert.option]);
        }
        words.push(&public);
        keygen(&words);
        self.path(&name)
    }
}

fn keygen(words: &[&str]) {
    let output = Process::new("ssh-keygen").arg("-q").args(words).output().unwrap();
    assert!(output.status.success(), "ssh-keygen {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(bytes))
}
