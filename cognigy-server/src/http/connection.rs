//! A connection as actix-web's HTTP sees it: the socket, and what the server knows about it.
//!
//! Between socket and HTTP, this module does three things for which actix-web has no hook.
//!
//! A connection that has to be closed (see [`super::connections`]) reads the end of its input, and
//! so ends in order.
//!
//! If a head cannot be read or does not arrive, actix-http answers by itself, with a status line
//! alone. This module sends a problem document in its place, as for every other error.
//!
//! Bytes that are not needed yet stay in the kernel, where the sender's window bounds them. By
//! itself actix-http reads up to 128 KiB ahead on each connection, although earlier requests have
//! no answer yet.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use actix_web::http::StatusCode;
use bytes::{Buf, Bytes};
use cognigy_core::Reply;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    connections::{Action, Connections, State},
    parts::Parts,
};
use crate::telemetry::{Refusals, refusal};

/// A head is read in parts of so many bytes, so that few of the bytes after it are read with it.
/// Most deliveries fit into one part with their bodies.
const HEAD_PART: usize = 4 * 1024;
/// A body is read in parts of so many bytes. actix-http holds as many for a handler.
const BODY_PART: usize = 32 * 1024;

/// A connection that the server holds.
pub(super) struct Connection {
    socket: TcpStream,
    state: Arc<State>,
    all: Arc<Connections>,
    refusals: Arc<Refusals>,
    /// The unsent rest of an answer that replaces a bare one.
    answer: Bytes,
    parts: Parts,
}

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
        peer: IpAddr,
        all: &Arc<Connections>,
        refusals: &Arc<Refusals>,
    ) -> Self {
        let state = all.enter(peer);
        let (all, refusals) = (Arc::clone(all), Arc::clone(refusals));
        Self { socket, state, all, refusals, answer: Bytes::new(), parts: Parts::default() }
    }

    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    /// The whole answer to bytes that cannot be read as a request.
    fn refuse(&self, status: u16) -> Bytes {
        let (detail, logged) = match status {
            408 if self.state.is_in_head() => {
                ("The request's head did not arrive in time", Some("head not complete in time"))
            }
            // The client sent no request: it connected in advance, or only probed the port.
            408 => ("No request arrived in time", None),
            431 => ("The request's head is too large", Some("head too large")),
            503 => ("Too many long heads at once", Some("too many long heads at once")),
            500.. => ("The request could not be answered", Some("request not answered")),
            _ => ("The request cannot be read", Some("request cannot be read")),
        };
        if let Some(reason) = logged {
            let peer = self.state.peer;
            refusal!(self.refusals.first(reason, peer), %peer, status, "refused: {reason}");
        }
        let title = StatusCode::from_u16(status).ok().and_then(|it| it.canonical_reason());
        let title = title.unwrap_or("Bad Request");
        let mut reply = Reply::problem(status, title, detail);
        if status == 503 {
            reply = reply.with_retry_after(1);
        }
        let date = httpdate::fmt_http_date(std::time::SystemTime::now());
        let mut answer = format!(
            "HTTP/1.1 {status} {title}\r\ncontent-length: {}\r\nconnection: close\r\n\
             cache-control: no-store\r\ndate: {date}\r\n",
            reply.body().len()
        );
        for (name, value) in reply.headers() {
            answer.push_str(&format!("{name}: {value}\r\n"));
        }
        answer.push_str("\r\n");
        let mut answer = answer.into_bytes();
        answer.extend_from_slice(reply.body());
        answer.into()
    }

    /// Sends the rest of an answer that replaces a bare one.
    fn send_answer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.answer.is_empty() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(context, &self.answer))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.answer.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.leave(&self.state);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.state.action() == Action::HeadRefused {
            if self.answer.is_empty() {
                self.answer = self.refuse(503);
            }
            return Poll::Ready(Ok(()));
        }
        if self.state.reads_later() {
            self.state.task.register(context.waker());
            if self.state.action() == Action::Cut {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            if self.parts.are_ahead() || self.socket.poll_read_ready(context)?.is_ready() {
                self.state.hold_back();
            }
            return Poll::Pending;
        }
        let this = &mut *self;
        let longest = if this.state.has_request() { BODY_PART } else { HEAD_PART };
        let read = this.parts.poll_read(&mut this.socket, context, buffer, longest);
        match read {
            Poll::Ready(Ok(bytes)) if bytes > 0 => {
                if self.state.received(bytes, &self.all).is_err() {
                    // The next read yields the end of the input.
                    self.state.set_action(Action::HeadRefused);
                }
            }
            Poll::Pending => {
                self.state.task.register(context.waker());
                match self.state.action() {
                    Action::Leave if !self.state.has_request() => return Poll::Ready(Ok(())),
                    Action::HeadTimedOut if !self.state.has_request() => {
                        if self.answer.is_empty() {
                            self.answer = self.refuse(408);
                        }
                        return Poll::Ready(Ok(()));
                    }
                    Action::Cut => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    _ => {}
                }
            }
            Poll::Ready(_) => {}
        }
        read.map_ok(drop)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.state.action() == Action::Cut {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        ready!(self.send_answer(context))?;
        let bytes = match bare_answer(bytes) {
            Some((0, status)) => {
                self.answer = self.refuse(status);
                // The next flush sends what does not fit into the socket now.
                if let Poll::Ready(Err(error)) = self.send_answer(context) {
                    return Poll::Ready(Err(error));
                }
                return Poll::Ready(Ok(bytes.len()));
            }
            Some((at, _)) => &bytes[..at],
            None => bytes,
        };
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        match written {
            Poll::Ready(Ok(sent)) => self.state.sent(sent, bytes.len()),
            Poll::Pending => {
                self.state.sent(0, bytes.len());
                self.state.task.register(context.waker());
            }
            Poll::Ready(Err(_)) => {}
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send_answer(context))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send_answer(context))?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// The position in `bytes` of an answer that actix-http gave by itself, and its status. Such an
/// answer is an error without a body, which no route of this server gives. It is always the last
/// answer.
fn bare_answer(bytes: &[u8]) -> Option<(usize, u16)> {
    /// Longer than any bare head: status, length, connection and date.
    const LONGEST: usize = 512;
    // Nearly every answer has a body, and no body of this server ends like this.
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let from = bytes.len().saturating_sub(LONGEST);
    let at = from + find_last(&bytes[from..], b"HTTP/1.")?;
    let head = &bytes[at..];
    let status = std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()?;
    let one_head = find_last(&head[..head.len() - 4], b"\r\n\r\n").is_none();
    let bare = head.to_ascii_lowercase();
    let empty = find_last(&bare, b"\r\ncontent-length: 0\r\n").is_some();
    (status >= 400 && one_head && empty).then_some((at, status))
}

fn find_last(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).rposition(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_answer_is_found_at_the_end_and_nothing_else_is_taken_for_one() {
        let bare = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n{\"status\":\"accepted\"}";
        let head_only = "HTTP/1.1 404 Not Found\r\ncontent-length: 105\r\n\r\n";
        assert_eq!(bare_answer(bare.as_bytes()), Some((0, 400)));
        let behind = format!("{whole}{bare}");
        assert_eq!(bare_answer(behind.as_bytes()), Some((whole.len(), 400)));
        for other in [
            whole,
            head_only,
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 4\r\n\r\n\r\n\r\n",
            "\r\n\r\n",
            "HTTP/1.",
            "",
        ] {
            assert_eq!(bare_answer(other.as_bytes()), None, "{other:?}");
        }
    }
}
