//! Small values that Python writes in its own way: enumerations as strings, drafts as numbers,
//! addresses as `"ip:port"`, payloads as `bytes`.

use crate::error::value_error;
use bytes::Bytes;
use farcast_core::command::{Draft, GroupOrder};
use farcast_core::event::{ClosedBy, StreamKind, SwitchCause, Transport};
use farcast_core::payload::Payload;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString};
use std::convert::Infallible;
use std::net::SocketAddr;

/// An enumeration that crosses to Python as one of a few strings.
pub trait Vocabulary: Copy + PartialEq + 'static {
    /// What errors call it.
    const NAME: &'static str;
    /// Every value with its string.
    const WORDS: &'static [(&'static str, Self)];
}

impl Vocabulary for Transport {
    const NAME: &'static str = "transport";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("quic", Transport::Quic),
        ("webtransport", Transport::WebTransport),
        ("hop", Transport::Hop),
        ("control", Transport::Control),
    ];
}

impl Vocabulary for StreamKind {
    const NAME: &'static str = "kind";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("control", StreamKind::Control),
        ("request", StreamKind::Request),
    ];
}

impl Vocabulary for ClosedBy {
    const NAME: &'static str = "by";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("local", ClosedBy::Local),
        ("peer", ClosedBy::Peer),
        ("timeout", ClosedBy::Timeout),
        ("tls", ClosedBy::Tls),
        ("transport", ClosedBy::Transport),
    ];
}

impl Vocabulary for SwitchCause {
    const NAME: &'static str = "cause";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("silent", SwitchCause::Silent),
        ("closed", SwitchCause::Closed),
        ("loss", SwitchCause::Loss),
        ("delay", SwitchCause::Delay),
        ("starved", SwitchCause::Starved),
        ("command", SwitchCause::Command),
    ];
}

impl Vocabulary for GroupOrder {
    const NAME: &'static str = "group_order";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("ascending", GroupOrder::Ascending),
        ("descending", GroupOrder::Descending),
    ];
}

/// A value of a [`Vocabulary`] on its way to or from Python.
#[derive(Clone, Copy)]
pub struct Word<T>(pub T);

impl<'py, T: Vocabulary> FromPyObject<'_, 'py> for Word<T> {
    type Error = PyErr;

    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let text = obj.extract::<String>()?;
        let found = T::WORDS.iter().find(|(word, _)| *word == text);
        found.map(|&(_, value)| Word(value)).ok_or_else(|| {
            let allowed: Vec<String> = T::WORDS.iter().map(|(w, _)| format!("'{w}'")).collect();
            let allowed = allowed.join(", ");
            value_error(format!("{} '{text}' is none of {allowed}", T::NAME))
        })
    }
}

impl<'py, T: Vocabulary> IntoPyObject<'py> for &Word<T> {
    type Target = PyString;
    type Output = Bound<'py, PyString>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Infallible> {
        let found = T::WORDS.iter().find(|(_, value)| *value == self.0);
        Ok(PyString::intern(py, found.map_or("", |(word, _)| word)))
    }
}

/// A draft on its way to or from Python: 16 or 18.
#[derive(Clone, Copy)]
pub struct DraftNumber(pub Draft);

impl<'py> FromPyObject<'_, 'py> for DraftNumber {
    type Error = PyErr;

    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let number = obj.extract::<u16>()?;
        let found = [Draft::D16, Draft::D18]
            .into_iter()
            .find(|d| d.number() == number);
        found
            .map(DraftNumber)
            .ok_or_else(|| value_error(format!("draft {number} is none of 16, 18")))
    }
}

impl<'py> IntoPyObject<'py> for &DraftNumber {
    type Target = PyInt;
    type Output = Bound<'py, PyInt>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Infallible> {
        self.0.number().into_pyobject(py)
    }
}

/// The drafts that are offered or accepted unless others are given.
pub fn default_drafts() -> Vec<DraftNumber> {
    vec![DraftNumber(Draft::D18), DraftNumber(Draft::D16)]
}

/// The drafts as the core wants them.
pub fn drafts(numbers: &[DraftNumber]) -> Vec<Draft> {
    numbers.iter().map(|number| number.0).collect()
}

/// A socket address on its way to or from Python: `"ip:port"`.
#[derive(Clone, Copy)]
pub struct Address(pub SocketAddr);

impl<'py> FromPyObject<'_, 'py> for Address {
    type Error = PyErr;

    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let text = obj.extract::<String>()?;
        let parsed = text.parse().map(Address);
        parsed.map_err(|_| value_error(format!("'{text}' is no address: \"ip:port\" is wanted")))
    }
}

impl<'py> IntoPyObject<'py> for &Address {
    type Target = PyString;
    type Output = Bound<'py, PyString>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Infallible> {
        Ok(PyString::new(py, &self.0.to_string()))
    }
}

/// No bytes, as a default of a constructor.
pub fn no_bytes() -> Py<PyBytes> {
    Python::attach(|py| to_python(py, b""))
}

/// A copy for Python.
pub fn to_python(py: Python<'_>, data: &[u8]) -> Py<PyBytes> {
    PyBytes::new(py, data).unbind()
}

/// One copy for Python of what came in pieces.
pub fn payload_to_python(py: Python<'_>, payload: &Payload) -> Py<PyBytes> {
    let copy = |out: &mut [u8]| {
        payload.copy_to(out);
        Ok(())
    };
    let copied = PyBytes::new_with(py, payload.len(), copy);
    // It fails where there is no memory, as the other way does.
    copied.map_or_else(|_| to_python(py, &payload.to_bytes()), Bound::unbind)
}

/// A copy for Rust: the datapath may keep it long after Python has forgotten it.
pub fn to_rust(py: Python<'_>, data: &Py<PyBytes>) -> Bytes {
    Bytes::copy_from_slice(data.as_bytes(py))
}
