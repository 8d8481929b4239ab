//! Socket addresses as the kernel wants them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

/// A `sockaddr` large enough for both families.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) union RawAddress {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddress {
    /// Bytes the kernel may write into one.
    pub(crate) const CAPACITY: libc::socklen_t = size_of::<RawAddress>() as libc::socklen_t;

    /// Room for the kernel to write an address into.
    pub(crate) fn empty() -> Self {
        RawAddress::from_v6(Ipv6Addr::UNSPECIFIED, 0, 0)
    }

    /// `address` for a socket of one family: an IPv4 address is mapped for an IPv6 socket. (An IPv6
    /// address stays as it is for an IPv4 socket, and the kernel refuses it.)
    pub(crate) fn new(address: SocketAddr, socket_is_v6: bool) -> Self {
        match address {
            SocketAddr::V4(v4) if socket_is_v6 => {
                RawAddress::from_v6(v4.ip().to_ipv6_mapped(), v4.port(), 0)
            }
            SocketAddr::V4(v4) => RawAddress {
                v4: libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(v4.ip().octets()),
                    },
                    sin_zero: [0; 8],
                },
            },
            SocketAddr::V6(v6) => RawAddress::from_v6(*v6.ip(), v6.port(), v6.scope_id()),
        }
    }

    fn from_v6(ip: Ipv6Addr, port: u16, scope_id: u32) -> Self {
        RawAddress {
            v6: libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: port.to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: ip.octets(),
                },
                sin6_scope_id: scope_id,
            },
        }
    }

    /// The address; a mapped IPv4 address as IPv4. `None` for any other family.
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        match self.family() {
            libc::AF_INET => {
                // SAFETY: the family says that this member was written, by us or by the kernel.
                let v4 = unsafe { self.v4 };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                let port = u16::from_be(v4.sin_port);
                Some(SocketAddr::V4(SocketAddrV4::new(ip, port)))
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let v6 = unsafe { self.v6 };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(canonical(ip, u16::from_be(v6.sin6_port), v6.sin6_scope_id))
            }
            _ => None,
        }
    }

    /// For calls that read an address.
    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        ptr::from_ref(self).cast()
    }

    /// For calls that write an address, [`RawAddress::CAPACITY`] bytes at most.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        ptr::from_mut(self).cast()
    }

    /// Length of the address that it holds.
    pub(crate) fn len(&self) -> libc::socklen_t {
        match self.family() {
            libc::AF_INET => size_of::<libc::sockaddr_in>() as libc::socklen_t,
            _ => RawAddress::CAPACITY,
        }
    }

    fn family(&self) -> libc::c_int {
        // SAFETY: both members begin with the family, every constructor initialises it, and any
        // bytes are a valid integer.
        libc::c_int::from(unsafe { self.v4.sin_family })
    }
}

fn canonical(ip: Ipv6Addr, port: u16, scope_id: u32) -> SocketAddr {
    match ip.to_ipv4_mapped() {
        Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, port)),
        None => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope_id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(address: &str, socket_is_v6: bool) -> (String, usize) {
        let raw = RawAddress::new(address.parse().expect("an address"), socket_is_v6);
        let back = raw.get().expect("a known family").to_string();
        (back, raw.len() as usize)
    }

    #[test]
    fn addresses_come_back_and_mapped_ones_as_ipv4() {
        let v4 = "192.0.2.7:4433";
        let v6 = "[2001:db8::1]:4433";
        assert_eq!(round_trip(v4, false), (v4.to_owned(), 16));
        assert_eq!(round_trip(v4, true), (v4.to_owned(), 28));
        assert_eq!(round_trip(v6, true), (v6.to_owned(), 28));
    }
}
