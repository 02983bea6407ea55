//! What every server of ours bounds: how many connections are open at once, and how long and how
//! large the head of a request may be. A flood of them takes no more than that.

use axum_server::Server;
use axum_server::accept::Accept;
use futures_util::future::BoxFuture;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long the head of a request may take, and a connection lie idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest head of a request.
const LARGEST_HEAD_BYTES: usize = 64 << 10;
/// The most headers of a request.
const MOST_HEADERS: usize = 64;
/// The most connections, where the operating system allows that many files.
const MOST_CONNECTIONS: u64 = 8192;

/// How many connections there is room for: half of the files, the rest is for all else.
pub fn room() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(MOST_CONNECTIONS * 2);
    usize::try_from((files / 2).min(MOST_CONNECTIONS)).unwrap_or(64)
}

/// A server of HTTP/1.1 that waits for nobody's headers for long, and takes no large ones.
pub fn bounded(server: Server<SocketAddr>) -> Server<SocketAddr> {
    let mut server = server
        .http1_only()
        .first_request_timeout(HEADER_TIMEOUT)
        .accept_error_handler(|peer, error| tracing::debug!(?peer, %error, "a connection was not taken"));
    let mut http = server.http_builder().http1();
    http.header_read_timeout(HEADER_TIMEOUT).max_headers(MOST_HEADERS).max_buf_size(LARGEST_HEAD_BYTES);
    server
}

/// Accepts connections while there is room; closes the others at once.
#[derive(Debug, Clone)]
pub struct Capped<A> {
    inner: A,
    room: Arc<Semaphore>,
}

impl<A> Capped<A> {
    /// Room for `most` at once.
    pub fn new(inner: A, most: usize) -> Self {
        Self { inner, room: Arc::new(Semaphore::new(most)) }
    }
}

/// A connection, and its place.
#[derive(Debug)]
pub struct Placed<S> {
    stream: S,
    _place: OwnedSemaphorePermit,
}

impl<A, I, S> Accept<I, S> for Capped<A>
where
    A: Accept<I, S>,
    A::Future: Send + 'static,
{
    type Stream = Placed<A::Stream>;
    type Service = A::Service;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let place = self.room.clone().try_acquire_owned();
        let accepted = self.inner.accept(stream, service);
        Box::pin(async move {
            let place = place.map_err(|_| io::Error::other("too many connections are open"))?;
            let (stream, service) = accepted.await?;
            Ok((Placed { stream, _place: place }, service))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Placed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Placed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
