//! Chunked bodies that are not read to their end: those of refused requests, and those of requests
//! that need none.
//!
//! After the answer actix-web reads such a body on, for as long as the sender sends more or keeps
//! it open, and the connection's slot is not free meanwhile. It does so once the request has
//! dropped the body.
//!
//! Here the answer holds the body until it is sent. An unread body then ends the connection, within
//! the second that actix-web gives the client to read the answer.

use std::{
    cell::RefCell,
    error::Error as StdError,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::{
    HttpMessage,
    body::{BodySize, BoxBody, MessageBody},
    dev::{Payload, ServiceRequest},
    error::PayloadError,
    http::header,
};
use bytes::Bytes;
use futures_util::Stream;

/// Holds a request's chunked body, so that the connection ends with the answer if the body was not
/// read to its end.
pub(super) fn hold(request: &mut ServiceRequest) -> Option<Held> {
    if !request.headers().contains_key(header::TRANSFER_ENCODING) {
        // actix-web ends the connection by itself where a body of known length is left unread.
        return None;
    }
    let held = Held(Rc::new(RefCell::new(request.take_payload())));
    request.set_payload(Payload::Stream { payload: Box::pin(held.clone()) });
    Some(held)
}

/// A request's body, shared by its reader and the answer.
#[derive(Clone)]
pub(super) struct Held(Rc<RefCell<Payload>>);

impl Held {
    /// An answer with `body` that holds the request's body until it is sent.
    pub(super) fn until_after(self, body: BoxBody) -> BoxBody {
        BoxBody::new(Answer { body, _unread: self })
    }
}

impl Stream for Held {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(context)
    }
}

/// An answer that holds its request's body until it is sent.
struct Answer {
    body: BoxBody,
    _unread: Held,
}

impl MessageBody for Answer {
    type Error = Box<dyn StdError>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(context)
    }
}
