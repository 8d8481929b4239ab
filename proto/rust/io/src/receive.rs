//! Datagrams in: many per system call, joined ones taken apart.

use crate::address::RawAddress;
use crate::cmsg::{CONTROL_BYTES_MAX, Incoming};
use crate::socket::UdpSocket;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::ptr;

/// Messages taken by one call.
pub(crate) const RECEIVE_BATCH: usize = 32;
/// One message, which with receive offload is many datagrams.
const MESSAGE_BYTES_MAX: usize = 65_536;

/// One datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    pub(crate) remote: SocketAddr,
    /// Known where the socket is bound to a wildcard.
    pub(crate) local_ip: Option<IpAddr>,
    pub(crate) ecn: u8,
    pub(crate) data: &'a [u8],
}

/// Counters of a [`Receiver`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReceiveStats {
    pub(crate) calls: u64,
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    pub(crate) truncated: u64,
    pub(crate) errors: u64,
}

/// Buffers for receiving, usable with any number of sockets.
pub(crate) struct Receiver {
    buffers: Vec<Box<[u8]>>,
    pub(crate) stats: ReceiveStats,
}

/// What the kernel said about one message of a batch.
struct Message {
    remote: SocketAddr,
    incoming: Incoming,
    bytes: usize,
}

impl Receiver {
    pub(crate) fn new() -> Receiver {
        Receiver {
            buffers: (0..RECEIVE_BATCH)
                .map(|_| vec![0; MESSAGE_BYTES_MAX].into_boxed_slice())
                .collect(),
            stats: ReceiveStats::default(),
        }
    }

    /// Take what waits, one batch at most, without blocking. True if the batch was full, so that
    /// more may wait. An error is one after which this socket will never work again; what may pass
    /// (an ICMP message, memory) is counted.
    pub(crate) fn receive(
        &mut self,
        socket: &UdpSocket,
        mut take: impl FnMut(Datagram<'_>),
    ) -> io::Result<bool> {
        self.stats.calls += 1;
        let messages = match receive_batch(socket, &mut self.buffers) {
            Ok(messages) => messages,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if is_passing(&error) => {
                self.stats.errors += 1;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let is_full = messages.len() == RECEIVE_BATCH;
        for (buffer, message) in self.buffers.iter().zip(messages) {
            let Some(message) = message else {
                self.stats.truncated += 1;
                continue;
            };
            let segment = message.incoming.segment_size.unwrap_or(MESSAGE_BYTES_MAX);
            for data in buffer[..message.bytes].chunks(segment) {
                self.stats.datagrams += 1;
                self.stats.bytes += data.len() as u64;
                take(Datagram {
                    remote: message.remote,
                    local_ip: message.incoming.local_ip,
                    ecn: message.incoming.ecn,
                    data,
                });
            }
        }
        Ok(is_full)
    }
}

/// One `recvmmsg`. `None` stands for a message that did not fit.
fn receive_batch(
    socket: &UdpSocket,
    buffers: &mut [Box<[u8]>],
) -> io::Result<Vec<Option<Message>>> {
    let count = buffers.len().min(RECEIVE_BATCH);
    let mut addresses = [RawAddress::empty(); RECEIVE_BATCH];
    let mut controls = [[0u8; CONTROL_BYTES_MAX]; RECEIVE_BATCH];
    // SAFETY: null pointers and zero lengths are valid values of these C structures.
    let (mut slices, mut headers): ([libc::iovec; RECEIVE_BATCH], [libc::mmsghdr; RECEIVE_BATCH]) =
        unsafe { mem::zeroed() };
    for i in 0..count {
        slices[i].iov_base = buffers[i].as_mut_ptr().cast();
        slices[i].iov_len = buffers[i].len();
        let header = &mut headers[i].msg_hdr;
        header.msg_name = addresses[i].as_mut_ptr().cast();
        header.msg_namelen = RawAddress::CAPACITY;
        header.msg_iov = &mut slices[i];
        header.msg_iovlen = 1;
        header.msg_control = controls[i].as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES_MAX as _;
    }
    // SAFETY: each of the `count` headers points to a buffer, an address and a control area of the
    // stated sizes, all of which outlive the call; `MSG_DONTWAIT` needs no timeout.
    let received = unsafe {
        libc::recvmmsg(
            socket.raw(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            ptr::null_mut(),
        )
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let read = |i: usize| {
        let header = &headers[i];
        let control_bytes = CONTROL_BYTES_MAX.min(header.msg_hdr.msg_controllen as _);
        let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        Some(Message {
            remote: addresses[i].get().filter(|_| !is_cut)?,
            incoming: Incoming::parse(&controls[i][..control_bytes]),
            bytes: (header.msg_len as usize).min(MESSAGE_BYTES_MAX),
        })
    };
    Ok((0..received.min(count)).map(read).collect())
}

/// Errors that say nothing about the socket itself: signals, memory, and ICMP messages.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EINTR
                | libc::ENOMEM
                | libc::ENOBUFS
                | libc::ECONNREFUSED
                | libc::ECONNRESET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ENETDOWN
                | libc::EHOSTDOWN
                | libc::EMSGSIZE
                | libc::ENOPROTOOPT
                | libc::EACCES
                | libc::EPROTO
        )
    )
}
