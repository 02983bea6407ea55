//! The socket under a connection: it can be cut at once, and it notices what russh refuses without
//! asking us.
//!
//! russh answers a certificate that is out of its time by itself, and says nothing of it. A client
//! should still learn why. So: while authentication runs, an answer that goes out after something
//! came in, without any of our callbacks in between, was such a refusal.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What passed by during authentication.
#[derive(Debug, Default)]
pub struct AuthWatch {
    active: AtomicBool,
    asked: AtomicBool,
    heard: AtomicBool,
    was_refused: AtomicBool,
    refused: Notify,
}

impl AuthWatch {
    /// One of our callbacks was called: what comes next is our answer.
    pub fn asked(&self) {
        self.active.store(true, Ordering::Release);
        self.asked.store(true, Ordering::Release);
    }

    /// Authentication is over.
    pub fn over(&self) {
        self.active.store(false, Ordering::Release);
    }

    /// Returns when russh refused something by itself.
    pub async fn refused_unasked(&self) {
        self.refused.notified().await;
    }

    /// Whether russh ever refused something by itself.
    pub fn was_refused(&self) -> bool {
        self.was_refused.load(Ordering::Acquire)
    }

    fn read_some(&self) {
        self.heard.store(true, Ordering::Release);
    }

    fn wrote_some(&self) {
        let (heard, asked) = (self.heard.swap(false, Ordering::AcqRel), self.asked.swap(false, Ordering::AcqRel));
        if heard && !asked && self.active.load(Ordering::Acquire) {
            self.was_refused.store(true, Ordering::Release);
            self.refused.notify_one();
        }
    }
}

/// A socket that is watched and can be cut.
pub struct Guarded<S> {
    inner: S,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    watch: Arc<AuthWatch>,
}

impl<S> Guarded<S> {
    pub fn new(inner: S, cut: CancellationToken, watch: Arc<AuthWatch>) -> Self {
        Self { inner, cut: Box::pin(cut.cancelled_owned()), watch }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(was_cut()),
            Poll::Pending => Ok(()),
        }
    }
}

fn was_cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut by this host")
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.watch.read_some();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let count = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.watch.wrote_some();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
