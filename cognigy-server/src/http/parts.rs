//! Reads a connection in parts that hold little more than one request.
//!
//! actix-http reads up to 128 KiB ahead and makes requests of all of it, at 7 KB of memory each,
//! although the first request of 18 bytes has no answer yet. Here a part ends where a third request
//! could begin. The next part is read after actix-http has seen the last one.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use memchr::memmem;
use tokio::io::{AsyncRead, ReadBuf};

/// The text that the first line of every request contains.
const VERSION: &[u8] = b"HTTP/1.";

/// Reads the bytes of a socket in parts.
#[derive(Default)]
pub(super) struct Parts {
    /// Bytes that were read and belong to the next part.
    ahead: Bytes,
    /// Whether actix-http has to see the last part before there is another.
    pauses: bool,
}

impl Parts {
    /// Whether there are bytes to read without the socket.
    pub(super) fn are_ahead(&self) -> bool {
        self.pauses || !self.ahead.is_empty()
    }

    /// Reads a part of at most `longest` bytes. Yields its length, which is 0 at the end of the
    /// input.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        longest: usize,
    ) -> Poll<io::Result<usize>> {
        if mem::take(&mut self.pauses) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let room = longest.min(buffer.remaining());
        let space = buffer.initialize_unfilled_to(room);
        let mut length = room.min(self.ahead.len());
        let was_ahead = length > 0;
        if was_ahead {
            self.ahead.copy_to_slice(&mut space[..length]);
        } else {
            let mut read = ReadBuf::new(space);
            ready!(Pin::new(socket).poll_read(context, &mut read))?;
            length = read.filled().len();
        }
        let whole = &space[..length];
        let part = first_part(whole);
        if part < length {
            self.ahead = Bytes::from([&whole[part..], &self.ahead].concat());
        }
        self.pauses = was_ahead || length == room || part < length;
        buffer.advance(part);
        Poll::Ready(Ok(part))
    }
}

/// The length of the part of `bytes` that holds at most one whole request and the first line of
/// another.
fn first_part(bytes: &[u8]) -> usize {
    let second = memmem::find_iter(bytes, VERSION).nth(1);
    second.map_or(bytes.len(), |at| at + VERSION.len())
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// The parts of `input`, and how often the reader had to pause.
    fn parts_of(mut input: &[u8], longest: usize, capacity: usize) -> (Vec<Vec<u8>>, usize) {
        let mut parts = Parts::default();
        let mut context = Context::from_waker(Waker::noop());
        let (mut all, mut pauses) = (Vec::new(), 0);
        loop {
            let mut memory = vec![0; capacity];
            let mut buffer = ReadBuf::new(&mut memory);
            match parts.poll_read(&mut input, &mut context, &mut buffer, longest) {
                Poll::Pending => pauses += 1,
                Poll::Ready(Ok(0)) => return (all, pauses),
                Poll::Ready(length) => {
                    assert_eq!(length.unwrap(), buffer.filled().len());
                    all.push(buffer.filled().to_vec());
                }
            }
        }
    }

    #[test]
    fn a_delivery_is_one_part_and_many_requests_are_many() {
        let delivery = b"POST /w HTTP/1.1\r\nContent-Length: 12\r\n\r\n{\"a\":\n\n\n\n1}";
        assert_eq!(parts_of(delivery, 4096, 8192), (vec![delivery.to_vec()], 0));
        let requests = b"GET / HTTP/1.1\r\n\r\n".repeat(1_000);
        for (longest, capacity) in [(4096, 8192), (4096, 100), (7, 100), (32_768, 32_768)] {
            let (parts, pauses) = parts_of(&requests, longest, capacity);
            assert!(parts.concat() == requests, "each byte once, in order");
            let most = parts.iter().map(|part| memmem::find_iter(part, VERSION).count()).max();
            assert!(most <= Some(2));
            assert!(pauses + 1 >= parts.len(), "each is seen before the next: {pauses}");
        }
    }

    #[test]
    fn a_long_body_comes_in_parts_of_the_longest_there_may_be() {
        let body = vec![b'x'; 100_000];
        let (parts, pauses) = parts_of(&body, 32_768, 65_536);
        let lengths: Vec<_> = parts.iter().map(Vec::len).collect();
        assert_eq!(lengths, [32_768, 32_768, 32_768, 1_696]);
        assert_eq!(pauses, 3);
    }
}
