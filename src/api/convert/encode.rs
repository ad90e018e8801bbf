//! Messages as the contract's bytes, written straight from what the database sent. Building them as [`pb::Message`] first
//! would copy each of their texts twice, and takes a dozen allocations each.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};

use super::{message::role_to_pb, time_to_pb};
use crate::domain::message::MessageRef;
use chatledger_protocol as pb;

/// The number of `messages` in the answers that have a list of them, and of `next_page_token`.
const MESSAGES: u32 = 1;
const NEXT_PAGE_TOKEN: u32 = 2;

/// A list of messages while it is encoded.
pub(in crate::api) struct MessageList {
    encoded: BytesMut,
    /// Where each message ends, the first one's beginning before them.
    ends: Vec<usize>,
    /// The message that is being encoded: its length comes before it.
    message: BytesMut,
    /// The same of what is within it.
    part: BytesMut,
}

impl MessageList {
    /// An empty list, with room for so many bytes.
    pub(in crate::api) fn with_capacity(bytes: usize) -> Self {
        MessageList {
            encoded: BytesMut::with_capacity(bytes),
            ends: vec![0],
            message: BytesMut::new(),
            part: BytesMut::new(),
        }
    }

    /// How many messages there are.
    pub(in crate::api) fn len(&self) -> usize {
        self.ends.len() - 1
    }

    /// The memory that they take.
    pub(in crate::api) fn capacity(&self) -> usize {
        self.encoded.capacity()
    }

    /// The bytes of them.
    pub(in crate::api) fn bytes(&self) -> usize {
        self.encoded.len()
    }

    /// Adds a message.
    pub(in crate::api) fn push(&mut self, message: &MessageRef<'_>) {
        self.message.clear();
        write_message(&mut self.message, &mut self.part, message);
        nested(&mut self.encoded, MESSAGES, &self.message);
        self.ends.push(self.encoded.len());
    }

    /// Takes the last message away.
    pub(in crate::api) fn pop(&mut self) {
        if self.ends.len() > 1 {
            self.ends.pop();
            self.encoded.truncate(self.ends[self.ends.len() - 1]); // the beginning stays
        }
    }

    /// Turns the order round.
    pub(in crate::api) fn reverse(&mut self) {
        let mut reversed = BytesMut::with_capacity(self.encoded.len());
        let mut ends = vec![0];
        for place in self.ends.windows(2).rev() {
            reversed.put_slice(&self.encoded[place[0]..place[1]]);
            ends.push(reversed.len());
        }
        self.encoded = reversed;
        self.ends = ends;
    }

    /// The list as a page.
    pub(in crate::api) fn into_page(
        mut self,
        next_page_token: &str,
    ) -> pb::Encoded<pb::ListMessagesResponse> {
        text(&mut self.encoded, NEXT_PAGE_TOKEN, next_page_token);
        pb::Encoded::new(self.encoded.freeze())
    }

    /// The list as bytes of a response that has nothing else.
    pub(in crate::api) fn into_bytes(self) -> Bytes {
        self.encoded.freeze()
    }
}

/// A `Message`, field by field in the order of their numbers. What has its default value is left out, as by every encoder.
fn write_message(out: &mut BytesMut, part: &mut BytesMut, message: &MessageRef<'_>) {
    let mut buffer = uuid::Uuid::encode_buffer();
    text(out, 1, message.id.hyphenated().encode_lower(&mut buffer));
    text(out, 2, message.session_id.hyphenated().encode_lower(&mut buffer));
    number(out, 3, message.seq);
    number(out, 4, i32::from(role_to_pb(message.role)).into());
    text(out, 5, message.content);
    if let Some(selected_text) = message.selected_text {
        nested(out, 6, selected_text.as_bytes());
    }
    text(out, 7, message.metadata);
    if let Some(payload) = message.payload {
        nested(out, 8, payload);
    }
    for citation in &message.citations {
        part.clear();
        text(part, 1, citation.document_id);
        text(part, 2, citation.chunk_id);
        if citation.score != 0.0 {
            encode_key(3, WireType::SixtyFourBit, part);
            part.put_f64_le(citation.score);
        }
        number(part, 4, citation.index.into());
        nested(out, 9, part);
    }
    let time = time_to_pb(message.created_at);
    part.clear();
    number(part, 1, time.seconds);
    number(part, 2, time.nanos.into());
    nested(out, 10, part);
}

/// A field of bytes: a text, or a message within the message.
fn nested(out: &mut BytesMut, field: u32, bytes: &[u8]) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

/// A text, unless it is empty.
fn text(out: &mut BytesMut, field: u32, text: &str) {
    if !text.is_empty() {
        nested(out, field, text.as_bytes());
    }
}

/// A number, unless it is 0.
fn number(out: &mut BytesMut, field: u32, number: i64) {
    if number != 0 {
        encode_key(field, WireType::Varint, out);
        encode_varint(number.cast_unsigned(), out);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use prost::Message as _;
    use uuid::Uuid;

    use super::*;
    use crate::{
        api::convert::message_to_pb,
        domain::{
            citation::{Citation, CitationRef},
            message::{Message, Role},
        },
    };

    fn messages() -> Vec<Message> {
        let citation = |index, score| Citation {
            document_id: "d".repeat(200),
            chunk_id: if index == 2 {
                String::new()
            } else {
                "é".to_owned()
            },
            score,
            index,
        };
        let full = Message {
            id: Uuid::now_v7(),
            session_id: Uuid::max(),
            seq: i64::MAX,
            role: Role::Tool,
            content: "x".repeat(70_000),
            selected_text: Some(String::new()),
            metadata: "{\"a\": 1}".to_owned(),
            payload: Some(Bytes::from_static(b"\0\xff")),
            created_at: Timestamp::from_microsecond(-1).expect("a time"),
            citations: vec![citation(1, 0.5), citation(2, 0.0), citation(i32::MAX, -1e100)],
        };
        let empty = Message {
            seq: 0,
            role: Role::User,
            content: String::new(),
            selected_text: None,
            metadata: String::new(),
            payload: None,
            created_at: Timestamp::UNIX_EPOCH,
            citations: Vec::new(),
            ..full.clone()
        };
        vec![
            full,
            empty.clone(),
            Message {
                payload: Some(Bytes::new()),
                ..empty
            },
        ]
    }

    fn borrowed(message: &Message) -> MessageRef<'_> {
        let citations = message.citations.iter().map(|citation| CitationRef {
            document_id: &citation.document_id,
            chunk_id: &citation.chunk_id,
            score: citation.score,
            index: citation.index,
        });
        MessageRef {
            id: message.id,
            session_id: message.session_id,
            seq: message.seq,
            role: message.role,
            content: &message.content,
            selected_text: message.selected_text.as_deref(),
            metadata: &message.metadata,
            payload: message.payload.as_deref(),
            citations: citations.collect(),
            created_at: message.created_at,
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_generated_types() {
        let all = messages();
        let mut expected = pb::ListMessagesResponse {
            messages: all.iter().cloned().map(message_to_pb).collect(),
            next_page_token: "next".to_owned(),
        };
        let list = || {
            let mut list = MessageList::with_capacity(0);
            for message in &all {
                list.push(&borrowed(message));
            }
            list
        };
        assert_eq!(list().len(), 3);
        assert_eq!(list().into_page("next").encode_to_vec(), expected.encode_to_vec());
        let mut reversed = list();
        reversed.pop();
        reversed.reverse();
        expected.messages.truncate(2);
        expected.messages.reverse();
        assert_eq!(
            reversed.into_page("next").encode_to_vec(),
            expected.encode_to_vec()
        );
        let read = pb::ReadMessagesResponse {
            messages: expected.messages,
        };
        let mut two = list();
        two.pop();
        two.reverse();
        assert_eq!(two.into_bytes(), read.encode_to_vec());
    }
}
