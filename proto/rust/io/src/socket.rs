//! A non-blocking UDP socket: how it is opened, and what the kernel granted.

use crate::sys;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// What is asked of the kernel for a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOptions {
    /// Receive several datagrams of one sender joined.
    pub(crate) gro: bool,
    /// Kernel receive buffer, bytes.
    pub(crate) receive_buffer_bytes: usize,
    /// Kernel send buffer, bytes.
    pub(crate) send_buffer_bytes: usize,
}

/// A UDP socket.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    socket: StdSocket,
    is_v6: bool,
    has_gro: bool,
}

impl UdpSocket {
    /// Bind to `listen`. `[::]` takes IPv4 too. Bound to a wildcard, it reports the local address of
    /// each datagram.
    pub(crate) fn bind(listen: SocketAddr, options: &SocketOptions) -> io::Result<UdpSocket> {
        let fd = sys::udp_socket(listen.is_ipv6())?;
        if listen.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            sys::set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
        }
        sys::bind(fd.as_fd(), listen).map_err(|error| explain_bind(listen, &error))?;
        UdpSocket::configure(fd, listen.is_ipv6(), listen.ip().is_unspecified(), options)
    }

    /// Bind to a free port and connect to `target`, so that nobody else's datagrams come in.
    pub(crate) fn connect(target: SocketAddr, options: &SocketOptions) -> io::Result<UdpSocket> {
        let any = match target {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let fd = sys::udp_socket(target.is_ipv6())?;
        sys::bind(fd.as_fd(), SocketAddr::new(any, 0))?;
        let socket = UdpSocket::configure(fd, target.is_ipv6(), false, options)?;
        socket.socket.connect(target)?;
        Ok(socket)
    }

    fn configure(
        fd: OwnedFd,
        is_v6: bool,
        is_wildcard: bool,
        options: &SocketOptions,
    ) -> io::Result<UdpSocket> {
        let borrowed = fd.as_fd();
        probe_mtu(borrowed, is_v6)?;
        report_ecn(borrowed, is_v6)?;
        if is_wildcard {
            report_local_address(borrowed, is_v6)?;
        }
        ask_for_buffers(borrowed, options)?;
        // Refused by kernels before 5.0: then datagrams come one by one.
        let has_gro =
            options.gro && sys::set_option(borrowed, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        Ok(UdpSocket {
            socket: StdSocket::from(fd),
            is_v6,
            has_gro,
        })
    }

    /// The bound address.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Whether addresses must be IPv6 (or mapped).
    pub(crate) fn is_v6(&self) -> bool {
        self.is_v6
    }

    /// Whether receive offload is on.
    pub(crate) fn has_gro(&self) -> bool {
        self.has_gro
    }

    /// Whether the kernel knows segmentation offload (4.18 and up); the path may still refuse it.
    pub(crate) fn has_gso(&self) -> bool {
        sys::option(self.socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT).is_ok()
    }

    /// Kernel receive and send buffer as granted, bytes (the kernel counts its own overhead in).
    pub(crate) fn buffer_bytes(&self) -> (u64, u64) {
        let granted = |name| {
            let bytes = sys::option(self.socket.as_fd(), libc::SOL_SOCKET, name);
            bytes.ok().and_then(|b| u64::try_from(b).ok()).unwrap_or(0)
        };
        (granted(libc::SO_RCVBUF), granted(libc::SO_SNDBUF))
    }

    /// To poll.
    pub(crate) fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The sentence that a person can act on, of the kind of the cause.
fn explain_bind(listen: SocketAddr, error: &io::Error) -> io::Error {
    let message = match error.kind() {
        io::ErrorKind::AddrInUse => format!("address already in use: {listen}"),
        io::ErrorKind::AddrNotAvailable => format!("address not of this machine: {listen}"),
        io::ErrorKind::PermissionDenied => format!("not permitted to listen on {listen}"),
        _ => format!("cannot listen on {listen}: {error}"),
    };
    io::Error::new(error.kind(), message)
}

/// Never fragment, and let QUIC find the MTU by itself instead of trusting ICMP.
fn probe_mtu(fd: BorrowedFd<'_>, is_v6: bool) -> io::Result<()> {
    let v4 = (
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        libc::IP_PMTUDISC_PROBE,
    );
    let v6 = (
        libc::IPPROTO_IPV6,
        libc::IPV6_MTU_DISCOVER,
        libc::IPV6_PMTUDISC_PROBE,
    );
    set_for_family(fd, is_v6, v4, v6)
}

fn report_ecn(fd: BorrowedFd<'_>, is_v6: bool) -> io::Result<()> {
    let v4 = (libc::IPPROTO_IP, libc::IP_RECVTOS, 1);
    let v6 = (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1);
    set_for_family(fd, is_v6, v4, v6)
}

fn report_local_address(fd: BorrowedFd<'_>, is_v6: bool) -> io::Result<()> {
    let v4 = (libc::IPPROTO_IP, libc::IP_PKTINFO, 1);
    let v6 = (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1);
    set_for_family(fd, is_v6, v4, v6)
}

type SocketOption = (libc::c_int, libc::c_int, libc::c_int);

/// An IPv6 socket gets the IPv4 option too, for the mapped addresses of a dual-stack one; where it is
/// not one, the kernel may refuse that.
fn set_for_family(
    fd: BorrowedFd<'_>,
    is_v6: bool,
    v4: SocketOption,
    v6: SocketOption,
) -> io::Result<()> {
    let set = |(level, name, value)| sys::set_option(fd, level, name, value);
    if !is_v6 {
        return set(v4);
    }
    let _ = set(v4);
    set(v6)
}

/// Beyond the system's limit only root may go; others get what the limit allows.
fn ask_for_buffers(fd: BorrowedFd<'_>, options: &SocketOptions) -> io::Result<()> {
    let wishes = [
        (
            libc::SO_RCVBUFFORCE,
            libc::SO_RCVBUF,
            options.receive_buffer_bytes,
        ),
        (
            libc::SO_SNDBUFFORCE,
            libc::SO_SNDBUF,
            options.send_buffer_bytes,
        ),
    ];
    for (force, ask, bytes) in wishes {
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX / 2);
        if sys::set_option(fd, libc::SOL_SOCKET, force, bytes).is_err() {
            sys::set_option(fd, libc::SOL_SOCKET, ask, bytes)?;
        }
    }
    Ok(())
}
