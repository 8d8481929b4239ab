//! All connections of a datapath, and which of them want what: to be driven, to send, to be woken.

use crate::command::SessionId;
use crate::config::Limits;
use crate::conn::Conn;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Instant;

/// Connections by the index of their QUIC handle.
#[derive(Default)]
pub(crate) struct Conns {
    slots: Vec<Option<Box<Conn>>>,
    by_session: BTreeMap<SessionId, usize>,
    /// Incoming ones whose session is not open yet.
    handshaking: BTreeSet<usize>,
    /// May have something to send.
    dirty: VecDeque<usize>,
    /// May have events for us.
    ready: VecDeque<usize>,
    /// Lazily invalidated: an entry counts if the connection is still armed for that moment.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Conns {
    pub(crate) fn len(&self) -> usize {
        self.by_session.len()
    }

    pub(crate) fn insert(&mut self, index: usize, conn: Conn) {
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        self.by_session.insert(conn.session, index);
        if conn.incoming {
            self.handshaking.insert(index);
        }
        self.slots[index] = Some(Box::new(conn));
        self.wake(index);
    }

    pub(crate) fn remove(&mut self, index: usize) {
        if let Some(conn) = self.slots.get_mut(index).and_then(Option::take) {
            self.by_session.remove(&conn.session);
            self.handshaking.remove(&index);
        }
    }

    /// How many incoming connections have no open session yet.
    pub(crate) fn handshaking(&self) -> usize {
        self.handshaking.len()
    }

    pub(crate) fn get(&mut self, index: usize) -> Option<&mut Conn> {
        self.slots.get_mut(index)?.as_deref_mut()
    }

    pub(crate) fn index_of(&self, session: SessionId) -> Option<usize> {
        self.by_session.get(&session).copied()
    }

    pub(crate) fn of_session(&mut self, session: SessionId) -> Option<(usize, &mut Conn)> {
        let index = self.index_of(session)?;
        self.get(index).map(|conn| (index, conn))
    }

    pub(crate) fn indices(&self) -> Vec<usize> {
        self.by_session.values().copied().collect()
    }

    /// Out of its slot while it is worked on together with the tables; `put_back` follows.
    pub(crate) fn take(&mut self, index: usize) -> Option<Box<Conn>> {
        self.slots.get_mut(index)?.take()
    }

    pub(crate) fn put_back(&mut self, index: usize, conn: Box<Conn>) {
        if conn.is_settled() {
            self.handshaking.remove(&index);
        }
        self.slots[index] = Some(conn);
    }

    /// It may have something to send.
    pub(crate) fn mark_dirty(&mut self, index: usize) {
        let Some(conn) = self.slots.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        if !std::mem::replace(&mut conn.is_dirty, true) {
            self.dirty.push_back(index);
        }
    }

    /// It may have events, and something to send.
    pub(crate) fn wake(&mut self, index: usize) {
        self.mark_dirty(index);
        let Some(conn) = self.slots.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        if !std::mem::replace(&mut conn.is_ready, true) {
            self.ready.push_back(index);
        }
    }

    pub(crate) fn next_ready(&mut self) -> Option<usize> {
        let index = self.ready.pop_front()?;
        if let Some(conn) = self.get(index) {
            conn.is_ready = false;
        }
        Some(index)
    }

    pub(crate) fn first_dirty(&self) -> Option<usize> {
        self.dirty.front().copied()
    }

    /// The first dirty connection has nothing to send any more.
    pub(crate) fn settle_first_dirty(&mut self) {
        let Some(index) = self.dirty.pop_front() else {
            return;
        };
        if let Some(conn) = self.get(index) {
            conn.is_dirty = false;
        }
    }

    /// Arm the timer that a connection wants now, unless it is looked at again before anybody sleeps.
    pub(crate) fn rearm(&mut self, index: usize, limits: &Limits) {
        let Some(conn) = self.slots.get_mut(index).and_then(Option::as_deref_mut) else {
            return;
        };
        if conn.is_dirty {
            return;
        }
        let wanted = conn.next_timeout(limits);
        if wanted != conn.armed {
            conn.armed = wanted;
            self.timers.extend(wanted.map(|at| Reverse((at, index))));
        }
    }

    pub(crate) fn next_timeout(&mut self) -> Option<Instant> {
        loop {
            let Reverse((at, index)) = *self.timers.peek()?;
            if self.get(index).is_some_and(|conn| conn.armed == Some(at)) {
                return Some(at);
            }
            self.timers.pop();
        }
    }

    /// The next connection whose timer is due; it is disarmed.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<usize> {
        let at = self.next_timeout()?;
        if at > now {
            return None;
        }
        let Reverse((_, index)) = self.timers.pop()?;
        if let Some(conn) = self.get(index) {
            conn.armed = None;
        }
        Some(index)
    }
}
