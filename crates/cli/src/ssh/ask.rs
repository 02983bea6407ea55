//! One question to the host about detached jobs, over the lease's own SSH door: the market is not
//! asked. See [`sublet_wire::jobs`].

use super::run::end_with_us;
use super::{ClientKey, Invocation, Pass};
use anyhow::Context;
use std::process::Stdio;
use sublet_wire::jobs::{JobRequest, SUBSYSTEM};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// The most of what a host says in words that is shown.
const MOST_WORDS_BYTES: u64 = 16 * 1024;

/// How a question ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The host did it.
    Done,
    /// The host refused, with this exit status and in these words.
    Refused(u8, String),
    /// The way broke; what was said about it.
    Broken(String),
}

/// Asks; `take` is given the answer as it comes, and `hear` what is said beside it.
pub async fn ask(
    pass: &Pass,
    key: &ClientKey,
    request: &JobRequest,
    mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> anyhow::Result<Asked> {
    let log = pass.folder.join(format!("ssh-{}.log", uuid::Uuid::now_v7().simple()));
    let invocation = Invocation {
        terminal: Some(false),
        forwards: vec!["-s".into()],
        command: Some(SUBSYSTEM.into()),
        log: Some(log.clone()),
    };
    let mut command = Command::new("ssh");
    command.args(invocation.arguments(pass, key)?).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    end_with_us(&mut command);
    let mut child = command.spawn().context("failed to start ssh")?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(mut stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        anyhow::bail!("ssh was started without its streams");
    };
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let send = async move {
        // A host that refuses at once reads nothing; its words come on stderr.
        let _ = stdin.write_all(&line).await;
    };
    let answer = async {
        let mut chunk = vec![0; 64 << 10];
        loop {
            match stdout.read(&mut chunk).await? {
                0 => return Ok::<(), std::io::Error>(()),
                count => take(&chunk[..count])?,
            }
        }
    };
    let (_, answered, said) = tokio::join!(send, answer, words(stderr));
    answered?;
    let status = child.wait().await?;
    let broke = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    Ok(judge(status.code(), &said, broke.trim()))
}

fn judge(code: Option<i32>, said: &str, broke: &str) -> Asked {
    let said = said.trim().trim_start_matches("sublet: ").to_owned();
    match code {
        Some(0) => Asked::Done,
        Some(255) if said.contains("the lease has ended") => Asked::Refused(255, said),
        Some(255) | None => Asked::Broken(if broke.is_empty() { said } else { broke.replace('\r', "") }),
        Some(code) => Asked::Refused(u8::try_from(code).unwrap_or(u8::MAX), said),
    }
}

/// What the host says beside its answer: notes are passed on as they come, and all of it is kept.
async fn words(mut from: impl AsyncRead + Unpin) -> String {
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let room = (MOST_WORDS_BYTES as usize).saturating_sub(said.len());
        said.extend_from_slice(&chunk[..count.min(room)]);
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_and_broken_ways_are_told_apart() {
        let refused = |code, words: &str| Asked::Refused(code, words.into());
        assert_eq!(judge(Some(0), "sublet: 3 bytes before this", ""), Asked::Done);
        assert_eq!(judge(Some(3), "sublet: no job 7\n", ""), refused(3, "no job 7"));
        assert_eq!(judge(Some(255), "sublet: the lease has ended: x\n", "y"), refused(255, "the lease has ended: x"));
        assert_eq!(judge(Some(255), "", "Connection reset\r\n"), Asked::Broken("Connection reset\n".into()));
        assert_eq!(judge(None, "", ""), Asked::Broken(String::new()));
    }
}
