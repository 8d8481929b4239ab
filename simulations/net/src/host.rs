//! A host: an engine at an address, and what happens to hosts: pauses, crashes, other addresses.
//!
//! A paused host is a process that was stopped (SIGSTOP, a virtual machine that hangs): the network goes on
//! filling its socket's buffer, and when it goes on everything that waited comes at once, before its
//! timers. A stopped host is a crash: its peers learn it by silence.

use crate::engine::Engine;
use crate::kernel::{ENTRIES_MAX, HostId};
use crate::queue::Datagram;
use crate::record::{Recorder, object_trace};
use crate::rng::derive_seed;
use crate::{World, WorldError};
use farcast_core::command::{Command, DownstreamId};
use farcast_core::config::DatapathConfig;
use farcast_core::datapath::Datapath;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Payload bytes that wait in the socket of a paused host; what does not fit is lost. As the edge asks of
/// its real socket.
pub const SOCKET_BYTES_MAX: usize = 4 << 20;

pub(crate) struct Host<E> {
    pub(crate) address: SocketAddr,
    /// How often it has moved.
    pub(crate) moves: u32,
    /// None while it is stopped.
    pub(crate) engine: Option<E>,
    /// How often its engine has been replaced.
    pub(crate) incarnation: u32,
    /// Time of the one timer entry that counts; older entries are stale.
    pub(crate) timer_us: Option<u64>,
    /// It is to be flushed at this instant.
    pub(crate) is_touched: bool,
    pub(crate) recorder: Recorder,
    paused_until_us: Option<u64>,
    waiting: VecDeque<Input>,
    waiting_bytes: usize,
}

/// What waits for a paused host.
pub(crate) enum Input {
    Datagram(Datagram),
    Command(Box<Command>),
}

impl<E> Host<E> {
    pub(crate) fn new(address: SocketAddr, engine: E) -> Host<E> {
        Host {
            address,
            moves: 0,
            engine: Some(engine),
            incarnation: 0,
            timer_us: None,
            is_touched: false,
            recorder: Recorder::default(),
            paused_until_us: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused_until_us.is_some()
    }

    /// Whether the pause ends now. A later or earlier call of `pause_host` may have moved its end.
    pub(crate) fn resumes_at(&self, now_us: u64) -> bool {
        self.paused_until_us == Some(now_us)
    }

    /// For the paused host; whether there was room.
    pub(crate) fn wait(&mut self, input: Input) -> bool {
        if self.waiting.len() >= ENTRIES_MAX {
            return false;
        }
        if let Input::Datagram(datagram) = &input {
            if self.waiting_bytes + datagram.data.len() > SOCKET_BYTES_MAX {
                return false;
            }
            self.waiting_bytes += datagram.data.len();
        }
        self.waiting.push_back(input);
        true
    }

    /// The pause is over: what waited, in order.
    pub(crate) fn resume(&mut self) -> VecDeque<Input> {
        self.paused_until_us = None;
        self.waiting_bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    fn replace_engine(&mut self, engine: Option<E>) {
        self.engine = engine;
        self.incarnation += 1;
        self.timer_us = None;
        self.recorder.forget_sinks();
        self.resume();
    }
}

impl<E: Engine> World<E> {
    pub(crate) fn host_mut(&mut self, host: HostId) -> Result<&mut Host<E>, WorldError> {
        self.hosts.get_mut(host).ok_or(WorldError::NoHost(host))
    }

    /// Hand nothing over to a host, and let its timers wait, until a time: at most [`SOCKET_BYTES_MAX`] wait
    /// for it, and commands. A time that has passed ends a pause now.
    pub fn pause_host(&mut self, host: HostId, until_us: u64) -> Result<(), WorldError> {
        let until_us = until_us.max(self.now_us());
        let paused = self.host_mut(host)?;
        if paused.engine.is_none() {
            return Ok(());
        }
        paused.paused_until_us = Some(until_us);
        self.schedule_resume(until_us, host)
    }

    /// Crash a host: its engine is gone, with its events and what was scheduled for it. What arrives for it
    /// is lost, and commands to it are ignored. Its records stay.
    pub fn stop_host(&mut self, host: HostId) -> Result<(), WorldError> {
        self.host_mut(host)?.replace_engine(None);
        self.forget_events(host);
        Ok(())
    }

    /// Put another engine in a host's place, stopped or not: same number, address and links.
    pub fn restart_engine(&mut self, host: HostId, engine: E) -> Result<(), WorldError> {
        self.host_mut(host)?.replace_engine(Some(engine));
        self.forget_events(host);
        self.flush(host)
    }

    /// Give a host another address; what is under way to the old one is lost. The engine is not told.
    pub fn move_host(&mut self, host: HostId, address: SocketAddr) -> Result<(), WorldError> {
        let old = self.host_mut(host)?.address;
        if old == address {
            return Ok(());
        }
        if self.addresses.contains_key(&address) {
            return Err(WorldError::DuplicateAddress(address));
        }
        self.addresses.remove(&old);
        self.addresses.insert(address, host);
        let moved = self.host_mut(host)?;
        moved.address = address;
        moved.moves += 1;
        Ok(())
    }

    /// Keep what a local sink gets as records instead of giving events.
    pub fn record(&mut self, host: HostId, sink: DownstreamId) -> Result<(), WorldError> {
        self.host_mut(host)?.recorder.add(sink);
        Ok(())
    }

    /// The records of a host since the last call, in order of time.
    pub fn take_record(&mut self, host: HostId) -> Result<Vec<u8>, WorldError> {
        Ok(self.host_mut(host)?.recorder.take())
    }
}

impl World<Datapath> {
    /// Note when each object's first and last byte comes to a host's datapath.
    pub fn trace_objects(&mut self, host: HostId, on: bool) -> Result<(), WorldError> {
        if let Some(engine) = &mut self.host_mut(host)?.engine {
            engine.trace_objects(on);
        }
        Ok(())
    }

    /// That trace since the last call, [`OBJECT_TRACE_BYTES`](crate::record::OBJECT_TRACE_BYTES) each.
    pub fn take_object_trace(&mut self, host: HostId) -> Result<Vec<u8>, WorldError> {
        let engine = self.host_mut(host)?.engine.as_mut();
        let (objects, dropped) = engine.map(Datapath::take_object_trace).unwrap_or_default();
        self.stats.traces_dropped += dropped;
        Ok(object_trace(&objects))
    }

    /// Put a new datapath in a host's place, stopped or not: same number, address and links. Without a
    /// seed of its own it gets one from the world's, another one each time.
    pub fn restart_host(
        &mut self,
        host: HostId,
        mut config: DatapathConfig,
    ) -> Result<(), WorldError> {
        let incarnation = u64::from(self.host_mut(host)?.incarnation) + 1;
        let seed = derive_seed(derive_seed(self.seed(), host as u64), incarnation);
        config.seed.get_or_insert(seed);
        let engine = Datapath::new(config, self.epoch()).map_err(WorldError::Tls)?;
        self.restart_engine(host, engine)
    }
}
