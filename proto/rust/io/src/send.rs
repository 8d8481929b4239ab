//! Datagrams out: trains of several connections in one system call, with segmentation offload where
//! kernel and network card allow it.
//!
//! What the kernel's buffer has no room for waits in a bounded queue; beyond that it is dropped, as a
//! network would, and congestion control sees it as loss. What the kernel refuses (too long, no route,
//! a firewall) is dropped and counted. Offload that is refused (EINVAL, EIO) is tried without at once:
//! if the same bytes then pass, it stays off.

use crate::address::RawAddress;
use crate::cmsg;
use crate::socket::UdpSocket;
use farcast_core::datapath::Transmit;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};

/// Messages given to one call.
pub(crate) const SEND_BATCH: usize = 32;
/// Longest UDP payload over IPv4, which bounds a train too.
const MESSAGE_BYTES_MAX: usize = 65_507;
/// Send buffers kept for later.
const POOL_BUFFERS_MAX: usize = 256;

/// One datagram, or a train of them that the kernel cuts at `segment_size`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// `None` on a connected socket.
    pub(crate) destination: Option<SocketAddr>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) ecn: u8,
    pub(crate) segment_size: Option<usize>,
    pub(crate) data: &'a [u8],
}

/// One `sendmmsg` of the first [`SEND_BATCH`] messages. Gives how many were sent, at least one; an
/// error is that of the first.
pub(crate) fn send_batch(socket: &UdpSocket, messages: &[Message<'_>]) -> io::Result<usize> {
    let count = messages.len().min(SEND_BATCH);
    let mut addresses = [RawAddress::empty(); SEND_BATCH];
    let mut controls = [cmsg::Outgoing::EMPTY; SEND_BATCH];
    // SAFETY: null pointers and zero lengths are valid values of these C structures.
    let (mut slices, mut headers): ([libc::iovec; SEND_BATCH], [libc::mmsghdr; SEND_BATCH]) =
        unsafe { mem::zeroed() };
    for (i, message) in messages[..count].iter().enumerate() {
        // The kernel only reads through these pointers, whatever their type says.
        slices[i].iov_base = message.data.as_ptr().cast_mut().cast();
        slices[i].iov_len = message.data.len();
        let header = &mut headers[i].msg_hdr;
        header.msg_iov = &mut slices[i];
        header.msg_iovlen = 1;
        if let Some(destination) = message.destination {
            addresses[i] = RawAddress::new(destination, socket.is_v6());
            header.msg_name = addresses[i].as_ptr().cast_mut().cast();
            header.msg_namelen = addresses[i].len();
        }
        add_controls(&mut controls[i], message, socket);
        let control = controls[i].as_bytes();
        if !control.is_empty() {
            header.msg_control = control.as_ptr().cast_mut().cast();
            header.msg_controllen = control.len() as _;
        }
    }
    // SAFETY: each of the `count` headers points to data, an address and control messages of the
    // stated sizes, all of which outlive the call.
    let sent = unsafe {
        libc::sendmmsg(
            socket.raw(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT as _,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn add_controls(control: &mut cmsg::Outgoing, message: &Message<'_>, socket: &UdpSocket) {
    if let Some(size) = message
        .segment_size
        .and_then(|size| u16::try_from(size).ok())
    {
        control.segment_size(size);
    }
    if message.ecn != 0 {
        let to_v4 = message.destination.map_or(!socket.is_v6(), |d| d.is_ipv4());
        control.ecn(message.ecn, to_v4);
    }
    if let Some(source) = message.source {
        control.source(source);
    }
}

/// Counters of a [`SendQueue`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SendStats {
    pub(crate) calls: u64,
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    pub(crate) dropped_queue: u64,
    pub(crate) refused: u64,
    pub(crate) blocked: u64,
}

/// Trains on their way to the kernel.
pub(crate) struct SendQueue {
    trains: VecDeque<Train>,
    queue_bytes: usize,
    queue_bytes_max: usize,
    pool: Vec<Vec<u8>>,
    gso: bool,
    blocked: bool,
    pub(crate) stats: SendStats,
}

struct Train {
    transmit: Transmit,
    buffer: Vec<u8>,
    sent_bytes: usize,
    /// Offload was refused for it.
    is_split: bool,
}

impl Train {
    /// What is left, cut into messages.
    fn messages(&self, gso: bool) -> impl Iterator<Item = Message<'_>> {
        let left = &self.buffer[self.sent_bytes..];
        let segment = self.transmit.segment_size.unwrap_or(left.len()).max(1);
        let trains = if gso && !self.is_split {
            (MESSAGE_BYTES_MAX / segment).max(1)
        } else {
            1
        };
        left.chunks(segment.saturating_mul(trains))
            .map(move |data| Message {
                destination: Some(self.transmit.destination),
                source: self.transmit.src_ip,
                ecn: self.transmit.ecn,
                segment_size: (data.len() > segment).then_some(segment),
                data,
            })
    }

    fn datagrams_in(&self, bytes: usize) -> u64 {
        let segment = self.transmit.segment_size.unwrap_or(bytes).max(1);
        bytes.div_ceil(segment) as u64
    }
}

impl SendQueue {
    /// An empty queue. `gso`: try segmentation offload.
    pub(crate) fn new(queue_bytes_max: usize, gso: bool) -> SendQueue {
        SendQueue {
            trains: VecDeque::new(),
            queue_bytes: 0,
            queue_bytes_max,
            pool: Vec::new(),
            gso,
            blocked: false,
            stats: SendStats::default(),
        }
    }

    /// An empty buffer for [`SendQueue::push`].
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.pool.pop().unwrap_or_default()
    }

    /// Give back a buffer that was not needed.
    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.pool.len() < POOL_BUFFERS_MAX {
            buffer.clear();
            self.pool.push(buffer);
        }
    }

    /// Queue what `transmit` describes and `buffer` holds.
    pub(crate) fn push(&mut self, transmit: Transmit, mut buffer: Vec<u8>) {
        buffer.truncate(transmit.size);
        let train = Train {
            transmit,
            buffer,
            sent_bytes: 0,
            is_split: false,
        };
        let bytes = train.buffer.len();
        if self.queue_bytes.saturating_add(bytes) > self.queue_bytes_max {
            self.stats.dropped_queue += train.datagrams_in(bytes);
            return self.recycle(train.buffer);
        }
        if bytes == 0 {
            return self.recycle(train.buffer);
        }
        self.queue_bytes += bytes;
        self.trains.push_back(train);
    }

    /// Whether the kernel's buffer was full at the last flush: poll for writing.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether segmentation offload is in use.
    pub(crate) fn has_gso(&self) -> bool {
        self.gso
    }

    /// Send until nothing waits or the kernel's buffer is full. Each turn takes at least one message
    /// off the queue, blocks, or turns a train to be split, so that it ends.
    pub(crate) fn flush(&mut self, socket: &UdpSocket) {
        self.blocked = false;
        while !self.trains.is_empty() && !self.blocked {
            self.stats.calls += 1;
            let messages = self.next_messages();
            let sent = send_batch(socket, &messages);
            let lengths = messages.iter().map(|message| message.data.len());
            match sent {
                Ok(count) => {
                    let lengths: Vec<usize> = lengths.take(count).collect();
                    self.note_sent(&lengths);
                }
                Err(error) => {
                    let first_bytes = messages[0].data.len();
                    let is_train = messages[0].segment_size.is_some();
                    self.note_error(&error, first_bytes, is_train);
                }
            }
        }
    }

    fn next_messages(&self) -> Vec<Message<'_>> {
        let messages = self
            .trains
            .iter()
            .flat_map(|train| train.messages(self.gso));
        messages.take(SEND_BATCH).collect()
    }

    fn note_sent(&mut self, lengths: &[usize]) {
        for &bytes in lengths {
            let Some(train) = self.trains.front() else {
                return;
            };
            // What offload was refused for passed without it: the path has no offload.
            self.gso &= !train.is_split;
            self.stats.datagrams += train.datagrams_in(bytes);
            self.stats.bytes += bytes as u64;
            self.advance(bytes);
        }
    }

    fn note_error(&mut self, error: &io::Error, first_bytes: usize, is_train: bool) {
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EAGAIN) => {
                self.stats.blocked += 1;
                self.blocked = true;
            }
            Some(libc::EINVAL | libc::EIO) if is_train => {
                if let Some(train) = self.trains.front_mut() {
                    train.is_split = true;
                }
            }
            _ => {
                let refused = self
                    .trains
                    .front()
                    .map(|train| train.datagrams_in(first_bytes));
                self.stats.refused += refused.unwrap_or(0);
                self.advance(first_bytes);
            }
        }
    }

    /// The first `bytes` of the first train are done with.
    fn advance(&mut self, bytes: usize) {
        let Some(train) = self.trains.front_mut() else {
            return;
        };
        train.sent_bytes += bytes;
        self.queue_bytes -= bytes;
        if train.sent_bytes >= train.buffer.len()
            && let Some(done) = self.trains.pop_front()
        {
            self.recycle(done.buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::Receiver;
    use crate::socket::SocketOptions;
    use crate::sys::{PollFd, poll};
    use std::time::Duration;

    fn loopback(gro: bool, send_buffer_bytes: usize) -> UdpSocket {
        let options = SocketOptions {
            gro,
            receive_buffer_bytes: 4 << 20,
            send_buffer_bytes,
        };
        let any_port = "127.0.0.1:0".parse().expect("an address");
        UdpSocket::bind(any_port, &options).expect("loopback binds")
    }

    /// A train whose datagrams begin with their number.
    fn train(to: &UdpSocket, count: usize, segment: usize) -> (Transmit, Vec<u8>) {
        let mut buffer = vec![0; count * segment - 1];
        for (i, datagram) in buffer.chunks_mut(segment).enumerate() {
            datagram[0] = i as u8;
        }
        let transmit = Transmit {
            destination: to.local_addr().expect("bound"),
            ecn: 0,
            size: buffer.len(),
            segment_size: (count > 1).then_some(segment),
            src_ip: None,
        };
        (transmit, buffer)
    }

    /// First byte and length of each datagram that arrives, until `count` have or a second passes.
    fn receive(socket: &UdpSocket, count: usize) -> Vec<(u8, usize)> {
        let mut receiver = Receiver::new();
        let mut got = Vec::new();
        while got.len() < count {
            let mut fds = [PollFd::new(socket.raw(), false)];
            poll(&mut fds, Some(Duration::from_secs(1))).expect("poll works");
            if !fds[0].is_readable() {
                break;
            }
            let take = receiver.receive(socket, |d| got.push((d.data[0], d.data.len())));
            take.expect("the socket is sound");
        }
        got
    }

    fn numbered(count: usize, segment: usize) -> Vec<(u8, usize)> {
        let length = |i| if i + 1 == count { segment - 1 } else { segment };
        (0..count).map(|i| (i as u8, length(i))).collect()
    }

    #[test]
    fn a_train_arrives_as_the_same_datagrams_with_and_without_offload() {
        for (gso, gro) in [(true, true), (true, false), (false, true), (false, false)] {
            let (from, to) = (loopback(false, 4 << 20), loopback(gro, 1 << 16));
            let mut queue = SendQueue::new(1 << 20, gso && from.has_gso());
            let (transmit, buffer) = train(&to, 40, 1_200);
            queue.push(transmit, buffer);
            queue.flush(&from);
            assert_eq!(
                receive(&to, 40),
                numbered(40, 1_200),
                "gso {gso}, gro {gro}"
            );
            assert_eq!(queue.stats.datagrams, 40);
            assert_eq!(queue.stats.calls, if gso { 1 } else { 2 });
            assert_eq!(queue.queue_bytes, 0);
        }
    }

    #[test]
    fn trains_to_several_destinations_go_in_one_call() {
        let from = loopback(false, 4 << 20);
        let sockets: Vec<UdpSocket> = (0..8).map(|_| loopback(true, 1 << 16)).collect();
        let mut queue = SendQueue::new(1 << 20, true);
        for to in &sockets {
            let (transmit, buffer) = train(to, 5, 1_000);
            queue.push(transmit, buffer);
        }
        queue.flush(&from);
        assert_eq!(queue.stats.calls, 1);
        for to in &sockets {
            assert_eq!(receive(to, 5), numbered(5, 1_000));
        }
    }

    #[test]
    fn a_train_that_the_kernel_refuses_is_sent_without_offload_which_then_stays_off() {
        let (from, to) = (loopback(false, 4 << 20), loopback(false, 1 << 16));
        let mut queue = SendQueue::new(1 << 20, true);
        // More segments than any kernel takes in one message (64, or 128 since 6.9).
        for _ in 0..2 {
            let (transmit, buffer) = train(&to, 200, 100);
            queue.push(transmit, buffer);
            queue.flush(&from);
            assert_eq!(receive(&to, 200), numbered(200, 100));
            assert!(!queue.has_gso());
        }
        assert_eq!((queue.stats.refused, queue.stats.datagrams), (0, 400));
    }

    #[test]
    fn a_train_refused_for_another_reason_leaves_offload_on() {
        let (from, to) = (loopback(false, 4 << 20), loopback(false, 1 << 16));
        let mut queue = SendQueue::new(1 << 20, true);
        let (mut transmit, buffer) = train(&to, 4, 1_000);
        transmit.destination.set_port(0); // EINVAL
        queue.push(transmit, buffer);
        queue.flush(&from);
        assert_eq!(queue.stats.refused, 4);
        assert!(queue.has_gso());
        let (transmit, buffer) = train(&to, 4, 1_000);
        queue.push(transmit, buffer);
        queue.flush(&from);
        assert_eq!(receive(&to, 4), numbered(4, 1_000));
    }

    #[test]
    fn a_datagram_that_is_too_long_is_refused_and_the_next_one_sent() {
        let (from, to) = (loopback(false, 4 << 20), loopback(false, 1 << 16));
        let mut queue = SendQueue::new(1 << 20, true);
        for bytes in [65_600, 500] {
            let (transmit, buffer) = train(&to, 1, bytes);
            queue.push(transmit, buffer);
        }
        queue.flush(&from);
        assert_eq!(queue.stats.refused, 1);
        assert_eq!(receive(&to, 1), [(0, 499)]);
    }

    #[test]
    fn what_the_kernel_has_no_room_for_waits_up_to_the_limit_and_then_is_dropped() {
        // Loopback takes datagrams out of the send buffer at once, so the kernel is never full here:
        // trains are queued and not flushed, as if it were.
        let (from, to) = (loopback(false, 1 << 16), loopback(true, 4 << 20));
        let mut queue = SendQueue::new(25_000, true);
        for _ in 0..3 {
            let (transmit, buffer) = train(&to, 10, 1_000);
            queue.push(transmit, buffer);
        }
        assert_eq!((queue.trains.len(), queue.stats.dropped_queue), (2, 10));
        queue.note_error(&io::Error::from_raw_os_error(libc::EAGAIN), 9_999, true);
        assert!(queue.is_blocked());
        assert_eq!(queue.trains.len(), 2, "blocked is not lost");
        while !queue.trains.is_empty() {
            queue.flush(&from);
        }
        assert!(!queue.is_blocked());
        assert_eq!(receive(&to, 20).len(), 20);
    }

    #[test]
    fn a_train_longer_than_a_message_is_cut_between_datagrams() {
        let (from, to) = (loopback(false, 4 << 20), loopback(true, 1 << 16));
        let mut queue = SendQueue::new(1 << 20, true);
        let (transmit, buffer) = train(&to, 60, 1_452);
        queue.push(transmit, buffer);
        queue.flush(&from);
        assert_eq!(receive(&to, 60), numbered(60, 1_452));
        assert!(queue.has_gso());
    }
}
