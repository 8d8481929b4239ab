//! Errors of the crates below as Python exceptions.

use farcast_core::tls::TlsError;
use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use std::io::{self, ErrorKind};

create_exception!(
    farcast.proto._core,
    CoreError,
    PyValueError,
    "Certificates, keys or trust roots that TLS refuses; the text says why."
);

/// What TLS refuses, as `CoreError`.
pub fn tls_error(error: &TlsError) -> PyErr {
    CoreError::new_err(error.to_string())
}

/// A value that no conversion accepts, as `ValueError`.
pub fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// What a socket refuses, as `OSError` with its number (and so of the fitting subclass).
pub fn io_error(error: io::Error) -> PyErr {
    if let Some(error) = error.get_ref().and_then(|e| e.downcast_ref()) {
        return tls_error(error);
    }
    let number = error.raw_os_error().or(match error.kind() {
        ErrorKind::AddrInUse => Some(libc::EADDRINUSE),
        ErrorKind::AddrNotAvailable => Some(libc::EADDRNOTAVAIL),
        ErrorKind::PermissionDenied => Some(libc::EACCES),
        _ => None,
    });
    match number {
        Some(number) => PyOSError::new_err((number, error.to_string())),
        None => PyOSError::new_err(error.to_string()),
    }
}
