//! What the datapath tells the agent. Python constructs events too, in tests of its engines.

use crate::record;
use crate::snapshot;
use crate::words::{Address, DraftNumber, Word, no_bytes, payload_to_python, to_python};
use farcast_core::event::{
    self as core, ClosedBy, SessionInfo, SinkObject, StreamKind, SwitchCause, Transport,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

/// What the datapath tells the agent; each kind is a nested class.
#[pyclass(frozen, module = "farcast.proto._core")]
#[allow(missing_docs)] // documented in farcast_core::event and in _core.pyi
pub enum Event {
    #[pyo3(constructor = (
        session, transport, draft, incoming, remote, offered=Vec::new(), authority=String::new(),
        path=String::new(), peer_certificates=Vec::new()
    ))]
    SessionOpened {
        session: u64,
        transport: Word<Transport>,
        draft: DraftNumber,
        incoming: bool,
        remote: Address,
        offered: Vec<String>,
        authority: String,
        path: String,
        peer_certificates: Vec<Py<PyBytes>>,
    },
    #[pyo3(constructor = (session, by, code=0, reason=String::new()))]
    SessionClosed {
        session: u64,
        by: Word<ClosedBy>,
        code: u64,
        reason: String,
    },
    #[pyo3(constructor = (session, stream, kind, data, fin=false))]
    StreamData {
        session: u64,
        stream: u64,
        kind: Word<StreamKind>,
        data: Py<PyBytes>,
        fin: bool,
    },
    StreamReset {
        session: u64,
        stream: u64,
        code: u64,
    },
    StreamStopped {
        session: u64,
        stream: u64,
        code: u64,
    },
    TrackRestarted {
        track: u64,
        downstreams: Vec<u64>,
    },
    TrackMalformed {
        session: u64,
        alias: u64,
        track: u64,
        reason: String,
    },
    DownstreamEnded {
        downstream: u64,
        streams: u64,
    },
    #[pyo3(constructor = (
        downstream, group, subgroup, object, payload, priority=128, status=0,
        properties=no_bytes(), first_byte_us=0, complete_us=0
    ))]
    Object {
        downstream: u64,
        group: u64,
        subgroup: u64,
        object: u64,
        payload: Py<PyBytes>,
        priority: u8,
        status: u64,
        properties: Py<PyBytes>,
        first_byte_us: u64,
        complete_us: u64,
    },
    SinkSubgroupEnded {
        downstream: u64,
        group: u64,
        subgroup: u64,
        end_of_group: bool,
        reset: bool,
    },
    HopSilent {
        session: u64,
        silent: bool,
    },
    UpstreamSwitched {
        track: u64,
        from_session: u64,
        from_alias: u64,
        session: u64,
        alias: u64,
        cause: Word<SwitchCause>,
        silent_us: u64,
    },
    UpstreamResumed {
        track: u64,
        session: u64,
        alias: u64,
        gap_us: u64,
    },
    UpstreamDelivers {
        session: u64,
        alias: u64,
        group: u64,
        object: u64,
    },
    SecondPath {
        track: u64,
        session: u64,
        alias: u64,
        on: bool,
    },
    TrackStarved {
        track: u64,
        starved: bool,
    },
    SessionSilent {
        session: u64,
        silent: bool,
    },
    Snapshot {
        token: u64,
        snapshot: Py<PyDict>,
    },
}

#[pymethods]
impl Event {
    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        record::eq(slf.as_any(), other)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        record::repr(slf.as_any())
    }
}

impl Event {
    /// An event of the core, its bytes copied into the interpreter.
    #[rustfmt::skip] // a table: one row for each event
    pub fn from_core(py: Python<'_>, event: core::Event) -> PyResult<Event> {
        use core::Event as Core;
        Ok(match event {
            Core::SessionOpened { session, info } => session_opened(py, session, info),
            Core::SessionClosed { session, by, code, reason } =>
                Event::SessionClosed { session, by: Word(by), code, reason },
            Core::StreamData { session, stream, kind, data, fin } =>
                Event::StreamData { session, stream, kind: Word(kind),
                                    data: to_python(py, &data), fin },
            Core::StreamReset { session, stream, code } =>
                Event::StreamReset { session, stream, code },
            Core::StreamStopped { session, stream, code } =>
                Event::StreamStopped { session, stream, code },
            Core::TrackRestarted { track, downstreams } =>
                Event::TrackRestarted { track, downstreams },
            Core::TrackMalformed { session, alias, track, reason } =>
                Event::TrackMalformed { session, alias, track, reason },
            Core::DownstreamEnded { downstream, streams } =>
                Event::DownstreamEnded { downstream, streams },
            Core::Object(object) => sink_object(py, object),
            Core::SinkSubgroupEnded { downstream, group, subgroup, end_of_group, reset } =>
                Event::SinkSubgroupEnded { downstream, group, subgroup, end_of_group, reset },
            Core::HopSilent { session, silent } =>
                Event::HopSilent { session, silent },
            Core::UpstreamSwitched { track, from_session, from_alias, session, alias, cause,
                                     silent_us } =>
                Event::UpstreamSwitched { track, from_session, from_alias, session, alias,
                                          cause: Word(cause), silent_us },
            Core::UpstreamResumed { track, session, alias, gap_us } =>
                Event::UpstreamResumed { track, session, alias, gap_us },
            Core::UpstreamDelivers { session, alias, group, object } =>
                Event::UpstreamDelivers { session, alias, group, object },
            Core::SecondPath { track, session, alias, on } =>
                Event::SecondPath { track, session, alias, on },
            Core::TrackStarved { track, starved } =>
                Event::TrackStarved { track, starved },
            Core::SessionSilent { session, silent } =>
                Event::SessionSilent { session, silent },
            Core::Snapshot { token, snapshot } =>
                Event::Snapshot { token, snapshot: snapshot::snapshot(py, &snapshot)?.unbind() },
        })
    }
}

fn session_opened(py: Python<'_>, session: u64, info: SessionInfo) -> Event {
    let chain = info.peer_certificates.iter();
    Event::SessionOpened {
        session,
        transport: Word(info.transport),
        draft: DraftNumber(info.draft),
        incoming: info.incoming,
        remote: Address(info.remote),
        offered: info.offered,
        authority: info.authority,
        path: info.path,
        peer_certificates: chain.map(|der| to_python(py, der)).collect(),
    }
}

fn sink_object(py: Python<'_>, object: SinkObject) -> Event {
    Event::Object {
        downstream: object.downstream,
        group: object.group,
        subgroup: object.subgroup,
        object: object.object,
        payload: payload_to_python(py, &object.payload),
        priority: object.priority,
        status: object.status,
        properties: to_python(py, &object.properties),
        first_byte_us: object.first_byte_us,
        complete_us: object.complete_us,
    }
}
