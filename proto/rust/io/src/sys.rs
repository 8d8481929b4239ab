//! Thin safe wrappers of the system calls that the standard library lacks.

use crate::address::RawAddress;
use libc::c_int;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

/// The result of a call that gives -1 and `errno` on failure.
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// A non-blocking UDP socket, not bound.
pub(crate) fn udp_socket(is_v6: bool) -> io::Result<OwnedFd> {
    let family = if is_v6 { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointers; a descriptor it returns is new and nobody else's.
    unsafe {
        let fd = check(libc::socket(family, kind, 0))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Bind a socket to an address of its family.
pub(crate) fn bind(fd: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    let raw = RawAddress::new(address, address.is_ipv6());
    // SAFETY: the pointer is to a local that outlives the call, and the length is that of its
    // initialised part.
    check(unsafe { libc::bind(fd.as_raw_fd(), raw.as_ptr(), raw.len()) })?;
    Ok(())
}

/// Set an integer socket option.
pub(crate) fn set_option(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: c_int,
) -> io::Result<()> {
    let size = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to an argument of this function, `size` bytes long.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_ref(&value).cast(),
            size,
        )
    })?;
    Ok(())
}

/// Read an integer socket option.
pub(crate) fn option(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut size = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to locals; the kernel writes at most `size` bytes of `value`.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_mut(&mut value).cast(),
            &mut size,
        )
    })?;
    Ok(value)
}

/// Let timers of the calling thread fire as precisely as the kernel can, instead of 50 us late.
pub(crate) fn set_precise_timers() -> io::Result<()> {
    // SAFETY: takes no pointers and changes only the calling thread.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) })?;
    Ok(())
}

/// A descriptor to wait for, and after [`poll`] what it is ready for.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct PollFd(libc::pollfd);

impl PollFd {
    /// Wait until it can be read, and, if asked, until it can be written.
    pub(crate) fn new(fd: RawFd, or_writable: bool) -> Self {
        let events = libc::POLLIN | if or_writable { libc::POLLOUT } else { 0 };
        PollFd(libc::pollfd {
            fd,
            events,
            revents: 0,
        })
    }

    /// It can be read, or has an error that reading will report.
    pub(crate) fn is_readable(&self) -> bool {
        self.0.revents & (libc::POLLIN | libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0
    }
}

/// Wait for descriptors, at most for `timeout` (`None`: for ever). A signal ends the wait with
/// nothing ready.
pub(crate) fn poll(fds: &mut [PollFd], timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.map(|t| libc::timespec {
        tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: t.subsec_nanos() as libc::c_long,
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let count = fds.len() as libc::nfds_t;
    // SAFETY: `PollFd` is a transparent `pollfd`, the slice has `count` of them, and the timeout
    // lives on this stack or is null, which means none.
    let result =
        check(unsafe { libc::ppoll(fds.as_mut_ptr().cast(), count, timeout, ptr::null()) });
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            fds.iter_mut().for_each(|fd| fd.0.revents = 0);
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

/// A flag that can be waited for with [`poll`].
pub(crate) struct EventFd(File);

impl EventFd {
    /// Not set.
    pub(crate) fn new() -> io::Result<EventFd> {
        // SAFETY: takes no pointers; a descriptor it returns is new and nobody else's.
        let fd = unsafe {
            let fd = check(libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC))?;
            OwnedFd::from_raw_fd(fd)
        };
        Ok(EventFd(File::from(fd)))
    }

    /// Set it. Fails only if it is set 2^64 - 2 times over, and then it is set.
    pub(crate) fn set(&self) {
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Clear it. Fails only if it is not set.
    pub(crate) fn clear(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }

    /// To wait for.
    pub(crate) fn raw(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
