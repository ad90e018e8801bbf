//! What is sent. All of it follows from the seed and a message's [`MessageKey`], which its id carries: so what was
//! stored can be compared with what was sent, without remembering any of it.

use std::{
    fmt,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use fastrand::Rng;
use uuid::Uuid;

use crate::rows::IdKind;
use chatledger_protocol as pb;

/// The longest content, in bytes: the contract's limit.
const MAX_CONTENT: usize = 1 << 20;
/// How many contents there are to choose from: making one takes longer than sending it.
const CONTENTS: usize = 1024;
/// The most that they take together.
const CONTENTS_BYTES: usize = 64 << 20;
/// How many sets of citations there are to choose from.
const CITATION_SETS: usize = 256;
/// How many documents are cited: some are popular, as in life.
const DOCUMENTS: usize = 500;
/// What contents are made of: English words, so that they compress as texts do.
const WORDS: &str = "the of and to in a is that for it as was with be by on not he his but at are this have from \
    or had an they which one you were all her she there would their we him been has when who will no more if out \
    so up said what its about than into them can only other time new some could these two may first then do any \
    like my now over such our man me even most made after also did many off before must well back through years";

/// How long contents are, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ContentSizes {
    /// All the same.
    Fixed(usize),
    /// Anything between, both ends included, equally often.
    Uniform(usize, usize),
    /// Many short and a few long: the logarithm has a normal distribution with this sigma.
    Lognormal {
        /// Half of them are shorter.
        median: usize,
        /// The spread: 0.8 puts one in a hundred above 6.4 times the median.
        sigma: f64,
    },
}

impl FromStr for ContentSizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes = if let Some(range) = text.strip_prefix("uniform:") {
            let (min, max) = range.split_once("..").ok_or(Self::FORMS)?;
            ContentSizes::Uniform(bytes(min)?, bytes(max)?)
        } else if let Some(shape) = text.strip_prefix("lognormal:") {
            let (median, sigma) = shape.split_once(',').ok_or(Self::FORMS)?;
            ContentSizes::Lognormal {
                median: bytes(median)?,
                sigma: sigma.trim().parse().map_err(|_| Self::FORMS)?,
            }
        } else {
            ContentSizes::Fixed(bytes(text)?)
        };
        match sizes {
            ContentSizes::Uniform(min, max) if min > max => {
                Err("the first size is above the second".to_owned())
            }
            ContentSizes::Lognormal { sigma, .. } if !(0.0..=5.0).contains(&sigma) => {
                Err("sigma must be between 0 and 5".to_owned())
            }
            sizes => Ok(sizes),
        }
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.trim().parse().map_err(|_| ContentSizes::FORMS)?;
    if bytes > MAX_CONTENT {
        return Err(format!("a content has at most {MAX_CONTENT} bytes"));
    }
    Ok(bytes)
}

impl fmt::Display for ContentSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContentSizes::Fixed(bytes) => write!(f, "{bytes}"),
            ContentSizes::Uniform(min, max) => write!(f, "uniform:{min}..{max}"),
            ContentSizes::Lognormal { median, sigma } => write!(f, "lognormal:{median},{sigma}"),
        }
    }
}

impl ContentSizes {
    /// The size in the middle: half of them are shorter.
    pub(crate) fn median(self) -> usize {
        match self {
            ContentSizes::Fixed(bytes) => bytes,
            ContentSizes::Uniform(min, max) => usize::midpoint(min, max),
            ContentSizes::Lognormal { median, .. } => median,
        }
    }

    const FORMS: &str = "must be a number of bytes (512), uniform:MIN..MAX or lognormal:MEDIAN,SIGMA";

    /// One of them.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    fn draw(self, rng: &mut Rng) -> usize {
        match self {
            ContentSizes::Fixed(bytes) => bytes,
            ContentSizes::Uniform(min, max) => rng.usize(min..=max),
            ContentSizes::Lognormal { median, sigma } => {
                // Box and Muller: two uniform numbers make a normal one. 1 - f64() is never 0.
                let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * rng.f64()).cos();
                // The cast saturates.
                ((median as f64 * (sigma * normal).exp()) as usize).min(MAX_CONTENT)
            }
        }
    }
}

/// What to send.
#[derive(Clone, Debug)]
pub struct WorkloadOptions {
    /// Two runs with one seed send the same.
    pub seed: u64,
    /// The number of sessions that messages go to.
    pub sessions: usize,
    /// The lengths of the contents.
    pub content: ContentSizes,
    /// How many citations each message has.
    pub citations: usize,
}

/// Which message of a run: the `number`th of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageKey {
    /// The sender.
    pub sender: u16,
    /// Its messages are numbered from 0.
    pub number: u32,
}

/// A run's sessions and messages.
#[derive(Debug)]
pub struct Workload {
    seed: u64,
    /// Tells this run's ids from those of others.
    run: [u8; 4],
    /// Which ids messages get.
    ids: IdKind,
    sessions: Vec<Uuid>,
    session_texts: Vec<String>,
    contents: Vec<String>,
    citations: Vec<Vec<pb::Citation>>,
}

impl Workload {
    /// A workload with sessions of its own, which are still to be created.
    #[must_use]
    pub fn new(options: &WorkloadOptions) -> Self {
        let mut rng = Rng::with_seed(options.seed);
        let sessions: Vec<Uuid> = (0..options.sessions).map(|_| Uuid::now_v7()).collect();
        let mut run = [0; 4];
        run.copy_from_slice(&Uuid::now_v7().as_bytes()[12..]);
        Workload {
            seed: options.seed,
            run,
            ids: IdKind::V7,
            session_texts: sessions.iter().map(Uuid::to_string).collect(),
            sessions,
            contents: contents(options.content, &mut rng),
            citations: (0..CITATION_SETS)
                .map(|_| citations(options.citations, &mut rng))
                .collect(),
        }
    }

    /// Another run over the same sessions, with other citations.
    #[must_use]
    pub fn with_citations(&self, count: usize) -> Self {
        let mut rng = Rng::with_seed(self.seed);
        Workload {
            seed: self.seed,
            run: self.run,
            ids: self.ids,
            sessions: self.sessions.clone(),
            session_texts: self.session_texts.clone(),
            contents: self.contents.clone(),
            citations: (0..CITATION_SETS).map(|_| citations(count, &mut rng)).collect(),
        }
    }

    /// Another run over other sessions.
    #[must_use]
    pub fn over(&self, sessions: Vec<Uuid>) -> Self {
        Workload {
            seed: self.seed,
            run: self.run,
            ids: self.ids,
            session_texts: sessions.iter().map(Uuid::to_string).collect(),
            sessions,
            contents: self.contents.clone(),
            citations: self.citations.clone(),
        }
    }

    /// Another run over the same sessions, with other ids.
    #[must_use]
    pub fn with_ids(&self, ids: IdKind) -> Self {
        Workload {
            ids,
            ..self.over(self.sessions.clone())
        }
    }

    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> &[Uuid] {
        &self.sessions
    }

    /// A session's id as text.
    pub(crate) fn session_text(&self, session: usize) -> &str {
        &self.session_texts[session]
    }

    /// The place in [`Workload::sessions`] where a message goes.
    pub(crate) fn session_of(&self, key: MessageKey) -> usize {
        self.rng(key).usize(..self.sessions.len())
    }

    /// The content of a message.
    pub(crate) fn content_of(&self, key: MessageKey) -> &str {
        let mut rng = self.rng(key);
        rng.u64(..);
        &self.contents[rng.usize(..self.contents.len())]
    }

    /// The citations of a message.
    #[must_use]
    pub fn citations_of(&self, key: MessageKey) -> &[pb::Citation] {
        // Any of them will do, so the number does for a draw.
        &self.citations[key.number as usize % self.citations.len()]
    }

    /// A message, with its id.
    #[must_use]
    pub fn message(&self, key: MessageKey) -> pb::NewMessage {
        pb::NewMessage {
            message_id: Some(self.id(key).to_string()),
            role: pb::Role::User.into(),
            content: self.content_of(key).to_owned(),
            citations: self.citations_of(key).to_vec(),
            ..Default::default()
        }
    }

    /// A UUID that carries the key. One of version 7 grows with time, as an application's should; one of version 4 begins at
    /// random.
    #[must_use]
    pub fn id(&self, key: MessageKey) -> Uuid {
        let mut rest = [0; 10];
        rest[..4].copy_from_slice(&self.run);
        rest[4..6].copy_from_slice(&key.sender.to_be_bytes());
        rest[6..].copy_from_slice(&key.number.to_be_bytes());
        match self.ids {
            IdKind::V7 => {
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default()
                    .as_millis();
                // 48 bits of milliseconds last until the year 10889.
                let now = u64::try_from(now).unwrap_or(u64::MAX);
                uuid::Builder::from_unix_timestamp_millis(now, &rest).into_uuid()
            }
            IdKind::V4 => {
                let mut bytes = [0; 16];
                bytes[..6].copy_from_slice(&fastrand::u64(..).to_be_bytes()[..6]);
                bytes[6..].copy_from_slice(&rest);
                uuid::Builder::from_random_bytes(bytes).into_uuid()
            }
        }
    }

    /// The key of one of this run's ids; `None` for those of others.
    #[must_use]
    pub fn key_of(&self, id: &str) -> Option<MessageKey> {
        let id = Uuid::try_parse(id).ok()?;
        let key = key_in(&id);
        // The version and the variant hide six of the run's bits.
        (id.as_bytes()[6..10] == self.id(key).as_bytes()[6..10]).then_some(key)
    }

    fn rng(&self, key: MessageKey) -> Rng {
        let number = u64::from(key.sender) << 32 | u64::from(key.number);
        // Neighbours far apart: an odd multiplier maps no two numbers to one (Knuth's, of the golden ratio).
        Rng::with_seed(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

fn key_in(id: &Uuid) -> MessageKey {
    let [.., s0, s1, n0, n1, n2, n3] = *id.as_bytes();
    MessageKey {
        sender: u16::from_be_bytes([s0, s1]),
        number: u32::from_be_bytes([n0, n1, n2, n3]),
    }
}

fn contents(sizes: ContentSizes, rng: &mut Rng) -> Vec<String> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut bytes = 0;
    let mut contents = Vec::new();
    while contents.len() < CONTENTS && (contents.is_empty() || bytes < CONTENTS_BYTES) {
        let size = sizes.draw(rng);
        let mut content = String::with_capacity(size + 16);
        while content.len() < size {
            content.push_str(words[rng.usize(..words.len())]);
            content.push(' ');
        }
        content.truncate(size); // the words are ASCII
        bytes += size;
        contents.push(content);
    }
    contents
}

fn citations(count: usize, rng: &mut Rng) -> Vec<pb::Citation> {
    (0..count)
        .map(|_| {
            // The smaller of two: low numbers are cited more.
            let document = rng.usize(..DOCUMENTS).min(rng.usize(..DOCUMENTS));
            pb::Citation {
                document_id: format!("bench-document-{document:03}"),
                chunk_id: format!("chunk-{:04}", rng.u16(..10_000)),
                score: rng.f64(),
                ..Default::default()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(seed: u64, content: ContentSizes) -> Workload {
        Workload::new(&WorkloadOptions {
            seed,
            sessions: 10,
            content,
            citations: 2,
        })
    }

    #[test]
    fn sizes_are_read_and_shown() {
        for text in ["0", "512", "uniform:100..2000", "lognormal:512,0.8"] {
            assert_eq!(text.parse::<ContentSizes>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn mistaken_sizes_say_what_is_wrong() {
        for (text, part) in [
            ("", "number of bytes"),
            ("-1", "number of bytes"),
            ("many", "number of bytes"),
            ("uniform:5", "uniform:MIN..MAX"),
            ("uniform:9..5", "above the second"),
            ("lognormal:512", "lognormal:MEDIAN,SIGMA"),
            ("lognormal:512,6", "sigma"),
            ("lognormal:512,NaN", "sigma"),
            ("1048577", "at most 1048576"),
        ] {
            let error = text.parse::<ContentSizes>().expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn contents_have_the_sizes_asked_for() {
        let lengths = |sizes| {
            let mut lengths: Vec<usize> = workload(1, sizes).contents.iter().map(String::len).collect();
            lengths.sort_unstable();
            lengths
        };
        assert!(
            lengths(ContentSizes::Fixed(512))
                .iter()
                .all(|&length| length == 512)
        );
        let uniform = lengths(ContentSizes::Uniform(100, 2000));
        assert!(uniform[0] >= 100 && uniform[1023] <= 2000 && (900..1200).contains(&uniform[512]));
        let lognormal = lengths(ContentSizes::Lognormal {
            median: 512,
            sigma: 0.8,
        });
        assert!((440..600).contains(&lognormal[512]), "{}", lognormal[512]);
        // exp(1.2816 * 0.8) = 2.79
        assert!((1200..1700).contains(&lognormal[922]), "{}", lognormal[922]);
    }

    #[test]
    fn a_seed_and_a_key_say_it_all() {
        let [first, again, other] = [1, 1, 2].map(|seed| workload(seed, ContentSizes::Uniform(10, 99)));
        let of = |workload: &Workload| {
            let keys = (0..100).map(|number| MessageKey { sender: 7, number });
            keys.map(|key| (workload.session_of(key), workload.content_of(key).to_owned()))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&first), of(&again));
        assert_ne!(of(&first), of(&other));
        let sessions: std::collections::HashSet<usize> = of(&first).into_iter().map(|(s, _)| s).collect();
        assert_eq!(sessions.len(), 10, "all of them get messages");
    }

    #[test]
    fn ids_carry_their_keys_and_their_run() {
        let (workload, other) = (
            workload(1, ContentSizes::Fixed(1)),
            workload(1, ContentSizes::Fixed(1)),
        );
        for key in [
            MessageKey { sender: 0, number: 0 },
            MessageKey {
                sender: u16::MAX,
                number: u32::MAX,
            },
            MessageKey {
                sender: 258,
                number: 16_909_060,
            },
        ] {
            for (ids, version) in [(IdKind::V7, 7), (IdKind::V4, 4)] {
                let workload = workload.with_ids(ids);
                let id = workload.id(key);
                assert_eq!(id.get_version_num(), version);
                assert_eq!(workload.key_of(&id.to_string()), Some(key));
                assert_eq!(other.with_ids(ids).key_of(&id.to_string()), None);
            }
        }
        assert_eq!(workload.key_of("no id"), None);
    }
}
