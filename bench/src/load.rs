//! Load: so many askers, each with one question under way, until all questions are answered.
//!
//! The askers are as cheap as they can be (requests are written beforehand, answers are counted and
//! not read), for they share the processor with what they measure.

use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long one run of load took, answer by answer.
#[derive(Debug, Clone)]
pub struct Run {
    /// From the first question to the last answer.
    pub wall: Duration,
    /// CPU time of whoever answered.
    pub cpu: Duration,
    /// How long each answer took, in no order.
    pub each: Vec<Duration>,
}

impl Run {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.each.len() as f64 / self.wall.as_secs_f64()
    }

    /// CPU time for one answer, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.each.len() as f64
    }

    /// So many of a thousand answers took at most this long, in microseconds.
    pub fn permille_us(&self, permille: usize) -> f64 {
        let mut sorted = self.each.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() * permille / 1000).min(sorted.len() - 1)).map_or(0.0, |d| d.as_secs_f64() * 1e6)
    }
}

/// Hands out the numbers 0 to `count - 1`, each once.
#[derive(Clone)]
pub struct Turns(Arc<AtomicUsize>, usize);

impl Turns {
    /// So many turns.
    pub fn new(count: usize) -> Self {
        Self(Arc::default(), count)
    }

    /// The next one.
    pub fn next(&self) -> Option<usize> {
        Some(self.0.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < self.1)
    }
}

/// Runs the askers together and gathers how long each answer took.
pub async fn together<F>(askers: Vec<F>, cpu: impl Fn() -> Duration) -> Result<Run>
where
    F: Future<Output = Result<Vec<Duration>>> + Send + 'static,
{
    let (before, began) = (cpu(), Instant::now());
    let tasks: Vec<_> = askers.into_iter().map(tokio::spawn).collect();
    let mut each = Vec::new();
    for task in tasks {
        each.extend(task.await??);
    }
    Ok(Run { wall: began.elapsed(), cpu: cpu() - before, each })
}

/// One HTTP/1.1 connection that is kept open.
pub struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A request as it goes over the wire.
pub fn request(method: &str, path: &str, token: &str, key: Option<&str>, body: &str) -> Vec<u8> {
    let key = key.map_or(String::new(), |key| format!("idempotency-key: {key}\r\n"));
    format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n{key}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Http {
    /// Connects.
    pub async fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(1 << 16) })
    }

    /// Sends a request; gives status and body of its answer.
    pub async fn ask(&mut self, request: &[u8]) -> Result<(u16, &[u8])> {
        self.send(request).await?;
        self.answer().await
    }

    /// Sends a request.
    pub async fn send(&mut self, request: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(request).await?)
    }

    /// Takes in the next answer: status and body.
    pub async fn answer(&mut self) -> Result<(u16, &[u8])> {
        self.buffer.clear();
        let (head, length) = loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the market closed the connection");
            if let Some(head) = end_of_head(&self.buffer) {
                break (head, content_length(&self.buffer[..head])?);
            }
        };
        while self.buffer.len() < head + length {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the market closed the connection");
        }
        let status = std::str::from_utf8(&self.buffer[9..12])?.parse()?;
        Ok((status, &self.buffer[head..]))
    }

    /// The same where only success will do.
    pub async fn must(&mut self, request: &[u8]) -> Result<&[u8]> {
        let (status, body) = self.ask(request).await?;
        if !(200..300).contains(&status) {
            bail!("the market answered {status}: {}", String::from_utf8_lossy(body));
        }
        Ok(body)
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

fn content_length(head: &[u8]) -> Result<usize> {
    const NAME: &[u8] = b"content-length: ";
    let at = head.windows(NAME.len()).position(|w| w.eq_ignore_ascii_case(NAME)).context("an answer has a length")?;
    let digits = head[at + NAME.len()..].iter().take_while(|b| b.is_ascii_digit());
    Ok(digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}
