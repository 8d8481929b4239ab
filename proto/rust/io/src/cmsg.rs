//! Control messages that go with a datagram: offload segment size, ECN, local address.
//!
//! ```text
//!  0               8       12      16
//! +---------------+-------+-------+------------------+---------+
//! | length        | level | type  | data             | padding |  (64-bit; cmsg(3))
//! +---------------+-------+-------+------------------+---------+
//! ```
//! Length counts header and data; the next message begins at the next multiple of the word size.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
const WORD_BYTES: usize = size_of::<usize>();
/// Room for everything that is sent at once, or received at once.
pub(crate) const CONTROL_BYTES_MAX: usize = 192;

/// Control messages to send with a datagram.
pub(crate) struct Outgoing {
    bytes: [u8; CONTROL_BYTES_MAX],
    used: usize,
}

impl Outgoing {
    /// None yet.
    pub(crate) const EMPTY: Outgoing = Outgoing {
        bytes: [0; CONTROL_BYTES_MAX],
        used: 0,
    };

    /// The kernel cuts the data into datagrams of this size.
    pub(crate) fn segment_size(&mut self, bytes: u16) {
        self.put(libc::SOL_UDP, libc::UDP_SEGMENT, &bytes.to_ne_bytes());
    }

    /// ECN bits for a destination that is IPv4 (mapped or not) or IPv6.
    pub(crate) fn ecn(&mut self, ecn: u8, to_v4: bool) {
        let bits = libc::c_int::from(ecn & 3).to_ne_bytes();
        if to_v4 {
            self.put(libc::IPPROTO_IP, libc::IP_TOS, &bits);
        } else {
            self.put(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &bits);
        }
    }

    /// Local address to send from.
    pub(crate) fn source(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(v4) => {
                let mut info = [0; 12]; // in_pktinfo: interface, local address, header address
                info[4..8].copy_from_slice(&v4.octets());
                self.put(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            IpAddr::V6(v6) => {
                let mut info = [0; 20]; // in6_pktinfo: address, interface
                info[..16].copy_from_slice(&v6.octets());
                self.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
        }
    }

    fn put(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let length = HEADER_BYTES + data.len();
        let message = &mut self.bytes[self.used..][..length];
        message[..WORD_BYTES].copy_from_slice(&length.to_ne_bytes());
        message[HEADER_BYTES - 8..HEADER_BYTES - 4].copy_from_slice(&level.to_ne_bytes());
        message[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&kind.to_ne_bytes());
        message[HEADER_BYTES..].copy_from_slice(data);
        self.used += length.next_multiple_of(WORD_BYTES);
    }

    /// The messages, as the kernel reads them.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

/// What control messages said about a received datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Incoming {
    /// Size of every datagram but the last, where the kernel joined several.
    pub(crate) segment_size: Option<usize>,
    /// ECN bits.
    pub(crate) ecn: u8,
    /// Local address that it was sent to.
    pub(crate) local_ip: Option<IpAddr>,
}

impl Incoming {
    /// Read what the kernel wrote; what is unknown or cut short is skipped.
    pub(crate) fn parse(mut control: &[u8]) -> Incoming {
        let mut incoming = Incoming::default();
        while let Some((level, kind, data, rest)) = split_first(control) {
            incoming.read(level, kind, data);
            control = rest;
        }
        incoming
    }

    fn read(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let size = read_int(data).and_then(|size| usize::try_from(size).ok());
                self.segment_size = size.filter(|size| *size > 0);
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => self.ecn = data.first().map_or(0, |tos| tos & 3),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                self.ecn = read_int(data).map_or(0, |class| (class & 3) as u8);
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let header_address = data.get(8..).and_then(|d| d.first_chunk::<4>());
                self.local_ip = header_address.map(|ip| IpAddr::V4(Ipv4Addr::from(*ip)));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let address = data.first_chunk::<16>();
                self.local_ip = address.map(|ip| Ipv6Addr::from(*ip).to_canonical());
            }
            _ => {}
        }
    }
}

type Split<'a> = (libc::c_int, libc::c_int, &'a [u8], &'a [u8]);

/// Level, type and data of the first message, and the rest.
fn split_first(control: &[u8]) -> Option<Split<'_>> {
    let length = usize::from_ne_bytes(*control.first_chunk::<WORD_BYTES>()?);
    let message = control.get(..length)?;
    let level = read_int(message.get(HEADER_BYTES - 8..)?)?;
    let kind = read_int(message.get(HEADER_BYTES - 4..)?)?;
    let data = message.get(HEADER_BYTES..)?;
    let next = length.next_multiple_of(WORD_BYTES).min(control.len());
    Some((level, kind, data, &control[next..]))
}

fn read_int(data: &[u8]) -> Option<libc::c_int> {
    Some(libc::c_int::from_ne_bytes(*data.first_chunk::<4>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_what_the_kernel_macros_expect() {
        let mut control = Outgoing::EMPTY;
        control.segment_size(1_200);
        control.ecn(2, true);
        // SAFETY: these macros only compute sizes.
        let (len, space) =
            unsafe { (libc::CMSG_LEN(2), libc::CMSG_SPACE(2) + libc::CMSG_SPACE(4)) };
        assert_eq!(control.as_bytes()[..8], u64::from(len).to_ne_bytes());
        assert_eq!(control.as_bytes().len(), space as usize);
    }

    #[test]
    fn ecn_and_local_address_are_read_for_both_families() {
        for ip in ["192.0.2.7", "2001:db8::1"] {
            let ip: IpAddr = ip.parse().expect("an address");
            let mut control = Outgoing::EMPTY;
            control.source(ip);
            control.ecn(3, ip.is_ipv4());
            let mut bytes = control.as_bytes().to_vec();
            if ip.is_ipv4() {
                // Received, the address is in the third field.
                bytes.copy_within(HEADER_BYTES + 4..HEADER_BYTES + 8, HEADER_BYTES + 8);
            }
            let got = Incoming::parse(&bytes);
            assert_eq!((got.local_ip, got.ecn), (Some(ip), 3));
        }
    }

    #[test]
    fn a_mapped_local_address_is_read_as_ipv4() {
        let mut control = Outgoing::EMPTY;
        control.source("::ffff:192.0.2.7".parse().expect("an address"));
        let got = Incoming::parse(control.as_bytes()).local_ip;
        assert_eq!(got, "192.0.2.7".parse().ok());
    }

    #[test]
    fn cut_or_senseless_messages_are_skipped() {
        let mut control = Outgoing::EMPTY;
        control.ecn(3, true);
        control.segment_size(1_200);
        let whole = control.as_bytes();
        for cut in 0..whole.len() {
            let _ = Incoming::parse(&whole[..cut]);
        }
        assert_eq!(Incoming::parse(&[0; 64]), Incoming::default());
        assert_eq!(Incoming::parse(&[0xff; 64]), Incoming::default());
    }
}
