//! The two queues between the datapath's thread and the agent.
//!
//! An agent that is blocked for seconds must not hurt forwarding, and must not miss what it decides
//! on. So the thread never waits for it: events for its decisions are always kept, while objects for
//! local sinks are dropped, newest first, once too many wait. What peers write on control streams is
//! not read meanwhile, so that a peer cannot fill the memory of an edge whose agent is busy.

use crate::runtime::CommandQueueFull;
use crate::sys::EventFd;
use farcast_core::command::Command;
use farcast_core::event::Event;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of control streams that may wait for the agent before no more are read.
const CONTROL_BYTES_MAX: usize = 16 << 20;

/// A panic elsewhere ends the process, so that a poisoned lock cannot be met twice.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Commands on their way to the thread, and the wish that it ends.
pub(crate) struct CommandQueue {
    state: Mutex<CommandState>,
    wake: EventFd,
    commands_max: usize,
}

#[derive(Default)]
struct CommandState {
    commands: Vec<Command>,
    is_stopping: bool,
}

impl CommandQueue {
    pub(crate) fn new(commands_max: usize) -> io::Result<CommandQueue> {
        Ok(CommandQueue {
            state: Mutex::default(),
            wake: EventFd::new()?,
            commands_max,
        })
    }

    /// Queue all or none, and wake the thread if it may sleep.
    pub(crate) fn push(&self, mut commands: Vec<Command>) -> Result<(), CommandQueueFull> {
        if commands.is_empty() {
            return Ok(());
        }
        let mut state = lock(&self.state);
        if state.commands.len() + commands.len() > self.commands_max {
            let commands_max = self.commands_max;
            return Err(CommandQueueFull { commands_max });
        }
        if state.commands.is_empty() {
            self.wake.set();
        }
        state.commands.append(&mut commands);
        Ok(())
    }

    /// Wake the thread without a command.
    pub(crate) fn nudge(&self) {
        self.wake.set();
    }

    /// Ask the thread to end.
    pub(crate) fn stop(&self) {
        lock(&self.state).is_stopping = true;
        self.wake.set();
    }

    /// Move what waits to the end of `into`; true if the thread is to end.
    pub(crate) fn take(&self, into: &mut Vec<Command>) -> bool {
        let mut state = lock(&self.state);
        self.wake.clear();
        into.append(&mut state.commands);
        state.is_stopping
    }

    /// Readable while commands wait, or the wish to end does.
    pub(crate) fn raw(&self) -> RawFd {
        self.wake.raw()
    }
}

/// Events on their way to the agent.
pub(crate) struct EventQueue {
    state: Mutex<EventState>,
    ready: EventFd,
    events_max: usize,
    object_bytes_max: usize,
}

#[derive(Default)]
struct EventState {
    events: VecDeque<Event>,
    object_bytes: usize,
    control_bytes: usize,
    objects_dropped: u64,
    is_full: bool,
}

impl EventQueue {
    pub(crate) fn new(events_max: usize, object_bytes_max: usize) -> io::Result<EventQueue> {
        Ok(EventQueue {
            state: Mutex::default(),
            ready: EventFd::new()?,
            events_max,
            object_bytes_max,
        })
    }

    /// Append all, except objects beyond the limits. The agent is woken once, if it may sleep.
    pub(crate) fn push(&self, events: &mut Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut state = lock(&self.state);
        let was_empty = state.events.is_empty();
        for event in events.drain(..) {
            let bytes = object_bytes(&event);
            let is_full = state.events.len() >= self.events_max
                || state.object_bytes.saturating_add(bytes.unwrap_or(0)) > self.object_bytes_max;
            if is_full && bytes.is_some() {
                state.objects_dropped += 1;
                continue;
            }
            state.object_bytes += bytes.unwrap_or(0);
            state.control_bytes += control_bytes(&event);
            state.events.push_back(event);
        }
        state.is_full |= state.events.len() >= self.events_max;
        state.is_full |= state.control_bytes > CONTROL_BYTES_MAX;
        if was_empty && !state.events.is_empty() {
            self.ready.set();
        }
    }

    /// Take up to `max`, oldest first.
    pub(crate) fn take(&self, max: usize) -> Vec<Event> {
        let mut state = lock(&self.state);
        let count = state.events.len().min(max);
        let taken: Vec<Event> = state.events.drain(..count).collect();
        let bytes: usize = taken.iter().filter_map(object_bytes).sum();
        state.object_bytes -= bytes;
        state.control_bytes -= taken.iter().map(control_bytes).sum::<usize>();
        let has_room = state.events.len() <= self.events_max / 2
            && state.control_bytes <= CONTROL_BYTES_MAX / 2;
        state.is_full &= !has_room;
        if state.events.is_empty() {
            self.ready.clear();
        }
        taken
    }

    /// Too much waits, and half of it is not taken yet: control streams are to be left unread.
    pub(crate) fn is_full(&self) -> bool {
        lock(&self.state).is_full
    }

    /// Objects dropped so far.
    pub(crate) fn objects_dropped(&self) -> u64 {
        lock(&self.state).objects_dropped
    }

    /// Readable while events wait.
    pub(crate) fn raw(&self) -> RawFd {
        self.ready.raw()
    }
}

/// Bytes of a control or request stream.
fn control_bytes(event: &Event) -> usize {
    match event {
        Event::StreamData { data, .. } => data.len(),
        _ => 0,
    }
}

/// Bytes of an object for a local sink; `None` for every other event.
fn object_bytes(event: &Event) -> Option<usize> {
    match event {
        Event::Object(object) => Some(object.payload.len() + object.properties.len()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{PollFd, poll};
    use bytes::Bytes;
    use farcast_core::event::SinkObject;
    use std::time::Duration;

    fn is_set(fd: RawFd) -> bool {
        let mut fds = [PollFd::new(fd, false)];
        poll(&mut fds, Some(Duration::ZERO)).expect("poll works");
        fds[0].is_readable()
    }

    fn control(downstream: u64) -> Event {
        Event::DownstreamEnded {
            downstream,
            streams: 0,
        }
    }

    fn object(object: u64, bytes: usize) -> Event {
        Event::Object(SinkObject {
            downstream: 1,
            group: 0,
            subgroup: 0,
            object,
            priority: 0,
            status: 0,
            properties: Bytes::new(),
            payload: Bytes::from(vec![0; bytes]).into(),
            first_byte_us: 0,
            complete_us: 0,
        })
    }

    #[test]
    fn it_is_full_until_half_of_what_waits_is_taken() {
        let queue = EventQueue::new(4, 1_000).expect("an eventfd");
        queue.push(&mut (0..3).map(control).collect());
        assert!(!queue.is_full());
        queue.push(&mut vec![control(3)]);
        queue.take(1);
        assert!(queue.is_full());
        queue.take(1);
        assert!(!queue.is_full());
        let data = Event::StreamData {
            session: 0,
            stream: 0,
            kind: farcast_core::event::StreamKind::Control,
            data: vec![0; CONTROL_BYTES_MAX + 1].into(),
            fin: false,
        };
        queue.push(&mut vec![data]);
        assert!(queue.is_full());
        queue.take(9);
        assert!(!queue.is_full());
    }

    /// `c` and number for a control event, `o` and number for an object.
    fn names(events: &[Event]) -> Vec<String> {
        let name = |event: &Event| match event {
            Event::DownstreamEnded { downstream, .. } => format!("c{downstream}"),
            Event::Object(object) => format!("o{}", object.object),
            other => panic!("{other:?}"),
        };
        events.iter().map(name).collect()
    }

    #[test]
    fn the_descriptor_is_readable_exactly_while_events_wait() {
        let queue = EventQueue::new(10, 1_000).expect("an eventfd");
        assert!(!is_set(queue.raw()));
        queue.push(&mut vec![control(1), control(2)]);
        queue.push(&mut vec![control(3)]);
        assert!(is_set(queue.raw()));
        assert_eq!(names(&queue.take(2)), ["c1", "c2"]);
        assert!(is_set(queue.raw()), "one is left");
        assert_eq!(names(&queue.take(2)), ["c3"]);
        assert!(!is_set(queue.raw()));
        queue.push(&mut vec![]);
        assert!(!is_set(queue.raw()));
    }

    #[test]
    fn objects_beyond_the_count_are_dropped_and_other_events_never() {
        let queue = EventQueue::new(2, 1_000).expect("an eventfd");
        queue.push(&mut vec![
            object(1, 1),
            object(2, 1),
            object(3, 1),
            control(4),
        ]);
        queue.push(&mut vec![object(5, 1), control(6)]);
        assert_eq!(queue.objects_dropped(), 2);
        assert_eq!(names(&queue.take(10)), ["o1", "o2", "c4", "c6"]);
        queue.push(&mut vec![object(7, 1)]);
        assert_eq!(names(&queue.take(10)), ["o7"]);
    }

    #[test]
    fn objects_beyond_the_bytes_are_dropped_until_some_are_taken() {
        let queue = EventQueue::new(100, 1_000).expect("an eventfd");
        queue.push(&mut vec![object(1, 600), object(2, 600), object(3, 400)]);
        assert_eq!(names(&queue.take(1)), ["o1"]);
        queue.push(&mut vec![object(4, 600)]);
        assert_eq!(names(&queue.take(10)), ["o3", "o4"]);
        assert_eq!(queue.objects_dropped(), 1);
    }

    #[test]
    fn commands_are_queued_all_or_none_and_wake_the_thread_once() {
        let queue = CommandQueue::new(3).expect("an eventfd");
        let two = || {
            vec![
                Command::Snapshot { token: 1 },
                Command::Snapshot { token: 2 },
            ]
        };
        queue.push(two()).expect("room");
        assert_eq!(queue.push(two()), Err(CommandQueueFull { commands_max: 3 }));
        assert!(is_set(queue.raw()));
        let mut taken = Vec::new();
        assert!(!queue.take(&mut taken));
        assert_eq!(taken.len(), 2);
        assert!(!is_set(queue.raw()));
        queue.stop();
        assert!(is_set(queue.raw()) && queue.take(&mut taken));
    }
}
