//! Messages, one after the other, as gRPC frames them: a byte that says whether the message is packed, four bytes of
//! length, the message.

use std::{io::Read, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use tokio::time::{self, Instant};
use tonic::{Status, body::Body};

use super::{super::link::Link, Intake, shape::ContractMethod};
use crate::{domain::Error, fair::Holder, memory::Charge};

/// The bytes before each message.
const HEADER: usize = 5;
/// How much is unpacked at a time: each step is charged before the next.
const STEP: usize = 64 << 10;
/// The copies of a message that there are at a time, see [`super`].
const COPIES: usize = 2;

/// The packing of a call's messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
}

/// A body that is being received.
pub(super) struct ArrivingBody {
    pub(super) body: Body,
    pub(super) link: Option<Arc<Link>>,
}

impl ArrivingBody {
    fn taken(&self, bytes: usize) {
        if let Some(link) = &self.link {
            link.unread().taken(bytes);
        }
    }
}

impl Drop for ArrivingBody {
    /// Takes what has come and nobody will read.
    fn drop(&mut self) {
        while let Some(Some(Ok(frame))) = self.body.frame().now_or_never() {
            self.taken(frame.data_ref().map_or(0, Bytes::len));
        }
    }
}

/// The messages of a call.
pub(super) struct RequestMessages {
    intake: Arc<Intake>,
    method: ContractMethod,
    packing: Packing,
    holder: Holder,
    body: ArrivingBody,
    /// The bytes that were received and not looked at yet.
    rest: Bytes,
    /// The memory of `rest`, where that isn't just what came at once.
    charge: Charge,
    /// The moment by which a unary call's message must be there.
    until: Option<Instant>,
    /// The failure that is told after the messages that came before it.
    failed: Option<Status>,
}

/// Whole messages with their headers.
pub(super) struct WholeMessages {
    pub(super) bytes: Bytes,
    pub(super) count: usize,
    pub(super) charge: Charge,
}

/// A message's header.
struct MessageHeader {
    is_packed: bool,
    /// With the header.
    length: usize,
}

/// The messages that are found whole at the head of what has been received.
#[derive(Default)]
struct ReadyMessages {
    length: usize,
    count: usize,
    built: usize,
}

// A status is what a call ends with.
#[allow(clippy::result_large_err)]
impl RequestMessages {
    pub(super) fn new(
        intake: Arc<Intake>,
        method: ContractMethod,
        packing: Packing,
        holder: Holder,
        body: ArrivingBody,
    ) -> Self {
        RequestMessages {
            charge: intake.memory.nothing(holder),
            intake,
            method,
            packing,
            holder,
            body,
            rest: Bytes::new(),
            until: None,
            failed: None,
        }
    }

    /// The message of a call that has just one.
    pub(super) async fn only(mut self, until: Instant) -> Result<(Bytes, Charge), Status> {
        self.until = Some(until);
        let Some(only) = self.next().await? else {
            return Err(invalid("has no message").into());
        };
        if only.count > 1 || !self.rest.is_empty() || !self.fill_empty().await? {
            return Err(invalid("has more than one message").into());
        }
        Ok((only.bytes, only.charge))
    }

    /// The next messages: those that have come together, or one.
    pub(super) async fn next(&mut self) -> Result<Option<WholeMessages>, Status> {
        if let Some(status) = self.failed.take() {
            return Err(status);
        }
        // The moment by which a message that has begun must be there.
        let mut until = self.until;
        loop {
            let found = self.look();
            if found.count > 0 {
                return Ok(Some(self.hand_on(found).await?));
            }
            if let Some(status) = self.failed.take() {
                return Err(status);
            }
            let header = self.header(&self.rest)?;
            let needed = match &header {
                Some(header) if self.rest.len() >= header.length => {
                    let length = header.length;
                    let packed = self.rest.split_to(length).slice(HEADER..);
                    return self.unpack(&packed, until).await.map(Some);
                }
                Some(header) => header.length,
                None => HEADER,
            };
            if self.rest.is_empty() {
                if !self.receive(self.until).await? {
                    return Ok(None);
                }
            } else {
                let until = *until.get_or_insert_with(|| Instant::now() + self.intake.read_timeout);
                self.fill(needed, until).await?;
            }
        }
    }

    /// The whole messages at the head of what has been received that aren't packed.
    fn look(&mut self) -> ReadyMessages {
        let mut found = ReadyMessages::default();
        loop {
            let bytes = &self.rest[found.length..];
            let looked = self.header(bytes).and_then(|header| match header {
                Some(header) if !header.is_packed && bytes.len() >= header.length => {
                    let message = &bytes[HEADER..header.length];
                    let built = self.intake.scan(self.method, message)?;
                    Ok(Some((header.length, built)))
                }
                _ => Ok(None),
            });
            match looked {
                Ok(Some((length, built))) => {
                    found.length += length;
                    found.count += 1;
                    found.built += built;
                }
                Ok(None) => return found,
                Err(error) => {
                    self.failed = Some(error.into());
                    return found;
                }
            }
            // A unary call has one; more would be held for nothing.
            if !self.method.client_streams {
                return found;
            }
        }
    }

    async fn hand_on(&mut self, found: ReadyMessages) -> Result<WholeMessages, Status> {
        let bytes = self.rest.split_to(found.length);
        let nothing = self.intake.memory.nothing(self.holder);
        let mut charge = std::mem::replace(&mut self.charge, nothing);
        self.grow_charge(&mut charge, COPIES * found.length + found.built)
            .await?;
        Ok(WholeMessages {
            bytes,
            count: found.count,
            charge,
        })
    }

    /// Waits for memory. A stream waits as long as it takes: what it waits for are answers to what it has sent.
    async fn grow_charge(&mut self, charge: &mut Charge, bytes: usize) -> Result<(), Status> {
        match self.until {
            Some(until) => Ok(charge.grow_soon(bytes, Some(until)).await?),
            None => {
                charge.grow_to(bytes).await;
                Ok(())
            }
        }
    }

    fn header(&self, bytes: &[u8]) -> Result<Option<MessageHeader>, Error> {
        let Some((&[flag, a, b, c, d], _)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let max = self.intake.max_request_bytes;
        if length > max {
            return Err(invalid(format!("must have at most {max} bytes")));
        }
        let is_packed = match (flag, self.packing) {
            (0, _) => false,
            (1, Packing::Gzip) => true,
            (1, Packing::None) => {
                return Err(invalid(
                    "has a packed message, and no grpc-encoding that says how",
                ));
            }
            _ => return Err(invalid("is not framed as gRPC frames messages")),
        };
        Ok(Some(MessageHeader {
            is_packed,
            length: HEADER + length,
        }))
    }

    /// Whether the body has ended, with nothing more in it.
    async fn fill_empty(&mut self) -> Result<bool, Status> {
        Ok(!self.receive(self.until).await?)
    }

    /// Receives some bytes into an empty `rest`; false: there are no more.
    async fn receive(&mut self, until: Option<Instant>) -> Result<bool, Status> {
        loop {
            match self.data(until).await? {
                Some(data) if data.is_empty() => {}
                Some(data) => {
                    self.rest = data;
                    return Ok(true);
                }
                None => return Ok(false),
            }
        }
    }

    /// Receives until there are so many bytes.
    async fn fill(&mut self, needed: usize, until: Instant) -> Result<(), Status> {
        let mut bytes = BytesMut::from(std::mem::take(&mut self.rest));
        while bytes.len() < needed {
            let awaited = self.body.link.as_ref().map(Link::debt);
            let Some(data) = self.data(Some(until)).await? else {
                return Err(invalid("ends in the middle of a message").into());
            };
            drop(awaited);
            // Its room doubles as it grows, and there are both while it is copied.
            let room = COPIES * (bytes.len() + data.len());
            self.charge.grow_soon(room, Some(until)).await?;
            bytes.put(data);
        }
        self.rest = bytes.freeze();
        Ok(())
    }

    async fn data(&mut self, until: Option<Instant>) -> Result<Option<Bytes>, Status> {
        let frame = match until {
            Some(until) => time::timeout_at(until, self.body.body.frame())
                .await
                .map_err(|_| Error::DeadlineExceeded)?,
            None => self.body.body.frame().await,
        };
        match frame {
            // Trailers are of no use.
            Some(frame) => {
                let data = frame?.into_data().unwrap_or_default();
                self.body.taken(data.len());
                Ok(Some(data))
            }
            None => Ok(None),
        }
    }

    /// Unpacks a message, into no more than a request may have.
    async fn unpack(&mut self, packed: &[u8], until: Option<Instant>) -> Result<WholeMessages, Status> {
        let max = self.intake.max_request_bytes;
        let nothing = self.intake.memory.nothing(self.holder);
        let mut charge = std::mem::replace(&mut self.charge, nothing);
        let mut unpacking = MultiGzDecoder::new(packed);
        let mut bytes = vec![0; HEADER];
        loop {
            let room = COPIES * (bytes.len() + STEP) + packed.len();
            charge.grow_soon(room, until).await?;
            let read = unpacking.by_ref().take(STEP as u64).read_to_end(&mut bytes);
            match read {
                Ok(0) => break,
                Ok(_) if bytes.len() > HEADER + max => {
                    return Err(invalid(format!("must have at most {max} bytes")).into());
                }
                Ok(_) => {}
                Err(_) => return Err(invalid("has a message that is not packed with gzip").into()),
            }
        }
        // At most `max`, which came from four bytes, or is less.
        let length = u32::try_from(bytes.len() - HEADER).unwrap_or(u32::MAX);
        bytes[1..HEADER].copy_from_slice(&length.to_be_bytes());
        let built = self.intake.scan(self.method, &bytes[HEADER..])?;
        self.grow_charge(&mut charge, COPIES * bytes.len() + packed.len() + built)
            .await?;
        Ok(WholeMessages {
            bytes: bytes.into(),
            count: 1,
            charge,
        })
    }
}

fn invalid(description: impl Into<String>) -> Error {
    Error::invalid("request", description)
}
