//! Answers that their server has encoded by itself.

use std::marker::PhantomData;

use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut, Bytes},
    encoding::{DecodeContext, WireType, skip_field},
};

/// A `T` as its bytes: a server that has its parts at hand in another form doesn't build it first.
#[derive(Clone, PartialEq)]
pub struct Encoded<T> {
    bytes: Bytes,
    of: PhantomData<fn() -> T>,
}

impl<T> Encoded<T> {
    /// The answer that these bytes are; whoever makes them knows that they are a `T`.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Encoded {
            bytes,
            of: PhantomData,
        }
    }
}

impl<T> std::fmt::Debug for Encoded<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

impl<T> Default for Encoded<T> {
    fn default() -> Self {
        Encoded::new(Bytes::new())
    }
}

/// A message that is only ever encoded: clients decode a `T`.
impl<T: Send + Sync> Message for Encoded<T> {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.bytes);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buf, context)
    }

    fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
    }
}
