//! The shapes of requests, as the contract's descriptors give them: which fields a message has, of which kind, and
//! how often at most.

use std::collections::HashMap;

use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

use crate::domain::{Limits, session::MAX_CLAIMS};

/// The most entries of a frame of a stream, by the contract.
const MAX_ENTRIES: usize = 4096;
/// The most elements of a field for which the contract says nothing: roles, fields of a search, paths of a mask, of
/// each of which there are less than ten that differ.
const MAX_ELEMENTS: usize = 100;
/// The bytes that a field takes in the struct that its message becomes, at most: a `Bytes` has four words, and an
/// `Option` adds one to a number.
const FIELD_BYTES: usize = 4 * size_of::<usize>();

/// All methods and the messages that they take.
pub(super) struct Shapes {
    methods: HashMap<String, ContractMethod>,
    all: Vec<Shape>,
    /// How many repeated fields there are.
    pub(super) repeated: usize,
}

/// A method's request.
#[derive(Clone, Copy)]
pub(super) struct ContractMethod {
    /// The message.
    pub(super) input: usize,
    /// Whether the client sends many messages.
    pub(super) client_streams: bool,
    /// Whether the server answers many messages.
    pub(super) server_streams: bool,
}

/// A message.
#[derive(Default)]
pub(super) struct Shape {
    /// The fields by number; the contract's numbers are small.
    fields: Vec<Option<FieldShape>>,
    /// The bytes of its struct, at most.
    pub(super) size: usize,
    /// The repeated fields of it and of the singular messages in it, by their numbers in [`RepeatedField`].
    pub(super) repeated: Vec<usize>,
}

/// A field of a message.
pub(super) struct FieldShape {
    pub(super) name: String,
    pub(super) kind: FieldKind,
    pub(super) repeated: Option<RepeatedField>,
}

/// The kind of value that a field holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldKind {
    Varint,
    Fixed32,
    Fixed64,
    String,
    Bytes,
    Message(usize),
}

/// A field that may occur more than once.
pub(super) struct RepeatedField {
    /// The field's number among all repeated ones.
    pub(super) number: usize,
    /// The bytes that an element takes, besides texts: a list that grows has up to twice the room that it needs.
    pub(super) element: usize,
    /// Whether its message is a request, and not a part of one.
    pub(super) is_own: bool,
    pub(super) least: usize,
    pub(super) most: usize,
}

impl Shape {
    pub(super) fn field(&self, number: u32) -> Option<&FieldShape> {
        self.fields.get(number as usize)?.as_ref()
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = &FieldShape> {
        self.fields.iter().flatten()
    }
}

impl Shapes {
    /// Reads an encoded `FileDescriptorSet`.
    ///
    /// # Errors
    /// It isn't one, or names a message that it doesn't have.
    pub(super) fn read(descriptors: &[u8], limits: &Limits) -> anyhow::Result<Shapes> {
        let set = FileDescriptorSet::decode(descriptors)?;
        let mut messages = HashMap::new();
        for file in &set.file {
            collect(&format!(".{}", file.package()), &file.message_type, &mut messages);
        }
        let mut builder = ShapeBuilder {
            messages,
            limits,
            built: HashMap::new(),
            shapes: Vec::new(),
            repeated: 0,
        };
        let mut methods = HashMap::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let input = builder.shape(method.input_type())?;
                    let method = ContractMethod {
                        input,
                        client_streams: method.client_streaming(),
                        server_streams: method.server_streaming(),
                    };
                    methods.insert(path, method);
                }
            }
        }
        Ok(Shapes {
            methods,
            all: builder.shapes,
            repeated: builder.repeated,
        })
    }

    pub(super) fn method(&self, path: &str) -> Option<ContractMethod> {
        self.methods.get(path).copied()
    }

    pub(super) fn shape(&self, index: usize) -> &Shape {
        &self.all[index]
    }
}

fn collect<'a>(
    scope: &str,
    messages: &'a [DescriptorProto],
    found: &mut HashMap<String, &'a DescriptorProto>,
) {
    for message in messages {
        let name = format!("{scope}.{}", message.name());
        collect(&name, &message.nested_type, found);
        found.insert(name, message);
    }
}

struct ShapeBuilder<'a> {
    messages: HashMap<String, &'a DescriptorProto>,
    limits: &'a Limits,
    /// The numbers of shapes by message name; those that are being built included.
    built: HashMap<String, usize>,
    shapes: Vec<Shape>,
    repeated: usize,
}

impl ShapeBuilder<'_> {
    fn shape(&mut self, name: &str) -> anyhow::Result<usize> {
        if let Some(index) = self.built.get(name) {
            return Ok(*index);
        }
        let Some(message) = self.messages.get(name).copied() else {
            anyhow::bail!("the descriptors have no message {name}");
        };
        let index = self.shapes.len();
        self.shapes.push(Shape::default());
        self.built.insert(name.to_owned(), index);
        let mut shape = Shape::default();
        for descriptor in &message.field {
            let field = self.field(name, descriptor)?;
            match (&field.repeated, field.kind) {
                (Some(repeated), _) => shape.repeated.push(repeated.number),
                // In place, with a word for whether it is there.
                (None, FieldKind::Message(inner)) => {
                    let inner = &self.shapes[inner];
                    shape.size += inner.size;
                    shape.repeated.extend(&inner.repeated);
                }
                _ => {}
            }
            shape.size += FIELD_BYTES;
            let number = usize::try_from(descriptor.number())?;
            if shape.fields.len() <= number {
                shape.fields.resize_with(number + 1, || None);
            }
            shape.fields[number] = Some(field);
        }
        self.shapes[index] = shape;
        Ok(index)
    }

    fn field(&mut self, message: &str, descriptor: &FieldDescriptorProto) -> anyhow::Result<FieldShape> {
        let kind = match descriptor.r#type() {
            Type::String => FieldKind::String,
            Type::Bytes => FieldKind::Bytes,
            Type::Message => FieldKind::Message(self.shape(descriptor.type_name())?),
            Type::Double | Type::Fixed64 | Type::Sfixed64 => FieldKind::Fixed64,
            Type::Float | Type::Fixed32 | Type::Sfixed32 => FieldKind::Fixed32,
            Type::Group => anyhow::bail!("{message} has a group"),
            _ => FieldKind::Varint,
        };
        let repeated = (descriptor.label() == Label::Repeated).then(|| {
            let size = match kind {
                FieldKind::Message(inner) => self.shapes[inner].size,
                FieldKind::String | FieldKind::Bytes => FIELD_BYTES,
                FieldKind::Varint | FieldKind::Fixed32 | FieldKind::Fixed64 => size_of::<u64>(),
            };
            let (least, most) = self.counts(message, descriptor.name());
            self.repeated += 1;
            RepeatedField {
                number: self.repeated - 1,
                element: 2 * size,
                is_own: message.ends_with("Request"),
                least,
                most,
            }
        });
        Ok(FieldShape {
            name: descriptor.name().to_owned(),
            kind,
            repeated,
        })
    }

    /// How often a field occurs, at least and at most. Where an empty list is refused with better words, 0.
    fn counts(&self, message: &str, field: &str) -> (usize, usize) {
        match (message, field) {
            (".chatledger.v1.StreamAppendMessagesRequest", "entries") => (1, MAX_ENTRIES),
            (".chatledger.v1.BatchAppendMessagesRequest", "messages") => (0, self.limits.max_batch_messages),
            (_, "citations") => (0, self.limits.max_citations),
            (".chatledger.v1.ClaimSessionsRequest", "session_ids" | "claim_secrets") => (0, MAX_CLAIMS),
            _ => (0, MAX_ELEMENTS),
        }
    }
}
