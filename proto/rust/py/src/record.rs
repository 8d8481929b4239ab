//! What commands, events and settings share as Python values: equality and a readable form, both over
//! the fields that `__match_args__` lists.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

/// Bytes that `repr` shows of a payload; of a longer one it shows the beginning and the length.
const REPR_BYTES_MAX: usize = 32;

/// `Command.Close(session=1, code=0, reason='')`
pub fn repr(record: &Bound<'_, PyAny>) -> PyResult<String> {
    let mut fields = Vec::new();
    for name in field_names(record)?.iter() {
        let value = record.getattr(name.cast()?)?;
        fields.push(format!("{name}={}", repr_value(&value)?));
    }
    let name = record.get_type().qualname()?;
    Ok(format!("{name}({})", fields.join(", ")))
}

/// The same without the fields that have their defaults, for settings with many.
pub fn repr_changed(record: &Bound<'_, PyAny>) -> PyResult<String> {
    let default = record.get_type().call0()?;
    let mut fields = Vec::new();
    for name in field_names(record)?.iter() {
        let name = name.cast()?;
        let value = record.getattr(name)?;
        if !value.eq(default.getattr(name)?)? {
            fields.push(format!("{name}={}", repr_value(&value)?));
        }
    }
    let name = record.get_type().qualname()?;
    Ok(format!("{name}({})", fields.join(", ")))
}

/// Of one class and equal in every field; `NotImplemented` between different classes.
pub fn eq<'py>(one: &Bound<'py, PyAny>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
    let py = one.py();
    if !one.get_type().is(other.get_type()) {
        return Ok(py.NotImplemented());
    }
    let mut equal = true;
    for name in field_names(one)?.iter() {
        let name = name.cast()?;
        equal = equal && one.getattr(name)?.eq(other.getattr(name)?)?;
    }
    Ok(equal.into_pyobject(py)?.to_owned().into_any().unbind())
}

fn field_names<'py>(record: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    Ok(record.get_type().getattr("__match_args__")?.cast_into()?)
}

fn repr_value(value: &Bound<'_, PyAny>) -> PyResult<String> {
    match value.cast::<PyBytes>() {
        Ok(data) if data.as_bytes().len() > REPR_BYTES_MAX => {
            let data = data.as_bytes();
            let head = PyBytes::new(value.py(), &data[..REPR_BYTES_MAX]).repr()?;
            Ok(format!("<{} bytes: {head}...>", data.len()))
        }
        _ => Ok(value.repr()?.to_string()),
    }
}

/// A copy with some fields changed; an unknown one is a `TypeError` of the constructor.
pub fn replace<'py>(
    one: &Bound<'py, PyAny>,
    changes: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(one.py());
    for name in field_names(one)?.iter() {
        fields.set_item(&name, one.getattr(name.cast()?)?)?;
    }
    if let Some(changes) = changes {
        fields.update(changes.as_mapping())?;
    }
    one.get_type().call((), Some(&fields))
}
