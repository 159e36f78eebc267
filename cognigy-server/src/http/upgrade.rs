//! Requests that offer an upgrade. The server declines it and treats each as an ordinary request.
//!
//! actix-http ends a connection that offered an upgrade, and its answer does not say so. It also
//! reads all bytes after a head with `Upgrade: websocket` as a stream without an end, whatever
//! length the head has. Neither can be configured. So here the answer says that the connection
//! ends, and the body ends after its announced length.

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

/// Makes an ordinary request of one that offers an upgrade. Yields whether its connection ends with
/// the answer.
pub(super) fn decline(request: &mut ServiceRequest) -> bool {
    let mut offers = request.headers().get_all(header::UPGRADE);
    let web_socket = offers.any(|it| it.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket"));
    // A chunked body has an end of its own.
    if web_socket && !request.headers().contains_key(header::TRANSFER_ENCODING) {
        // A length that is not a number was refused before.
        let length = request.headers().get(header::CONTENT_LENGTH);
        let left = length.and_then(|length| length.to_str().ok()?.trim().parse().ok()).unwrap_or(0);
        let body = Bounded { body: request.take_payload(), left };
        request.set_payload(Payload::Stream { payload: Box::pin(body) });
    }
    web_socket || request.head().upgrade()
}

/// The announced number of bytes of a stream.
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
            // The sender has closed the connection before its body was complete.
            None => {
                self.left = 0;
                Some(Err(PayloadError::Incomplete(None)))
            }
        })
    }
}
