//! The loop that a datapath's thread runs.
//!
//! Each turn: commands, datagrams, timers, then all sending, then events, then sleep until a datagram,
//! a command, room in the kernel's buffer, or the engine's deadline. Every step takes a bounded amount
//! of work; where more is left, the next turn comes without sleep.

use crate::clock;
use crate::receive::Receiver;
use crate::runtime::{IoStats, RuntimeOptions, Shared};
use crate::send::{SEND_BATCH, SendQueue};
use crate::socket::UdpSocket;
use crate::sys::{PollFd, poll};
use bytes::BytesMut;
use farcast_core::command::{Command, SessionId};
use farcast_core::event::Event;
use farcast_net::Engine;
use farcast_net::engine::TRAIN_DATAGRAMS_MAX;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Trains sent in one turn, before datagrams that arrived meanwhile are looked at.
const TRAINS_PER_TURN_MAX: usize = 1_024;
/// How long the end may take: a goodbye may be held by pacing, be lost and asked for again, or (for
/// WebTransport) need its connection a moment longer.
const CLOSE_MAX: Duration = Duration::from_millis(500);
/// Batches of datagrams that are read before timers fire, where so many wait.
const BATCHES_BEFORE_TIMERS_MAX: u32 = 16;

/// An engine, its socket, and the queues to its agent.
pub(crate) struct Shell<E> {
    engine: E,
    socket: UdpSocket,
    receiver: Receiver,
    send_queue: SendQueue,
    shared: Arc<Shared>,
    /// Kept for their storage.
    commands: Vec<Command>,
    events: Vec<Event>,
    /// Sessions that are open or being opened: closed at the end.
    sessions: BTreeSet<SessionId>,
    wakeups: u64,
    buffer_bytes: (u64, u64),
}

/// What is to be looked at in the next turn.
#[derive(Clone, Copy)]
struct Ready {
    datagrams: bool,
    commands: bool,
}

impl<E: Engine> Shell<E> {
    pub(crate) fn new(
        engine: E,
        socket: UdpSocket,
        options: &RuntimeOptions,
        shared: Arc<Shared>,
    ) -> Self {
        let gso = options.gso && socket.has_gso();
        Shell {
            engine,
            receiver: Receiver::new(),
            send_queue: SendQueue::new(options.send_queue_bytes_max, gso),
            shared,
            commands: Vec::new(),
            events: Vec::new(),
            sessions: BTreeSet::new(),
            wakeups: 0,
            buffer_bytes: socket.buffer_bytes(),
            socket,
        }
    }

    /// Run until the handle says stop and the peers know. An error: the socket is beyond use.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut ready = Ready {
            datagrams: true,
            commands: true,
        };
        let mut end_by = None;
        let mut batches = 0;
        loop {
            let is_stopping = ready.commands && self.execute_commands();
            if is_stopping && end_by.is_none() {
                self.close_sessions();
                end_by = Some(clock::now() + CLOSE_MAX);
            }
            self.engine.hold_control(self.shared.events.is_full());
            let more_datagrams = ready.datagrams && self.receive()?;
            // What waits is read first, or a pause of ours looks like a peer's silence.
            batches = if more_datagrams { batches + 1 } else { 0 };
            if batches % BATCHES_BEFORE_TIMERS_MAX == 0 {
                self.fire_timer();
            }
            let more_trains = self.transmit();
            self.publish_stats();
            self.hand_over_events();
            // Who comes in the last moment would wait for an answer that nobody gives.
            let more_to_send = (end_by.is_some() && self.close_sessions()) || more_trains;
            if end_by.is_some_and(|at| self.is_over(more_to_send, at)) {
                return Ok(());
            }
            ready = self.wait(more_datagrams || more_to_send, end_by)?;
        }
    }

    /// True if the thread is to end.
    fn execute_commands(&mut self) -> bool {
        let is_stopping = self.shared.commands.take(&mut self.commands);
        let now = clock::now();
        for command in self.commands.drain(..) {
            if let Command::Connect { session, .. } = command {
                self.sessions.insert(session);
            }
            self.engine.execute(now, command);
        }
        is_stopping
    }

    /// True if more may wait.
    fn receive(&mut self) -> io::Result<bool> {
        let now = clock::now();
        let engine = &mut self.engine;
        self.receiver.receive(&self.socket, |datagram| {
            let data = BytesMut::from(datagram.data);
            engine.handle_datagram(now, datagram.remote, datagram.local_ip, datagram.ecn, data);
        })
    }

    fn fire_timer(&mut self) {
        let now = clock::now();
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
        }
    }

    /// Send all there is, in batches over all connections; true if the turn's bound was met first.
    fn transmit(&mut self) -> bool {
        for _ in 0..TRAINS_PER_TURN_MAX / SEND_BATCH {
            let is_last = self.fill_send_queue();
            self.send_queue.flush(&self.socket);
            if is_last {
                return false;
            }
        }
        true
    }

    /// True if the engine has nothing more to send.
    fn fill_send_queue(&mut self) -> bool {
        let now = clock::now();
        for _ in 0..SEND_BATCH {
            let mut buffer = self.send_queue.buffer();
            let transmit = self
                .engine
                .poll_transmit(now, TRAIN_DATAGRAMS_MAX, &mut buffer);
            let Some(transmit) = transmit else {
                self.send_queue.recycle(buffer);
                return true;
            };
            self.send_queue.push(transmit, buffer);
        }
        false
    }

    fn hand_over_events(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match &event {
                Event::SessionOpened { session, .. } => {
                    self.sessions.insert(*session);
                }
                Event::SessionClosed { session, .. } => {
                    self.sessions.remove(session);
                }
                _ => {}
            }
            self.events.push(event);
        }
        self.shared.events.push(&mut self.events);
    }

    /// Sleep until something is to be done, or, at the end, until that is to be over.
    fn wait(&mut self, is_work_left: bool, end_by: Option<Instant>) -> io::Result<Ready> {
        let timeout = if is_work_left {
            Some(Duration::ZERO)
        } else {
            let wake_at = self.engine.poll_timeout().into_iter().chain(end_by).min();
            wake_at.map(|at| at.saturating_duration_since(clock::now()))
        };
        let mut fds = [
            PollFd::new(self.socket.raw(), self.send_queue.is_blocked()),
            PollFd::new(self.shared.commands.raw(), false),
        ];
        poll(&mut fds, timeout)?;
        self.wakeups += 1;
        Ok(Ready {
            datagrams: fds[0].is_readable(),
            commands: fds[1].is_readable(),
        })
    }

    /// Tell all peers that it is over; true if there were any.
    fn close_sessions(&mut self) -> bool {
        let (now, any) = (clock::now(), !self.sessions.is_empty());
        for session in std::mem::take(&mut self.sessions) {
            let close = Command::Close {
                session,
                code: 0,
                reason: "shutting down".to_owned(),
            };
            self.engine.execute(now, close);
        }
        any
    }

    /// At the end: nothing is left to send, and no connection waits for anything.
    fn is_over(&mut self, more_to_send: bool, end_by: Instant) -> bool {
        let is_sent = !more_to_send && !self.send_queue.is_blocked();
        (is_sent && self.engine.poll_timeout().is_none()) || clock::now() >= end_by
    }

    fn publish_stats(&self) {
        let (receive, send) = (&self.receiver.stats, &self.send_queue.stats);
        let stats = IoStats {
            wakeups: self.wakeups,
            receive_calls: receive.calls,
            send_calls: send.calls,
            datagrams_in: receive.datagrams,
            bytes_in: receive.bytes,
            datagrams_out: send.datagrams,
            bytes_out: send.bytes,
            datagrams_truncated: receive.truncated,
            datagrams_dropped_queue: send.dropped_queue,
            datagrams_refused: send.refused,
            receive_errors: receive.errors,
            send_blocked: send.blocked,
            objects_dropped: 0, // counted by the queue
            gso: self.send_queue.has_gso(),
            gro: self.socket.has_gro(),
            receive_buffer_bytes: self.buffer_bytes.0,
            send_buffer_bytes: self.buffer_bytes.1,
        };
        *self
            .shared
            .stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = stats;
    }
}
