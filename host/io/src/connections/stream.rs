//! A stream of bytes that ends by an error when its connection has to make room or has been silent for too long.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::{Connection, Permit};
use atomix_model::limits;

/// A stream that holds a permit of the connection table. Its reader and writer are woken when it has to end.
#[derive(Debug)]
pub struct BoundedStream<S> {
    stream: S,
    permit: Permit,
    /// Fires when the deadline of what the connection is doing may have passed.
    timer: Pin<Box<Sleep>>,
}

impl<S> BoundedStream<S> {
    /// Wraps a connection whose handshake, if the protocol has one, is done.
    pub fn new(stream: S, permit: Permit) -> BoundedStream<S> {
        permit.connection().received(0, permit.limits());
        let timer = Box::pin(tokio::time::sleep_until(Instant::now() + limits::CONNECTION_LOOK));
        let mut guarded = BoundedStream { stream, permit, timer };
        guarded.reset_timer();
        guarded
    }

    /// The entry of this connection in the table.
    pub fn connection(&self) -> Connection {
        self.permit.connection().clone()
    }

    fn reset_timer(&mut self) {
        let deadline = self.permit.connection().deadline(self.permit.limits());
        self.timer.as_mut().reset(deadline.unwrap_or_else(|| Instant::now() + limits::CONNECTION_LOOK));
    }

    /// An error once the connection has to end.
    fn check(&mut self, task: &mut Context<'_>) -> io::Result<()> {
        if self.permit.connection().poll_evicted(task).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection has to make room for another"));
        }
        while self.timer.as_mut().poll(task).is_ready() {
            if self.permit.connection().deadline(self.permit.limits()).is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the connection was silent for too long"));
            }
            self.reset_timer();
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BoundedStream<S> {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(task)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(task, buffer);
        if read.is_ready() {
            let state = this.permit.connection().state();
            this.permit.connection().received(buffer.filled().len() - before, this.permit.limits());
            if this.permit.connection().state() != state {
                this.reset_timer();
                let _ = this.timer.as_mut().poll(task); // it wakes the task that reads on
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BoundedStream<S> {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(task)?;
        Pin::new(&mut this.stream).poll_write(task, bytes)
    }

    // Without these two, each frame of an answer would take two writes: its head and its bytes.
    fn poll_write_vectored(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(task)?;
        Pin::new(&mut this.stream).poll_write_vectored(task, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(task)?;
        Pin::new(&mut this.stream).poll_flush(task)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(task)?;
        Pin::new(&mut this.stream).poll_shutdown(task)
    }
}
