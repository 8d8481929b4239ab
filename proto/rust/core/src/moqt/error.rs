//! What can be wrong with data, whose fault it is, and what it costs.

use super::codes::{ResetReason, session_error};
use crate::varint::OutOfRange;
use std::fmt;

/// Data that cannot be accepted, or cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataError {
    /// A unidirectional stream, or a subgroup header, of a type that the draft does not have.
    UnknownStreamType(u64),
    /// A datagram of a type that the draft does not have.
    UnknownDatagramType(u64),
    /// The stream ended, or the datagram is too short, in the middle of a header or an object.
    Truncated,
    /// An object id delta leads beyond the largest id.
    ObjectIdOverflow,
    /// An object status that does not exist.
    UnknownStatus(u64),
    /// Properties on an object that is not a normal one.
    PropertiesOnStatus(u64),
    /// An object after the one that ended the group or the track, on the same stream.
    ObjectAfterEnd,
    /// A datagram that announces properties and has none.
    EmptyDatagramProperties,
    /// The delta-coded types of properties lead beyond the largest type.
    PropertyTypeOverflow,
    /// One property is longer than the drafts allow.
    PropertyValueTooLong(u64),
    /// The properties are not a sequence of key-value pairs.
    PropertiesMalformed,
    /// More bytes of properties than we accept.
    PropertiesTooLarge(u64),
    /// A larger object than we accept.
    ObjectTooLarge(u64),
    /// A value that the draft to be written has no encoding for; nobody's fault.
    Unrepresentable(u64),
}

/// How far an error reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorScope {
    /// Close the session with this MoQT code: the peer broke the protocol.
    Session(u32),
    /// End the subscription: the original publisher sent a malformed track, the peer only passed it on.
    Track(ResetReason),
    /// Stop or reset this stream only.
    Stream(ResetReason),
}

impl DataError {
    /// What to do about it.
    pub const fn scope(&self) -> ErrorScope {
        match self {
            DataError::UnknownStreamType(_)
            | DataError::UnknownDatagramType(_)
            | DataError::Truncated
            | DataError::ObjectIdOverflow
            | DataError::UnknownStatus(_)
            | DataError::PropertiesOnStatus(_)
            | DataError::ObjectAfterEnd
            | DataError::EmptyDatagramProperties
            | DataError::PropertyTypeOverflow
            | DataError::PropertyValueTooLong(_) => {
                ErrorScope::Session(session_error::PROTOCOL_VIOLATION)
            }
            DataError::PropertiesMalformed => ErrorScope::Track(ResetReason::MalformedTrack),
            DataError::PropertiesTooLarge(_) | DataError::ObjectTooLarge(_) => {
                ErrorScope::Stream(ResetReason::ExcessiveLoad)
            }
            DataError::Unrepresentable(_) => ErrorScope::Stream(ResetReason::Internal),
        }
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataError::UnknownStreamType(t) => write!(f, "unknown stream type {t:#x}"),
            DataError::UnknownDatagramType(t) => write!(f, "unknown datagram type {t:#x}"),
            DataError::Truncated => f.write_str("data ended inside a header or an object"),
            DataError::ObjectIdOverflow => f.write_str("object id beyond the largest id"),
            DataError::UnknownStatus(s) => write!(f, "unknown object status {s:#x}"),
            DataError::PropertiesOnStatus(s) => {
                write!(f, "properties on an object of status {s:#x}")
            }
            DataError::ObjectAfterEnd => f.write_str("object after the end of its group or track"),
            DataError::EmptyDatagramProperties => {
                f.write_str("datagram with an empty properties field")
            }
            DataError::PropertyTypeOverflow => f.write_str("property type beyond the largest type"),
            DataError::PropertyValueTooLong(n) => write!(f, "property value of {n} bytes"),
            DataError::PropertiesMalformed => f.write_str("properties are no key-value pairs"),
            DataError::PropertiesTooLarge(n) => write!(f, "{n} bytes of properties"),
            DataError::ObjectTooLarge(n) => write!(f, "object of {n} bytes"),
            DataError::Unrepresentable(v) => write!(f, "{v} has no encoding in this draft"),
        }
    }
}

impl std::error::Error for DataError {}

impl From<OutOfRange> for DataError {
    fn from(error: OutOfRange) -> Self {
        DataError::Unrepresentable(error.0)
    }
}
