//! The partition's end: shell lines over `ssh`.

use super::local::Taking;
use super::plan::Part;
use crate::ssh::{ClientKey, Invocation, Pass, end_with_us, quoted};
use anyhow::{Context, bail, ensure};
use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

/// A list of names is not longer.
const MOST_LIST_BYTES: usize = 64 << 20;
const MOST_WORDS_BYTES: usize = 4096;
const CHUNK_BYTES: usize = 256 << 10;

/// Told of every count of bytes that went over.
pub type Shown<'a> = Box<dyn FnMut(u64) + Send + 'a>;

/// A folder in a partition.
pub struct Remote<'a> {
    pub pass: &'a Pass,
    pub key: &'a ClientKey,
    pub folder: &'a str,
}

impl Remote<'_> {
    /// What is at a path below the folder, to be read by [`super::list::parse`]; empty if there is nothing.
    pub async fn list(&self, path: &str) -> anyhow::Result<String> {
        // Sizes first, from `wc`, for not every `find` can print them.
        let line = format!(
            "cd {0} 2> /dev/null && [ -e {1} ] || exit 0; find {1} -type d -exec printf 'd %s\\n' {{}} +; \
             find {1} -type f -exec sh -c 'for f; do printf \"f %s %s\\n\" \"$(wc -c < \"$f\")\" \"$f\"; done' - {{}} + ; \
             find {1} -type f -exec sha256sum {{}} +",
            quoted(&[self.folder.to_owned()]),
            quoted(&[if path == "." { path.to_owned() } else { format!("./{path}") }]),
        );
        let mut text = Vec::new();
        self.run(
            &line,
            async |_: ChildStdin| Ok(()),
            |bytes| {
                ensure!(text.len() + bytes.len() <= MOST_LIST_BYTES, "a list of more than {MOST_LIST_BYTES} bytes");
                text.extend_from_slice(bytes);
                Ok(())
            },
        )
        .await?;
        String::from_utf8(text).context("a name in the partition is no UTF-8")
    }

    /// Makes the folder and others below it.
    pub async fn make(&self, folders: &BTreeSet<String>) -> anyhow::Result<()> {
        let line = format!(
            "mkdir -p {0} && cd {0} && while IFS= read -r d; do mkdir -p -- \"$d\" || exit 1; done",
            quoted(&[self.folder.to_owned()])
        );
        let names: String = folders.iter().map(|folder| format!("{folder}\n")).collect();
        let send = async |mut stdin: ChildStdin| Ok(stdin.write_all(names.as_bytes()).await?);
        self.run(&line, send, |_| Ok(())).await
    }

    /// Sends parts of files here to the folder.
    pub async fn put(&self, root: &Path, parts: &[Part], mut shown: Shown<'_>) -> anyhow::Result<()> {
        let folder = quoted(&[self.folder.to_owned()]);
        for part in parts.iter().filter(|part| part.from > 0) {
            let line = format!("cd {folder} && cat >> {}", quoted(&[format!("./{}", part.path)]));
            let send = async |mut stdin: ChildStdin| {
                let mut file = std::fs::File::open(root.join(&part.path))?;
                file.seek(SeekFrom::Start(part.from))?;
                copy(&mut file, &mut stdin, &mut shown).await
            };
            self.run(&line, send, |_| Ok(())).await?;
        }
        let whole: Vec<&Part> = parts.iter().filter(|part| part.from == 0).collect();
        if whole.is_empty() {
            return Ok(());
        }
        let mut tar = Command::new("tar");
        tar.args(["-C"]).arg(root).args(["--null", "--no-recursion", "-h", "-cf", "-", "-T", "-"]);
        tar.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut tar = tar.spawn().context("failed to start tar")?;
        let (Some(mut names), Some(mut bytes)) = (tar.stdin.take(), tar.stdout.take()) else {
            bail!("no pipes to tar")
        };
        let list: Vec<u8> = whole.iter().flat_map(|part| format!("./{}\0", part.path).into_bytes()).collect();
        let feed = async move {
            // One that fails is seen by what does not arrive.
            let _ = names.write_all(&list).await;
        };
        let send = async |mut stdin: ChildStdin| {
            let mut chunk = vec![0; CHUNK_BYTES];
            loop {
                match bytes.read(&mut chunk).await? {
                    0 => return Ok(()),
                    count => {
                        stdin.write_all(&chunk[..count]).await?;
                        shown(count as u64);
                    }
                }
            }
        };
        let line = format!("cd {folder} && tar -xf -");
        let (_, sent) = tokio::join!(feed, self.run(&line, send, |_| Ok(())));
        sent
    }

    /// Takes parts of files there into a folder here.
    pub async fn get(&self, root: &Path, parts: &[Part], mut shown: Shown<'_>) -> anyhow::Result<()> {
        let line = format!(
            "cd {} && while IFS= read -r o && IFS= read -r f; do tail -c +\"$o\" -- \"$f\" < /dev/null || exit 1; done",
            quoted(&[self.folder.to_owned()])
        );
        // A file that is a whole part has an empty rest, too.
        let names: String = parts.iter().map(|part| format!("{}\n./{}\n", part.from + 1, part.path)).collect();
        let send = async |mut stdin: ChildStdin| Ok(stdin.write_all(names.as_bytes()).await?);
        let mut taking = Taking::new(root, parts);
        let take = |bytes: &[u8]| {
            shown(bytes.len() as u64);
            taking.take(bytes)
        };
        self.run(&line, send, take).await?;
        ensure!(taking.is_done()?, "the partition sent less than it has");
        Ok(())
    }

    /// Runs a line there; gives it input and takes its output.
    async fn run(
        &self,
        line: &str,
        send: impl AsyncFnOnce(ChildStdin) -> anyhow::Result<()>,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (mut child, stdin) = self.start(line)?;
        let (Some(mut stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            bail!("no pipes to ssh")
        };
        let answer = async {
            let mut chunk = vec![0; CHUNK_BYTES];
            loop {
                match stdout.read(&mut chunk).await? {
                    0 => return anyhow::Ok(()),
                    count => take(&chunk[..count])?,
                }
            }
        };
        let (sent, answered, said) = tokio::join!(send(stdin), answer, words(stderr));
        let status = child.wait().await?;
        answered?;
        if !status.success() {
            bail!("in the partition: {}", crate::output::clean(said.trim()));
        }
        sent
    }

    fn start(&self, line: &str) -> anyhow::Result<(Child, ChildStdin)> {
        let invocation = Invocation { terminal: Some(false), command: Some(line.to_owned()), ..Invocation::default() };
        let mut command = Command::new("ssh");
        command.args(invocation.arguments(self.pass, self.key)?).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        end_with_us(&mut command);
        let mut child = command.spawn().context("failed to start ssh")?;
        let stdin = child.stdin.take().context("no pipe to ssh")?;
        Ok((child, stdin))
    }
}

async fn copy(from: &mut impl Read, to: &mut ChildStdin, shown: &mut Shown<'_>) -> anyhow::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&chunk[..count]).await?;
        shown(count as u64);
    }
}

async fn words(mut from: impl AsyncRead + Unpin) -> String {
    let (mut said, mut chunk) = (Vec::new(), [0; 1024]);
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        said.extend_from_slice(&chunk[..count.min(MOST_WORDS_BYTES.saturating_sub(said.len()))]);
    }
    String::from_utf8_lossy(&said).into_owned()
}
