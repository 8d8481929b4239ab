//! What crosses a hop: chunks of objects, the marks that end a subgroup, the word how its sender is supplied
//! with a track, and, the other way, the word to forward a track or to stop it.

use super::error::FrameError;
use crate::location::Location;
use bytes::Bytes;

/// The largest datagram a hop sends, header included.
///
/// QUIC offers this much at an MTU of 1200, and packets of up to 1200 bytes are the only ones that
/// loss can never make QUIC take for an MTU black hole (ARCHITECTURE.md, "Rules that cost something
/// to learn").
pub const DATAGRAM_BYTES_MAX: usize = 1162;

/// Bytes of an object's body in one chunk: every chunk of an object but its last has exactly this
/// many, so that repair symbols made of chunks are of one size.
pub const CHUNK_BODY_BYTES: usize = 1080;

/// Largest body (properties and payload) of an object on a hop.
pub const BODY_BYTES_MAX: u64 = (1 << 30) - 1;

/// Edges on the way of a track that a word about its supply can name.
pub const WAY_NODES_MAX: usize = 16;

/// Largest value of any other field: that of an RFC 9000 variable-length integer.
pub const VALUE_MAX: u64 = (1 << 62) - 1;

/// A piece of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Track alias, given by the sender of this direction.
    pub alias: u64,
    /// Group id.
    pub group: u64,
    /// Subgroup id.
    pub subgroup: u64,
    /// Object id.
    pub object: u64,
    /// Id of the object before this one in its subgroup; `None` is the first the sender holds.
    pub prev: Option<u64>,
    /// This object is the first one published in the subgroup (draft-18, FIRST_OBJECT).
    pub first_object: bool,
    /// Publisher priority, 0 first.
    pub priority: u8,
    /// Object status, 0 normal.
    pub status: u64,
    /// Milliseconds left to the object. When sending: at the moment of [`super::Hop::send`]. When
    /// received: on arrival, as the sender reckons it (its queue, its repairs and half its RTT are
    /// already taken off).
    pub budget_ms: u16,
    /// Bytes of the body that are properties; they come first.
    pub props_len: u32,
    /// Bytes of the whole body, properties and payload.
    pub body_len: u64,
    /// Where `body` starts in the whole body.
    pub offset: u64,
    /// The bytes; empty only if the whole body is.
    pub body: Bytes,
}

/// How the sender of a track is supplied with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supply {
    /// It comes, as far as the sender knows.
    pub fed: bool,
    /// The edges that it comes through, the sender last, each by a number that it drew for itself; at most
    /// [`WAY_NODES_MAX`].
    pub way: Vec<u64>,
}

/// What a hop delivers reliably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A piece of an object.
    Chunk(Chunk),
    /// The subgroup has no object after `last`.
    SubgroupEnd {
        /// Track alias.
        alias: u64,
        /// Group id.
        group: u64,
        /// Subgroup id.
        subgroup: u64,
        /// Id of the last object; `None` if the sender held none.
        last: Option<u64>,
        /// The subgroup held the last object of the group.
        end_of_group: bool,
    },
    /// Nothing more of the subgroup comes; parts of it may be missing for good.
    SubgroupReset {
        /// Track alias.
        alias: u64,
        /// Group id.
        group: u64,
        /// Subgroup id.
        subgroup: u64,
        /// Stream reset code of draft-18 ("Closing Subgroup Streams").
        code: u32,
    },
    /// From the receiver of a track to its sender: send what goes under this alias, or stop sending.
    Forward {
        /// Track alias, given by the receiver of this frame.
        alias: u64,
        /// Rises with every such frame of a connection: an earlier one that comes late is void.
        turn: u64,
        /// Send, or stop.
        on: bool,
        /// First object wanted; `None`: as the subscription says.
        start: Option<Location>,
    },
    /// From the sender of a track to its receiver: whether it has the track itself, and from where.
    Supply {
        /// Track alias, given by the sender of this frame.
        alias: u64,
        /// As of `Forward`.
        turn: u64,
        /// What there is to say.
        supply: Supply,
    },
}

/// Which subgroup of which track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubgroupKey {
    /// Track alias.
    pub alias: u64,
    /// Group id.
    pub group: u64,
    /// Subgroup id.
    pub subgroup: u64,
}

/// Stands for the alias in the keys of frames that are about a track of the other direction: aliases of
/// the two directions are different spaces.
const FORWARD_ALIAS: u64 = u64::MAX;

/// The same for words about the supply of a track: only the latest of them counts.
const SUPPLY_ALIAS: u64 = u64::MAX - 1;

/// Fixed cost in every byte account of a frame, so that limits in bytes also bound the number of
/// frames without a body.
const FRAME_OVERHEAD_BYTES: u64 = 200;

impl Frame {
    /// The subgroup that the frame belongs to; for `Forward` and `Supply` keys of their own, those of no
    /// subgroup.
    pub fn key(&self) -> SubgroupKey {
        let (alias, group, subgroup) = match *self {
            Frame::Forward { alias, .. } => (FORWARD_ALIAS, alias, 0),
            Frame::Supply { alias, .. } => (SUPPLY_ALIAS, alias, 0),
            Frame::Chunk(Chunk {
                alias,
                group,
                subgroup,
                ..
            })
            | Frame::SubgroupEnd {
                alias,
                group,
                subgroup,
                ..
            }
            | Frame::SubgroupReset {
                alias,
                group,
                subgroup,
                ..
            } => (alias, group, subgroup),
        };
        SubgroupKey {
            alias,
            group,
            subgroup,
        }
    }

    /// The alias of the track that the frame is about, in the space of its sender; of the receiver, for a
    /// `Forward`.
    pub fn alias(&self) -> u64 {
        match *self {
            Frame::Forward { alias, .. } | Frame::Supply { alias, .. } => alias,
            _ => self.key().alias,
        }
    }

    /// Whether it is about a whole track and replaces what was said of it before: such words are never
    /// given up, however long they take.
    pub(super) fn is_word(&self) -> bool {
        matches!(self, Frame::Forward { .. } | Frame::Supply { .. })
    }

    /// What the frame counts for in queue limits, bytes.
    pub(super) fn cost_bytes(&self) -> u64 {
        match self {
            Frame::Chunk(chunk) => FRAME_OVERHEAD_BYTES + chunk.body.len() as u64,
            _ => FRAME_OVERHEAD_BYTES,
        }
    }

    /// Whether the frame can be on a hop at all. Holds for everything that is sent or received.
    pub(super) fn check(&self) -> Result<(), FrameError> {
        if let Frame::Forward {
            alias, turn, start, ..
        } = self
        {
            let start = start.unwrap_or_default();
            at_most(*alias, VALUE_MAX, "track alias")?;
            at_most(*turn, VALUE_MAX, "turn")?;
            at_most(start.group, VALUE_MAX, "group id")?;
            return at_most(start.object, VALUE_MAX, "object id");
        }
        if let Frame::Supply {
            alias,
            turn,
            supply,
        } = self
        {
            at_most(*alias, VALUE_MAX, "track alias")?;
            at_most(*turn, VALUE_MAX, "turn")?;
            return at_most(supply.way.len() as u64, WAY_NODES_MAX as u64, "way");
        }
        let key = self.key();
        at_most(key.alias, VALUE_MAX, "track alias")?;
        at_most(key.group, VALUE_MAX, "group id")?;
        at_most(key.subgroup, VALUE_MAX, "subgroup id")?;
        match self {
            Frame::Chunk(chunk) => chunk.check(),
            Frame::SubgroupEnd { last, .. } => at_most(last.unwrap_or(0), VALUE_MAX, "object id"),
            Frame::SubgroupReset { .. } | Frame::Forward { .. } | Frame::Supply { .. } => Ok(()),
        }
    }
}

impl Chunk {
    fn check(&self) -> Result<(), FrameError> {
        at_most(self.object, VALUE_MAX, "object id")?;
        at_most(self.status, VALUE_MAX, "object status")?;
        at_most(self.body_len, BODY_BYTES_MAX, "body length")?;
        let len = self.body.len() as u64;
        let wrong = [
            (
                self.prev.is_some_and(|prev| prev >= self.object),
                "previous object is not before",
            ),
            (
                u64::from(self.props_len) > self.body_len,
                "properties exceed the body",
            ),
            (
                len > CHUNK_BODY_BYTES as u64,
                "chunk is longer than a chunk may be",
            ),
            (
                self.offset.saturating_add(len) > self.body_len,
                "chunk exceeds the body",
            ),
            (len == 0 && self.body_len > 0, "chunk is empty"),
        ];
        match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            Some((_, what)) => Err(FrameError::Inconsistent(what)),
            None => Ok(()),
        }
    }
}

fn at_most(value: u64, max: u64, what: &'static str) -> Result<(), FrameError> {
    if value > max {
        Err(FrameError::ValueTooLarge(what))
    } else {
        Ok(())
    }
}

/// Cuts bytes of an object's body that start at `offset` into the bodies of chunks: pieces end at
/// multiples of [`CHUNK_BODY_BYTES`] of the whole body, whatever the bytes arrived in.
///
/// Gives `(offset, piece)`. An empty body gives one empty piece, because an object without a body
/// still needs a chunk. The pieces share the memory of `body`.
pub fn cut(offset: u64, body: Bytes) -> impl Iterator<Item = (u64, Bytes)> {
    let mut rest = Some(body);
    let mut at = offset;
    std::iter::from_fn(move || {
        let mut body = rest.take()?;
        let room = CHUNK_BODY_BYTES - (at % CHUNK_BODY_BYTES as u64) as usize;
        let piece = body.split_to(room.min(body.len()));
        let start = at;
        at = at.saturating_add(piece.len() as u64);
        rest = (!body.is_empty()).then_some(body);
        Some((start, piece))
    })
}
