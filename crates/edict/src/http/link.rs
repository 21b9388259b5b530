//! One connection to another process, driven by whoever uses it.
//!
//! HTTP clients commonly drive each connection in a task of its own. Every request then wakes that task, and with it
//! another thread, which costs more than all else that the request needs.

use axum::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::net::{TcpStream, ToSocketAddrs};

/// How long the other end may be silent, on the level of TCP, before the connection counts as broken.
const SILENCE: Duration = Duration::from_secs(20);

/// An open connection.
pub(super) struct Link {
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<TokioIo<TcpStream>, Full<Bytes>>,
    note: Arc<Note>,
    ended: bool,
}

/// Why a connection gave no answer.
pub(super) enum Failure {
    /// Nothing of the request was sent.
    Unsent(Box<Request<Full<Bytes>>>),
    /// It may have been carried out.
    Broken,
}

impl Link {
    pub(super) async fn open(address: impl ToSocketAddrs) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        // A request is one write, or a few: none waits for an acknowledgement of the one before.
        stream.set_nodelay(true)?;
        notice_silence(&stream)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok(Self { sender, connection, note: Arc::default(), ended: false })
    }

    /// Whether it takes another request: neither side has ended it.
    pub(super) fn is_open(&mut self) -> bool {
        if !self.ended {
            let mut context = Context::from_waker(Waker::noop());
            self.ended = Pin::new(&mut self.connection).poll(&mut context).is_ready();
        }
        !self.ended && self.sender.is_ready()
    }

    /// Sends a request and reads its whole answer. Whoever stops waiting for it must drop the connection.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, Failure> {
        let Self { sender, connection, note, ended } = self;
        let mut exchange = pin!(async {
            let response = sender.try_send_request(request).await.map_err(|mut error| {
                error.take_message().map_or(Failure::Broken, |request| Failure::Unsent(Box::new(request)))
            })?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|_| Failure::Broken)?;
            Ok(Response::from_parts(head, body.to_bytes()))
        });
        // Each goes on by what the other has done. If they woke this task for that, it would have to run again after its turn,
        // and the runtime would start another thread to share the work. So they leave a note, and are polled again here.
        let waker = Waker::from(Arc::clone(note));
        poll_fn(|context| {
            let mut aside = Context::from_waker(&waker);
            let mut connection = Pin::new(&mut *connection);
            loop {
                if let Poll::Ready(done) = exchange.as_mut().poll(&mut aside) {
                    return Poll::Ready(done);
                }
                if *ended {
                    return Poll::Ready(Err(Failure::Broken));
                }
                *ended = connection.as_mut().poll(&mut aside).is_ready();
                if !note.take() && !*ended {
                    break;
                }
            }
            // Nothing is left to do but to wait for the other side.
            *ended = connection.as_mut().poll(context).is_ready();
            match exchange.as_mut().poll(&mut aside) {
                Poll::Pending if *ended => Poll::Ready(Err(Failure::Broken)),
                polled => polled,
            }
        })
        .await
    }
}

/// Ends a connection whose other end has vanished without a word, such as with its node: what is sent is acknowledged, and so
/// are probes while nothing is.
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_user_timeout(stream, u32::try_from(SILENCE.as_millis()).unwrap_or(u32::MAX))?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE / 4)?;
    sockopt::set_tcp_keepintvl(stream, SILENCE / 4)?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}

/// Remembers that something wanted to be polled again.
#[derive(Default)]
struct Note(AtomicBool);

impl Note {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
