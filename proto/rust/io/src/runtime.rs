//! A datapath on a UDP socket, in a thread of its own: the handle that the agent's process holds.

use crate::clock;
use crate::queue::{CommandQueue, EventQueue};
use crate::shell::Shell;
use crate::socket::{SocketOptions, UdpSocket};
use crate::thread;
use farcast_core::command::Command;
use farcast_core::config::DatapathConfig;
use farcast_core::datapath::Datapath;
use farcast_core::event::Event;
use farcast_net::Engine;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// Limits and sizes of a [`Runtime`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// Commands that may wait for the thread.
    pub commands_max: usize,
    /// Waiting events beyond which `Object` events are dropped, and control streams are not read until
    /// half of them are gone; other events are always kept.
    pub events_max: usize,
    /// Payload bytes of waiting `Object` events beyond which further ones are dropped.
    pub event_bytes_max: usize,
    /// Bytes that may wait for a socket whose kernel buffer is full; further ones are dropped.
    pub send_queue_bytes_max: usize,
    /// Kernel receive buffer asked for, bytes.
    pub receive_buffer_bytes: usize,
    /// Kernel send buffer asked for, bytes.
    pub send_buffer_bytes: usize,
    /// Use UDP segmentation offload where the kernel has it.
    pub gso: bool,
    /// Use UDP receive offload where the kernel has it.
    pub gro: bool,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        RuntimeOptions {
            commands_max: 65_536,
            events_max: 65_536,
            event_bytes_max: 128 << 20,
            send_queue_bytes_max: 4 << 20,
            receive_buffer_bytes: 8 << 20,
            send_buffer_bytes: 8 << 20,
            gso: true,
            gro: true,
        }
    }
}

/// Counters of the thread and its socket since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // named after what they count
pub struct IoStats {
    /// Times the thread woke up.
    pub wakeups: u64,
    pub receive_calls: u64,
    pub send_calls: u64,
    pub datagrams_in: u64,
    pub bytes_in: u64,
    pub datagrams_out: u64,
    pub bytes_out: u64,
    /// Datagrams longer than the receive buffer.
    pub datagrams_truncated: u64,
    /// Datagrams dropped because the send queue was full.
    pub datagrams_dropped_queue: u64,
    /// Datagrams the kernel refused (too long, no route, …).
    pub datagrams_refused: u64,
    pub receive_errors: u64,
    /// Times the kernel's send buffer was full.
    pub send_blocked: u64,
    /// `Object` events dropped because the agent did not drain them.
    pub objects_dropped: u64,
    /// Whether offload is in use.
    pub gso: bool,
    pub gro: bool,
    /// Kernel buffers as granted.
    pub receive_buffer_bytes: u64,
    pub send_buffer_bytes: u64,
}

/// The thread did not keep up with commands; none of the call was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandQueueFull {
    /// The limit, in commands.
    pub commands_max: usize,
}

impl fmt::Display for CommandQueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command queue full: {} commands wait", self.commands_max)
    }
}

impl Error for CommandQueueFull {}

/// What the thread and its handle share.
pub(crate) struct Shared {
    pub(crate) commands: CommandQueue,
    pub(crate) events: EventQueue,
    pub(crate) stats: Mutex<IoStats>,
}

/// A running datapath. Dropping it closes it.
pub struct Runtime {
    local_addr: SocketAddr,
    epoch: Instant,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    /// Bind `listen` and start the thread. A busy port is an error of kind `AddrInUse` that reads
    /// `address already in use: 127.0.0.1:4433`.
    pub fn start(listen: SocketAddr, config: DatapathConfig) -> io::Result<Runtime> {
        Runtime::start_with(listen, RuntimeOptions::default(), move |epoch| {
            Datapath::new(config, epoch).map_err(io::Error::other)
        })
    }

    /// The same with other options, and with an engine that `make` makes, given the epoch.
    pub fn start_with<E: Engine + Send + 'static>(
        listen: SocketAddr,
        options: RuntimeOptions,
        make: impl FnOnce(Instant) -> io::Result<E>,
    ) -> io::Result<Runtime> {
        let socket_options = SocketOptions {
            gro: options.gro,
            receive_buffer_bytes: options.receive_buffer_bytes,
            send_buffer_bytes: options.send_buffer_bytes,
        };
        let socket = UdpSocket::bind(listen, &socket_options)?;
        let local_addr = socket.local_addr()?;
        let epoch = clock::now();
        let engine = make(epoch)?;
        let shared = Arc::new(Shared {
            commands: CommandQueue::new(options.commands_max)?,
            events: EventQueue::new(options.events_max, options.event_bytes_max)?,
            stats: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn("farcast-datapath", move || {
            Shell::new(engine, socket, &options, theirs).run()
        })?;
        Ok(Runtime {
            local_addr,
            epoch,
            shared,
            thread: Some(thread),
        })
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The instant from which all `*_us` values count.
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    /// Microseconds since the epoch.
    pub fn now_us(&self) -> u64 {
        clock::micros_since(self.epoch, clock::now())
    }

    /// Hand commands to the thread, all or none.
    pub fn execute(&self, commands: Vec<Command>) -> Result<(), CommandQueueFull> {
        self.shared.commands.push(commands)
    }

    /// Take up to `max` waiting events, oldest first.
    pub fn drain_events(&self, max: usize) -> Vec<Event> {
        let was_full = self.shared.events.is_full();
        let taken = self.shared.events.take(max);
        if was_full && !self.shared.events.is_full() {
            self.shared.commands.nudge();
        }
        taken
    }

    /// Readable while events wait. Not to be read or closed by the caller: `drain_events` clears it.
    pub fn event_fd(&self) -> RawFd {
        self.shared.events.raw()
    }

    /// Counters, as of when the thread last slept or handed over events.
    pub fn stats(&self) -> IoStats {
        let stats = self.shared.stats.lock();
        let mut stats = *stats.unwrap_or_else(PoisonError::into_inner);
        stats.objects_dropped = self.shared.events.objects_dropped();
        stats
    }

    /// Close all sessions, tell their peers, and join the thread, which takes half a second at most.
    /// What it told until then can still be drained. Idempotent.
    pub fn close(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.commands.stop();
            // A thread that panics has ended the process.
            let _ = thread.join();
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.close();
    }
}
