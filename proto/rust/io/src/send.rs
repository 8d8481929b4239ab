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
