//! Requests that offer an upgrade which is not taken up: each is an ordinary request.
//!
//! actix-http ends a connection that offered one without a word in its answer, and takes whatever
//! follows a head with `Upgrade: websocket` for a stream without an end, whatever length the head
//! says. Neither can be told otherwise, so the answer says that the connection ends, and the body ends
//! where its length says.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    HttpMessage,
    dev::{Payload, ServiceRequest},
    error::PayloadError,
    http::header,
};
use bytes::Bytes;
use futures_util::Stream;

/// Makes an ordinary request of one that offers an upgrade; whether its connection ends with the
/// answer.
pub(super) fn decline(request: &mut ServiceRequest) -> bool {
    let mut offers = request.headers().get_all(header::UPGRADE);
    let web_socket = offers.any(|it| it.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket"));
    // Chunks have an end of their own, and are read as such.
    if web_socket && !request.headers().contains_key(header::TRANSFER_ENCODING) {
        // A length that is no number was refused before.
        let length = request.headers().get(header::CONTENT_LENGTH);
        let left = length.and_then(|length| length.to_str().ok()?.trim().parse().ok()).unwrap_or(0);
        let body = Bounded { body: request.take_payload(), left };
        request.set_payload(Payload::Stream { payload: Box::pin(body) });
    }
    web_socket || request.head().upgrade()
}

/// The first bytes of a stream, as many as were announced.
struct Bounded {
    body: Payload,
    left: u64,
}

impl Stream for Bounded {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let next = std::task::ready!(Pin::new(&mut self.body).poll_next(context));
        Poll::Ready(match next {
            Some(Ok(mut chunk)) => {
                chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= chunk.len() as u64;
                Some(Ok(chunk))
            }
            Some(error) => Some(error),
            // The sender has gone before its body was whole.
            None => {
                self.left = 0;
                Some(Err(PayloadError::Incomplete(None)))
            }
        })
    }
}
