//! The proxy does to real datagrams what its links say. Real time, so only bounds that hold on a slow
//! machine are asserted.

use farcast_io::{ShaperStats, UdpShaper};
use farcast_net::{LinkConfig, Loss};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

#[allow(clippy::disallowed_methods)] // measures what real time a datagram took
fn now() -> Instant {
    Instant::now()
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback binds");
    let timeout = Some(Duration::from_secs(5));
    socket.set_read_timeout(timeout).expect("a timeout");
    socket
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("bound")
}

fn start(target: SocketAddr, forward: LinkConfig, backward: LinkConfig) -> UdpShaper {
    let listen = "127.0.0.1:0".parse().expect("an address");
    UdpShaper::start(listen, target, forward, backward, 1).expect("loopback binds")
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2_048];
    let (bytes, from) = socket.recv_from(&mut buffer).expect("a datagram");
    (buffer[..bytes].to_vec(), from)
}

fn delay(delay_us: u64) -> LinkConfig {
    LinkConfig {
        delay_us,
        ..LinkConfig::default()
    }
}

/// The counters once they satisfy `done`: they are published after the datagrams they count.
fn stats_when(shaper: &UdpShaper, done: impl Fn(&ShaperStats) -> bool) -> ShaperStats {
    let deadline = now() + Duration::from_secs(5);
    loop {
        let stats = shaper.stats();
        if done(&stats) || now() > deadline {
            return stats;
        }
        std::thread::yield_now();
    }
}

#[test]
fn both_ways_are_delayed_and_every_client_gets_its_own_answers() {
    let target = socket();
    let shaper = start(address(&target), delay(30_000), delay(20_000));
    let clients = [socket(), socket()];
    let sent = now();
    for (i, client) in clients.iter().enumerate() {
        client
            .send_to(&[i as u8; 100], shaper.local_addr())
            .expect("sent");
    }
    let mut seen = Vec::new();
    for _ in &clients {
        let (data, from) = receive(&target);
        seen.push(from);
        target.send_to(&data, from).expect("sent");
    }
    assert!(now() - sent >= Duration::from_millis(30));
    assert_ne!(seen[0], seen[1]);
    for (i, client) in clients.iter().enumerate() {
        assert_eq!(receive(client), (vec![i as u8; 100], shaper.local_addr()));
    }
    assert!(now() - sent >= Duration::from_millis(50));
    let stats = stats_when(&shaper, |s| s.backward.packets_delivered == 2);
    assert_eq!((stats.clients, stats.forward.packets_delivered), (2, 2));
    assert_eq!(stats.forward.bytes_delivered, 2 * 128);
}

#[test]
fn order_is_kept_under_jitter_and_sizes_are_kept_in_bursts() {
    let target = socket();
    let shaky = LinkConfig {
        jitter_us: 10_000,
        ..delay(1_000)
    };
    let shaper = start(address(&target), shaky, delay(0));
    let client = socket();
    for i in 0..100u8 {
        let datagram = vec![i; 500 + usize::from(i)];
        client
            .send_to(&datagram, shaper.local_addr())
            .expect("sent");
    }
    for i in 0..100u8 {
        assert_eq!(receive(&target).0, vec![i; 500 + usize::from(i)]);
    }
}

#[test]
fn losses_are_those_of_the_link_and_the_rest_arrives() {
    let target = socket();
    let lossy = LinkConfig {
        loss: Loss::Random { p: 0.2 },
        ..delay(0)
    };
    let shaper = start(address(&target), lossy, delay(0));
    let client = socket();
    let (rounds, burst) = (50, 20);
    let mut arrived = 0;
    for round in 1..=rounds {
        for _ in 0..burst {
            client.send_to(&[0; 50], shaper.local_addr()).expect("sent");
        }
        let stats = stats_when(&shaper, |s| s.forward.packets_in == round * burst);
        while arrived < stats.forward.packets_delivered {
            receive(&target);
            arrived += 1;
        }
    }
    let stats = shaper.stats();
    assert_eq!(stats.forward.packets_in, rounds * burst);
    assert_eq!(arrived + stats.forward.packets_lost, rounds * burst);
    // Five sigma around 200 of 1000; the seed is fixed.
    assert!(stats.forward.packets_lost.abs_diff(200) < 64, "{stats:?}");
    assert_eq!((stats.datagrams_dropped, stats.datagrams_refused), (0, 0));
}

#[test]
fn a_rate_takes_its_time_and_its_queue_overflows() {
    let target = socket();
    let narrow = LinkConfig {
        rate_bps: Some(1_000_000),
        queue_bytes: 10_280,
        ..delay(0)
    };
    let shaper = start(address(&target), narrow, delay(0));
    let client = socket();
    let sent = now();
    for _ in 0..20 {
        client
            .send_to(&[0; 1_000], shaper.local_addr())
            .expect("sent");
    }
    let stats = stats_when(&shaper, |s| s.forward.packets_in == 20);
    // Ten fit at once, a little more if sending itself took time.
    assert!(
        (10..20).contains(&stats.forward.packets_delivered),
        "{stats:?}"
    );
    for _ in 0..10 {
        receive(&target);
    }
    // 10 of 1028 bytes at a megabit a second.
    assert!(now() - sent >= Duration::from_millis(82));
}

#[test]
fn a_target_that_is_not_there_yet_is_no_end() {
    let absent = address(&socket()); // closed at once
    let shaper = start(absent, delay(0), delay(0));
    let client = socket();
    client.send_to(&[1], shaper.local_addr()).expect("sent");
    stats_when(&shaper, |s| s.forward.packets_in == 1);
    let target = UdpSocket::bind(absent).expect("free again");
    target
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    // The refusal of the first may still be pending on the socket and cost the second.
    for attempt in 2..=3 {
        client
            .send_to(&[attempt], shaper.local_addr())
            .expect("sent");
        stats_when(&shaper, |s| s.forward.packets_in == u64::from(attempt));
    }
    assert!([2, 3].contains(&receive(&target).0[0]));
}

#[test]
fn a_busy_port_and_an_impossible_link_are_named() {
    let taken = address(&socket());
    let keep = UdpSocket::bind(taken).expect("free");
    let busy = UdpShaper::start(taken, taken, delay(0), delay(0), 1);
    let error = busy.err().expect("the port is busy");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(
        error.to_string(),
        format!("address already in use: {taken}")
    );
    drop(keep);
    let wrong = LinkConfig {
        loss: Loss::Random { p: 2.0 },
        ..delay(0)
    };
    let error = UdpShaper::start(taken, taken, delay(0), wrong, 1);
    let error = error.err().expect("the link is impossible");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let message = "backward link: loss.p = 2: must be from 0 to 1";
    assert_eq!(error.to_string(), message);
}

#[test]
fn each_direction_can_be_cut_and_mended_and_made_another_link() {
    let (target, client) = (socket(), socket());
    let shaper = start(address(&target), delay(0), delay(0));
    let send = |byte: u8| {
        client.send_to(&[byte], shaper.local_addr()).expect("sent");
    };
    send(1);
    let (_, back) = receive(&target);

    shaper.set_up(false, true);
    stats_when(&shaper, |s| {
        send(2);
        s.forward.packets_dropped_down > 0
    });
    target.send_to(&[3], back).expect("sent");
    assert_eq!(receive(&client).0, [3]);

    shaper.set_up(true, true);
    let slow = delay(60_000);
    shaper.set_links(slow, delay(0)).expect("a possible link");
    let delivered = shaper.stats().forward.packets_delivered;
    stats_when(&shaper, |s| {
        send(4);
        s.forward.packets_delivered > delivered
    });
    assert_eq!(receive(&target).0, [4]);

    let impossible = LinkConfig {
        rate_bps: Some(0),
        ..LinkConfig::default()
    };
    let refused = shaper.set_links(impossible, delay(0)).expect_err("refused");
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
}
