//! The walk over a message's bytes before anything is built of them: is it well-formed, how often do its fields
//! occur, and how much memory will it take? What is found wrong has the path of its field.

use super::shape::{FieldKind, FieldShape, RepeatedField, Shape, Shapes};
use crate::domain::Error;

/// How deep groups that nobody knows may go: prost's own limit.
const MAX_DEPTH: usize = 100;
/// An element with a text of its own is an allocation, whose place in the heap takes so much besides.
const ALLOCATION: usize = 16;

/// The result of a part of the walk.
type WalkResult<T = ()> = Result<T, ScanViolation>;

/// A violation of the contract, and where it is.
struct ScanViolation {
    /// From the inside out.
    path: Vec<String>,
    description: String,
}

/// The rules by which a message is looked at.
#[derive(Clone, Copy)]
pub(super) struct ScanRules {
    /// The most bytes that it may become.
    pub(super) most_built: usize,
    /// Whether only the message's own lists are limited, and not those of its elements: an entry of a stream that is
    /// wrong has an answer of its own, which tells of it.
    pub(super) own_lists_only: bool,
}

/// Answers how many bytes a message will take in memory.
///
/// # Errors
/// [`Error::Invalid`]: what is wrong first.
pub(super) fn scan(shapes: &Shapes, input: usize, bytes: &[u8], rules: ScanRules) -> Result<usize, Error> {
    let mut scan = Scan {
        shapes,
        counts: vec![0; shapes.repeated],
        built: shapes.shape(input).size,
        rules,
    };
    let walked = scan
        .message(shapes.shape(input), bytes, 0)
        .and_then(|()| scan.enough(shapes.shape(input)));
    match walked {
        Ok(()) => Ok(scan.built),
        Err(violation) => Err(violation.into_error()),
    }
}

impl ScanViolation {
    fn new(description: impl Into<String>) -> Self {
        ScanViolation {
            path: Vec::new(),
            description: description.into(),
        }
    }

    fn within(mut self, name: impl Into<String>) -> Self {
        self.path.push(name.into());
        self
    }

    fn into_error(mut self) -> Error {
        self.path.reverse();
        let field = self.path.join(".");
        Error::invalid(
            if field.is_empty() { "request" } else { &field },
            self.description,
        )
    }
}

struct Scan<'a> {
    shapes: &'a Shapes,
    /// How often each repeated field has occurred in the element that is being walked.
    counts: Vec<usize>,
    built: usize,
    rules: ScanRules,
}

impl Scan<'_> {
    /// Walks a message. One that occurs more than once in a singular field is one message, whose lists go on.
    fn message(&mut self, shape: &Shape, mut bytes: &[u8], depth: usize) -> WalkResult {
        if depth > MAX_DEPTH {
            return Err(ScanViolation::new("is nested too deeply"));
        }
        while !bytes.is_empty() {
            let (number, wire) = key(&mut bytes)?;
            match shape.field(number) {
                Some(field) => self.field(field, wire, &mut bytes, depth)?,
                None => skip(number, wire, &mut bytes, 0)?,
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &FieldShape, wire: u8, bytes: &mut &[u8], depth: usize) -> WalkResult {
        let index = field
            .repeated
            .as_ref()
            .map(|repeated| self.counts[repeated.number]);
        self.value(field, wire, bytes, depth)
            .map_err(|violation| match index {
                // A list that is too long is wrong itself, and not its element.
                Some(_)
                    if violation.path.first().is_some_and(String::is_empty) && violation.path.len() == 1 =>
                {
                    ScanViolation {
                        path: vec![field.name.clone()],
                        ..violation
                    }
                }
                Some(index) => violation.within(format!("{}[{index}]", field.name)),
                None => violation.within(field.name.clone()),
            })
    }

    fn value(&mut self, field: &FieldShape, wire: u8, bytes: &mut &[u8], depth: usize) -> WalkResult {
        match (field.kind, wire) {
            (FieldKind::Varint, 0) => varint(bytes).map(drop)?,
            (FieldKind::Fixed64, 1) => drop(take(bytes, 8)?),
            (FieldKind::Fixed32, 5) => drop(take(bytes, 4)?),
            (FieldKind::Varint | FieldKind::Fixed64 | FieldKind::Fixed32, 2) => {
                let Some(repeated) = &field.repeated else {
                    return Err(ScanViolation::new(WRONG_TYPE));
                };
                return self.packed(field.kind, repeated, delimited(bytes)?);
            }
            (FieldKind::String, 2) => {
                let text = delimited(bytes)?;
                if std::str::from_utf8(text).is_err() {
                    return Err(ScanViolation::new("is not valid UTF-8"));
                }
                self.takes(text.len() + ALLOCATION)?;
            }
            // It becomes a part of the bytes that were received.
            (FieldKind::Bytes, 2) => drop(delimited(bytes)?),
            (FieldKind::Message(inner), 2) => {
                let inner = self.shapes.shape(inner);
                let bytes = delimited(bytes)?;
                if let Some(repeated) = &field.repeated {
                    self.element(repeated)?;
                    for list in &inner.repeated {
                        self.counts[*list] = 0;
                    }
                }
                return self.message(inner, bytes, depth + 1);
            }
            _ => return Err(ScanViolation::new(WRONG_TYPE)),
        }
        match &field.repeated {
            Some(repeated) => self.element(repeated),
            None => Ok(()),
        }
    }

    fn packed(&mut self, kind: FieldKind, repeated: &RepeatedField, mut bytes: &[u8]) -> WalkResult {
        while !bytes.is_empty() {
            match kind {
                FieldKind::Fixed64 => drop(take(&mut bytes, 8)?),
                FieldKind::Fixed32 => drop(take(&mut bytes, 4)?),
                _ => varint(&mut bytes).map(drop)?,
            }
            self.element(repeated)?;
        }
        Ok(())
    }

    fn element(&mut self, repeated: &RepeatedField) -> WalkResult {
        let count = &mut self.counts[repeated.number];
        *count += 1;
        if *count > repeated.most && (repeated.is_own || !self.rules.own_lists_only) {
            let most = repeated.most;
            return Err(ScanViolation::new(format!("must have at most {most} elements")).within(""));
        }
        self.takes(repeated.element)
    }

    fn takes(&mut self, bytes: usize) -> WalkResult {
        self.built += bytes;
        if self.built > self.rules.most_built {
            let most = self.rules.most_built;
            return Err(ScanViolation::new(format!(
                "is where the request takes more than the {most} bytes of memory that one may"
            )));
        }
        Ok(())
    }

    /// Whether the message's own lists have what they need.
    fn enough(&self, shape: &Shape) -> WalkResult {
        for field in shape.fields() {
            if let Some(repeated) = &field.repeated
                && self.counts[repeated.number] < repeated.least
            {
                let RepeatedField { least, most, .. } = repeated;
                let text = format!("must have {least} to {most} elements, has none");
                return Err(ScanViolation::new(text).within(field.name.clone()));
            }
        }
        Ok(())
    }
}

const WRONG_TYPE: &str = "is not of its type in the contract";
const CUT_OFF: &str = "is not a protobuf message: it ends too early";

/// A field's number and wire type.
fn key(bytes: &mut &[u8]) -> WalkResult<(u32, u8)> {
    let key = varint(bytes)?;
    let number = u32::try_from(key >> 3).unwrap_or(0);
    // What fits in three bits fits in eight.
    let wire = (key & 7) as u8;
    if number == 0 || number > MAX_FIELD {
        return Err(ScanViolation::new(
            "is not a protobuf message: it has a field whose number is none",
        ));
    }
    Ok((number, wire))
}

/// Protobuf's own limit.
const MAX_FIELD: u32 = (1 << 29) - 1;

fn varint(bytes: &mut &[u8]) -> WalkResult<u64> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * i);
        if byte < 0x80 {
            // The tenth has one bit.
            if i == 9 && byte > 1 {
                break;
            }
            *bytes = &bytes[i + 1..];
            return Ok(value);
        }
    }
    Err(ScanViolation::new(if bytes.len() < 10 {
        CUT_OFF
    } else {
        "is not a protobuf message: it has a number that is too long"
    }))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> WalkResult<&'a [u8]> {
    let (taken, rest) = bytes
        .split_at_checked(length)
        .ok_or_else(|| ScanViolation::new(CUT_OFF))?;
    *bytes = rest;
    Ok(taken)
}

fn delimited<'a>(bytes: &mut &'a [u8]) -> WalkResult<&'a [u8]> {
    let length = varint(bytes)?;
    take(bytes, usize::try_from(length).unwrap_or(usize::MAX))
}

/// Passes over a field that the contract doesn't have.
fn skip(number: u32, wire: u8, bytes: &mut &[u8], depth: usize) -> WalkResult {
    match wire {
        0 => varint(bytes).map(drop),
        1 => take(bytes, 8).map(drop),
        2 => delimited(bytes).map(drop),
        5 => take(bytes, 4).map(drop),
        3 if depth < MAX_DEPTH => loop {
            let (inner, wire) = key(bytes)?;
            match wire {
                4 if inner == number => return Ok(()),
                _ => skip(inner, wire, bytes, depth + 1)?,
            }
        },
        _ => Err(ScanViolation::new(
            "is not a protobuf message: it has a field whose type is none",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use prost::Message;

    use super::*;
    use crate::domain::Limits;
    use chatledger_protocol::{self as pb, DESCRIPTORS};

    const STREAM: &str = "/chatledger.v1.MessageService/StreamAppendMessages";
    const BATCH: &str = "/chatledger.v1.MessageService/BatchAppendMessages";

    fn run(path: &str, bytes: &[u8]) -> Result<usize, String> {
        let shapes = Shapes::read(DESCRIPTORS, &Limits::default()).expect("shapes");
        let method = shapes.method(path).expect("a method");
        let rules = ScanRules {
            most_built: 64 << 20,
            own_lists_only: method.client_streams,
        };
        scan(&shapes, method.input, bytes, rules).map_err(|error| error.to_string())
    }

    fn entry(citations: usize) -> pb::AppendEntry {
        pb::AppendEntry {
            session_id: "0193b2a4-7c1e-7d2a-9f3b-5e8d1c0a4b6f".to_owned(),
            message: Some(pb::NewMessage {
                content: "x".repeat(400),
                citations: vec![pb::Citation::default(); citations],
                ..Default::default()
            }),
        }
    }

    #[test]
    fn structs_take_no_more_than_is_counted() {
        let shapes = Shapes::read(DESCRIPTORS, &Limits::default()).expect("shapes");
        let size = |path: &str| shapes.shape(shapes.method(path).expect("a method").input).size;
        macro_rules! counted {
            ($($service:ident/$method:ident: $request:ident),* $(,)?) => {$(
                let path = concat!("/chatledger.v1.", stringify!($service), "/", stringify!($method));
                assert!(size(path) >= size_of::<pb::$request>(), "{path}");
            )*};
        }
        counted!(
            MessageService/AppendMessage: AppendMessageRequest,
            MessageService/BatchAppendMessages: BatchAppendMessagesRequest,
            MessageService/ListMessages: ListMessagesRequest,
            MessageService/SearchMessages: SearchMessagesRequest,
            CitationService/AddCitations: AddCitationsRequest,
            SessionService/CreateSession: CreateSessionRequest,
            UserService/CreateUser: CreateUserRequest,
            ProfileService/UpdateProfile: UpdateProfileRequest,
            DocumentService/UpsertDocument: UpsertDocumentRequest,
        );
        // Elements: their lists may have twice the room.
        let frame = pb::StreamAppendMessagesRequest {
            entries: vec![entry(1); 100],
        };
        let elements = 100 * (size_of::<pb::AppendEntry>() + size_of::<pb::Citation>()) + 100 * 436;
        assert!(run(STREAM, &frame.encode_to_vec()).expect("fine") > elements);
    }

    #[test]
    fn lists_are_counted_wherever_their_elements_are() {
        let empty_messages = [0x12, 0].repeat(501);
        assert_eq!(
            run(BATCH, &empty_messages),
            Err("messages must have at most 500 elements".to_owned())
        );
        // One message in many parts, each with a citation.
        let append = "/chatledger.v1.MessageService/AppendMessage";
        let parts = [0x12, 2, 0x3A, 0].repeat(101);
        assert_eq!(
            run(append, &parts),
            Err("message.citations must have at most 100 elements".to_owned())
        );
        assert!(run(append, &parts[..400]).is_ok());
        // Packed and not.
        let list = "/chatledger.v1.MessageService/ListMessages";
        let packed = [&[0x42, 100][..], &[1; 100]].concat();
        assert!(run(list, &packed).is_ok());
        let more = [&packed[..], &[0x40, 1]].concat();
        assert_eq!(
            run(list, &more),
            Err("roles must have at most 100 elements".to_owned())
        );
        // Each message has its own.
        let batch = pb::BatchAppendMessagesRequest {
            messages: (0..500).map(|_| entry(100).message.expect("one")).collect(),
            ..Default::default()
        };
        assert!(run(BATCH, &batch.encode_to_vec()).is_ok());
    }

    #[test]
    fn an_entry_with_too_many_citations_is_let_through_and_a_frame_that_takes_too_much_is_not() {
        let frame = |citations| pb::StreamAppendMessagesRequest {
            entries: vec![entry(0), entry(citations)],
        };
        assert!(run(STREAM, &frame(1000).encode_to_vec()).is_ok());
        let error = run(STREAM, &frame(1_000_000).encode_to_vec()).expect_err("too much");
        assert!(error.starts_with("entries[1].message.citations["), "{error}");
        assert_eq!(
            run(STREAM, &[]),
            Err("entries must have 1 to 4096 elements, has none".to_owned())
        );
    }

    #[test]
    fn what_is_malformed_is_told_with_its_path() {
        for (bytes, text) in [
            (&[0x0A, 5, b'x'][..], "session_id is not a protobuf message"),
            (&[0x0A, 1, 0xFF], "session_id is not valid UTF-8"),
            (
                &[0x12, 3, 0x1A, 1, 0xFF],
                "messages[0].content is not valid UTF-8",
            ),
            (
                &[0x12, 0, 0x12, 2, 0x10, 0x80],
                "messages[1].role is not a protobuf",
            ),
            (&[0x08, 1], "session_id is not of its type"),
            (&[0x00], "request is not a protobuf message"),
            (&[0xFF; 11], "request is not a protobuf message"),
            (&[0x7C], "request is not a protobuf message"),
            (&[0x7E], "request is not a protobuf message"),
        ] {
            let error = run(BATCH, bytes).expect_err("malformed");
            assert!(error.starts_with(text), "{error}");
        }
        // Unknown: each wire type, a group in a group.
        let unknown = [
            0x78, 1, 0x79, 0, 0, 0, 0, 0, 0, 0, 0, 0x7A, 1, 0xFF, 0x7D, 0, 0, 0, 0, 0x7B, 0x73, 0x74, 0x7C,
        ];
        assert!(run(BATCH, &unknown).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn what_is_let_through_can_be_decoded(bytes: Vec<u8>, cut in 0_usize..600) {
            let mut mutated = pb::BatchAppendMessagesRequest {
                session_id: "s".to_owned(),
                messages: vec![entry(2).message.unwrap_or_default()],
                expected_last_seq: Some(1),
            }
            .encode_to_vec();
            let at = cut.min(mutated.len());
            mutated.splice(at..(at + bytes.len()).min(mutated.len()), bytes.iter().copied());
            for bytes in [&bytes, &mutated] {
                let decoded = pb::BatchAppendMessagesRequest::decode(bytes.as_slice());
                if run(BATCH, bytes).is_ok() {
                    proptest::prop_assert!(decoded.is_ok(), "{:?}", decoded);
                }
            }
        }
    }

    /// `cargo test --release -- --ignored --nocapture scan_costs`.
    #[test]
    #[ignore = "a measurement"]
    fn scan_costs() {
        let shapes = Shapes::read(DESCRIPTORS, &Limits::default()).expect("shapes");
        let method = shapes.method(STREAM).expect("a method");
        let frame = pb::StreamAppendMessagesRequest {
            entries: vec![entry(0)],
        };
        let bytes = frame.encode_to_vec();
        let rules = ScanRules {
            most_built: 64 << 20,
            own_lists_only: true,
        };
        let began = Instant::now();
        for _ in 0..1_000_000 {
            std::hint::black_box(scan(&shapes, method.input, std::hint::black_box(&bytes), rules))
                .expect("fine");
        }
        println!(
            "{} bytes: {} ns",
            bytes.len(),
            began.elapsed().as_nanos() / 1_000_000
        );
    }
}
