//! What the agent tells the datapath. Values are checked when a command is made, so that handing it
//! over cannot fail.

use crate::config::{CacheLimits, QueueLimits};
use crate::largest::{LargestCell, location};
use crate::policy::Policy;
use crate::record;
use crate::second_policy::SecondPaths;
use crate::tls::ClientTls;
use crate::words::{Address, DraftNumber, Word, default_drafts, drafts, no_bytes, to_rust};
use farcast_core::command::{self as core, GroupOrder, NewObject, Target};
use farcast_core::event::Transport;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// What the agent tells the datapath; each kind is a nested class.
#[pyclass(frozen, module = "farcast.proto._core")]
#[allow(missing_docs)] // documented in farcast_core::command and in _core.pyi
pub enum Command {
    #[pyo3(constructor = (
        session, remote, server_name, target, tls,
        drafts=default_drafts(), authority=String::new(), path=String::from("/")
    ))]
    Connect {
        session: u64,
        remote: Address,
        server_name: String,
        target: Word<Transport>,
        tls: Py<ClientTls>,
        drafts: Vec<DraftNumber>,
        authority: String,
        path: String,
    },
    #[pyo3(constructor = (session, code=0, reason=String::new()))]
    Close {
        session: u64,
        code: u32,
        reason: String,
    },
    OpenStream {
        session: u64,
        stream: u64,
        bidi: bool,
    },
    #[pyo3(constructor = (session, stream, data, fin=false))]
    Write {
        session: u64,
        stream: u64,
        data: Py<PyBytes>,
        fin: bool,
    },
    ResetStream {
        session: u64,
        stream: u64,
        code: u32,
    },
    StopStream {
        session: u64,
        stream: u64,
        code: u32,
    },
    #[pyo3(constructor = (track, largest, cache=CacheLimits::default()))]
    AddTrack {
        track: u64,
        largest: Py<LargestCell>,
        cache: CacheLimits,
    },
    RemoveTrack {
        track: u64,
    },
    #[pyo3(constructor = (session, alias, track, default_priority=128, restart_allowed=false))]
    BindUpstream {
        session: u64,
        alias: u64,
        track: u64,
        default_priority: u8,
        restart_allowed: bool,
    },
    #[pyo3(constructor = (session, alias, track, default_priority=128, rank=0))]
    BindStandby {
        session: u64,
        alias: u64,
        track: u64,
        default_priority: u8,
        rank: u32,
    },
    UnbindUpstream {
        session: u64,
        alias: u64,
    },
    SwitchUpstream {
        track: u64,
        session: u64,
        alias: u64,
    },
    ReachBack {
        track: u64,
        start: (u64, u64),
    },
    #[pyo3(constructor = (session, loss_max_permille=0, rtt_max_us=0))]
    HopBounds {
        session: u64,
        loss_max_permille: u32,
        rtt_max_us: u64,
    },
    #[pyo3(constructor = (session, policy))]
    HopPolicy {
        session: u64,
        policy: Policy,
    },
    #[pyo3(constructor = (session, table))]
    HopSecondPaths {
        session: u64,
        table: SecondPaths,
    },
    #[pyo3(constructor = (
        downstream, session, alias, track, start, end_group=None, subscriber_priority=128,
        group_order=Word(GroupOrder::Ascending), forward=true, limits=QueueLimits::default()
    ))]
    AddDownstream {
        downstream: u64,
        session: u64,
        alias: u64,
        track: u64,
        start: (u64, u64),
        end_group: Option<u64>,
        subscriber_priority: u8,
        group_order: Word<GroupOrder>,
        forward: bool,
        limits: QueueLimits,
    },
    #[pyo3(constructor = (
        downstream, start=None, end_group=None, subscriber_priority=None, forward=None
    ))]
    UpdateDownstream {
        downstream: u64,
        start: Option<(u64, u64)>,
        end_group: Option<u64>,
        subscriber_priority: Option<u8>,
        forward: Option<bool>,
    },
    #[pyo3(constructor = (downstream, code=0))]
    RemoveDownstream {
        downstream: u64,
        code: u32,
    },
    FinishDownstream {
        downstream: u64,
    },
    AddSink {
        downstream: u64,
        track: u64,
        start: (u64, u64),
    },
    #[pyo3(constructor = (
        track, group, subgroup, object, payload, priority=128, status=0, properties=no_bytes(),
        end_of_subgroup=false, end_of_group=false
    ))]
    Publish {
        track: u64,
        group: u64,
        subgroup: u64,
        object: u64,
        payload: Py<PyBytes>,
        priority: u8,
        status: u64,
        properties: Py<PyBytes>,
        end_of_subgroup: bool,
        end_of_group: bool,
    },
    Snapshot {
        token: u64,
    },
}

#[pymethods]
impl Command {
    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        record::eq(slf.as_any(), other)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        record::repr(slf.as_any())
    }
}

/// The commands of one call, in order.
pub fn to_core(commands: &[Bound<'_, Command>]) -> Vec<core::Command> {
    let convert = |command: &Bound<'_, Command>| command.get().to_core(command.py());
    commands.iter().map(convert).collect()
}

impl Command {
    #[rustfmt::skip] // a table: one row for each command
    fn to_core(&self, py: Python<'_>) -> core::Command {
        use core::Command as Core;
        match *self {
            Command::Connect { session, remote, ref server_name, target: Word(kind), ref tls,
                               drafts: ref offered, ref authority, ref path } =>
                Core::Connect { session, remote: remote.0, server_name: server_name.clone(),
                                target: target(kind, offered, authority, path),
                                tls: tls.get().0.clone() },
            Command::Close { session, code, ref reason } =>
                Core::Close { session, code, reason: reason.clone() },
            Command::OpenStream { session, stream, bidi } =>
                Core::OpenStream { session, stream, bidi },
            Command::Write { session, stream, ref data, fin } =>
                Core::Write { session, stream, data: to_rust(py, data), fin },
            Command::ResetStream { session, stream, code } =>
                Core::ResetStream { session, stream, code },
            Command::StopStream { session, stream, code } =>
                Core::StopStream { session, stream, code },
            Command::AddTrack { track, ref largest, cache } =>
                Core::AddTrack { track, cache: cache.0, largest: largest.get().0.clone() },
            Command::RemoveTrack { track } =>
                Core::RemoveTrack { track },
            Command::BindUpstream { session, alias, track, default_priority, restart_allowed } =>
                Core::BindUpstream { session, alias, track, default_priority, restart_allowed },
            Command::BindStandby { session, alias, track, default_priority, rank } =>
                Core::BindStandby { session, alias, track, default_priority, rank },
            Command::UnbindUpstream { session, alias } =>
                Core::UnbindUpstream { session, alias },
            Command::SwitchUpstream { track, session, alias } =>
                Core::SwitchUpstream { track, session, alias },
            Command::ReachBack { track, start } =>
                Core::ReachBack { track, start: location(start) },
            Command::HopBounds { session, loss_max_permille, rtt_max_us } =>
                Core::HopBounds { session, loss_max_permille, rtt_max_us },
            Command::HopPolicy { session, ref policy } =>
                Core::HopPolicy { session, policy: policy.0.clone() },
            Command::HopSecondPaths { session, ref table } =>
                Core::HopSecondPaths { session, policy: table.0.clone() },
            Command::AddDownstream { downstream, session, alias, track, start, end_group,
                                     subscriber_priority, group_order, forward, limits } =>
                Core::AddDownstream { downstream, session, alias, track,
                                      start: location(start), end_group, subscriber_priority,
                                      group_order: group_order.0, forward, limits: limits.0 },
            Command::UpdateDownstream { downstream, start, end_group, subscriber_priority,
                                        forward } =>
                Core::UpdateDownstream { downstream, start: start.map(location), end_group,
                                         subscriber_priority, forward },
            Command::RemoveDownstream { downstream, code } =>
                Core::RemoveDownstream { downstream, code },
            Command::FinishDownstream { downstream } =>
                Core::FinishDownstream { downstream },
            Command::AddSink { downstream, track, start } =>
                Core::AddSink { downstream, track, start: location(start) },
            Command::Publish { track, group, subgroup, object, ref payload, priority, status,
                               ref properties, end_of_subgroup, end_of_group } =>
                Core::Publish { track, object: NewObject {
                    group, subgroup, object, priority, status,
                    properties: to_rust(py, properties), payload: to_rust(py, payload),
                    end_of_subgroup, end_of_group } },
            Command::Snapshot { token } =>
                Core::Snapshot { token },
        }
    }
}

fn target(kind: Transport, offered: &[DraftNumber], authority: &str, path: &str) -> Target {
    let drafts = drafts(offered);
    match kind {
        Transport::Quic => Target::Quic { drafts },
        Transport::WebTransport => Target::WebTransport {
            authority: authority.to_owned(),
            path: path.to_owned(),
            drafts,
        },
        Transport::Hop => Target::Hop,
        Transport::Control => Target::Control,
    }
}
