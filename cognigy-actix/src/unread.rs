//! Chunked bodies that are not read to their end: those of refused requests, and those of requests that
//! need none.
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
    http::header::{HeaderMap, TRANSFER_ENCODING},
    web,
};
use bytes::Bytes;
use futures_util::Stream;

/// A request's body, shared by its reader and the answer.
#[derive(Clone)]
pub struct Unread(Rc<RefCell<Payload>>);

impl Unread {
    /// Holds a request's chunked body, so that the connection ends with the answer if the body was not
    /// read to its end. For a middleware.
    pub fn hold(request: &mut ServiceRequest) -> Option<Self> {
        if !is_chunked(request.headers()) {
            return None;
        }
        let held = Self(Rc::new(RefCell::new(request.take_payload())));
        request.set_payload(held.clone().into_payload());
        Some(held)
    }

    /// The same for a handler: the body to read, and what has to be held.
    pub(crate) fn of(headers: &HeaderMap, body: web::Payload) -> (Payload, Option<Self>) {
        let body = body.into_inner();
        if !is_chunked(headers) {
            return (body, None);
        }
        let held = Self(Rc::new(RefCell::new(body)));
        (held.clone().into_payload(), Some(held))
    }

    fn into_payload(self) -> Payload {
        Payload::Stream { payload: Box::pin(self) }
    }

    /// An answer with `body` that holds the request's body until it is sent.
    #[must_use]
    pub fn until_after(self, body: BoxBody) -> BoxBody {
        BoxBody::new(Answer { body, _unread: self })
    }
}

/// actix-web ends the connection by itself where a body of known length is left unread.
fn is_chunked(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
}

impl Stream for Unread {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(context)
    }
}

/// An answer that holds its request's body until it is sent.
struct Answer {
    body: BoxBody,
    _unread: Unread,
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
