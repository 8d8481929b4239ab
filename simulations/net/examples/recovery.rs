//! One hop with real datapaths in virtual time: a film of 3 Mbit/s and sound of 64 kbit/s over a link that loses.
//!
//! `recovery hop|quic SECONDS SEED KEY=VALUE...` with `loss=` (share), `burst=` (packets, or ms with `time=1`),
//! `back=` (loss of feedback), `jitter_us=`, `reorder=`, `rate_bps=`, `delay_us=`, `budget_ms=`, `cc=` (of streams: 0 the
//! usual one, 1 CUBIC, 2 BBR3); the hop's policy comes on standard input, a row a line (nothing: the built-in one).
//! `quic`: a session of streams, by QUIC's rules. Prints one line of JSON: latencies of whole frames, what missed the
//! budget, and what crossed the link.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)] // a bench fails by panicking

use bytes::Bytes;
use farcast_core::command::{
    CacheLimits, Command, Draft, GroupOrder, NewObject, QueueLimits, Target,
};
use farcast_core::config::DatapathConfig;
use farcast_core::congestion::{CongestionConfig, ControllerKind};
use farcast_core::event::Event;
use farcast_core::hop::policy::Symbols;
use farcast_core::hop::{HopPolicy, PolicyRow};
use farcast_core::location::{LargestCell, Location};
use farcast_core::tls::{ClientTls, Identity, ServerTls, Trust};
use farcast_net::record::OBJECT_TRACE_BYTES;
use farcast_net::{LinkConfig, Loss, World};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

const SENDER: usize = 0;
const RECEIVER: usize = 1;
const VIDEO: u64 = 1;
const AUDIO: u64 = 2;
const GROUP: u64 = 60;
const AUDIO_GROUP: u64 = 50;
const VIDEO_US: u64 = 1_000_000 / 30;
const AUDIO_US: u64 = 20_000;
const P_BYTES: usize = 11_700;
const I_BYTES: usize = 60_000;
const AUDIO_BYTES: usize = 160;
const SETTLE_US: u64 = 15_000_000;

struct Options {
    hop: bool,
    seconds: u64,
    seed: u64,
    values: BTreeMap<String, f64>,
}

impl Options {
    fn get(&self, name: &str, default: f64) -> f64 {
        self.values.get(name).copied().unwrap_or(default)
    }
}

fn options() -> Options {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: recovery hop|quic SECONDS SEED KEY=VALUE...";
    let mut next = || arguments.next().expect(usage);
    let (kind, seconds, seed) = (next(), next(), next());
    let pair = |text: String| {
        let (key, value) = text.split_once('=').expect(usage);
        (key.to_owned(), value.parse().expect(usage))
    };
    Options {
        hop: kind == "hop",
        seconds: seconds.parse().expect(usage),
        seed: seed.parse().expect(usage),
        values: arguments.map(pair).collect(),
    }
}

fn policy() -> Option<HopPolicy> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    let rows: Vec<PolicyRow> = text.lines().map(row).collect();
    (!rows.is_empty()).then(|| HopPolicy::new(rows, 256).unwrap())
}

fn row(line: &str) -> PolicyRow {
    let numbers: Vec<u64> = line
        .split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect();
    let symbols = |from: usize| -> Symbols { std::array::from_fn(|k| numbers[from + k] as u8) };
    PolicyRow {
        loss_ppm_max: numbers[0] as u32,
        burst_milli_max: numbers[1] as u32,
        rtt_us_max: numbers[2],
        budget_ms_min: numbers[3] as u16,
        spacing_us: numbers[4] as u32,
        collect_us: numbers[5] as u32,
        span_us: numbers[6] as u32,
        coded: numbers[7] != 0,
        small_copies: numbers[8] as u8,
        essential: symbols(9),
        disposable: symbols(25),
    }
}

fn loss(share: f64, burst: f64, in_time: bool) -> Loss {
    if share <= 0.0 {
        Loss::None
    } else if in_time {
        Loss::GilbertElliottTime {
            loss: share,
            burst_us: (burst * 1_000.0) as u64,
        }
    } else if burst <= 1.0 {
        Loss::Random { p: share }
    } else {
        Loss::GilbertElliott { loss: share, burst }
    }
}

fn world(options: &Options) -> World {
    #[allow(clippy::disallowed_methods)] // any instant serves as the epoch
    let mut world = World::new(Instant::now(), options.seed);
    let kind = match options.get("cc", 0.0) as u8 {
        1 => ControllerKind::Cubic,
        2 => ControllerKind::Bbr3,
        _ => ControllerKind::default(),
    };
    let config = || DatapathConfig {
        congestion: CongestionConfig {
            kind,
            ..CongestionConfig::default()
        },
        server: Some(ServerTls::new(&identity(), Some((&identity(), &roots()[..]))).unwrap()),
        ..DatapathConfig::default()
    };
    for host in [SENDER, RECEIVER] {
        world.add_host(address(host), config()).unwrap();
    }
    for (from, to) in [(SENDER, RECEIVER), (RECEIVER, SENDER)] {
        world.add_link(from, to, link(options, 0.0)).unwrap();
    }
    world
}

/// What the link is like.
fn link(options: &Options, share: f64) -> LinkConfig {
    LinkConfig {
        delay_us: options.get("delay_us", 100_000.0) as u64,
        jitter_us: options.get("jitter_us", 0.0) as u64,
        rate_bps: Some(options.get("rate_bps", 20_000_000.0) as u64),
        loss: loss(
            share,
            options.get("burst", 3.0),
            options.get("time", 0.0) > 0.0,
        ),
        reorder: options.get("reorder", 0.0),
        reorder_us: 5_000,
        ..LinkConfig::default()
    }
}

fn identity() -> Identity {
    Identity {
        chain: vec![include_bytes!("../../../proto/rust/core/tests/data/edge.der").to_vec()],
        key: include_bytes!("../../../proto/rust/core/tests/data/edge.key.der").to_vec(),
    }
}

fn roots() -> Vec<Vec<u8>> {
    vec![include_bytes!("../../../proto/rust/core/tests/data/ca.der").to_vec()]
}

fn address(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host as u8 + 1], 4_433))
}

fn connect(options: &Options) -> Command {
    let client = options.hop.then(identity);
    Command::Connect {
        session: 1,
        remote: address(SENDER),
        server_name: "localhost".to_owned(),
        target: if options.hop {
            Target::Hop
        } else {
            Target::Quic {
                drafts: vec![Draft::D18],
            }
        },
        tls: ClientTls::new(&Trust::Roots(roots()), client.as_ref()).unwrap(),
    }
}

fn tracks() -> Vec<Command> {
    let add = |track| Command::AddTrack {
        track,
        cache: CacheLimits::default(),
        largest: Arc::new(LargestCell::default()),
    };
    vec![add(VIDEO), add(AUDIO)]
}

fn serve(session: u64, policy: Option<HopPolicy>) -> Vec<Command> {
    let mut commands = tracks();
    for track in [VIDEO, AUDIO] {
        commands.push(Command::AddDownstream {
            downstream: track,
            session,
            alias: track,
            track,
            start: Location::default(),
            end_group: None,
            subscriber_priority: 128,
            group_order: GroupOrder::Ascending,
            forward: true,
            limits: QueueLimits::default(),
        });
    }
    commands.extend(policy.map(|policy| Command::HopPolicy { session, policy }));
    commands
}

fn watch() -> Vec<Command> {
    let mut commands = tracks();
    for track in [VIDEO, AUDIO] {
        commands.push(Command::BindUpstream {
            session: 1,
            alias: track,
            track,
            default_priority: 128,
            restart_allowed: false,
        });
        commands.push(Command::AddSink {
            downstream: track + 10,
            track,
            start: Location::default(),
        });
    }
    commands
}

/// Frame `number` of a track, and when it is published.
fn frame(track: u64, number: u64) -> (u64, Command) {
    let (group, every_us, priority) = if track == VIDEO {
        (GROUP, VIDEO_US, 100)
    } else {
        (AUDIO_GROUP, AUDIO_US, 10)
    };
    let object = number % group;
    let bytes = match (track, object) {
        (VIDEO, 0) => I_BYTES,
        (VIDEO, _) => P_BYTES,
        _ => AUDIO_BYTES,
    };
    let command = Command::Publish {
        track,
        object: NewObject {
            group: number / group,
            subgroup: 0,
            object,
            priority,
            status: 0,
            properties: Bytes::new(),
            payload: vec![object as u8; bytes].into(),
            end_of_subgroup: object + 1 == group,
            end_of_group: object + 1 == group,
        },
    };
    (number * every_us, command)
}

/// When each frame was whole, by its number; and which came before its deadline with all before it in its group.
#[derive(Default)]
struct Seen {
    whole_us: BTreeMap<u64, u64>,
}

struct Judged {
    latencies: Vec<u64>,
    missed: u64,
    frozen: u64,
}

impl Seen {
    fn judge(
        &self,
        frames: u64,
        every_us: u64,
        group: u64,
        begin_us: u64,
        budget_us: u64,
    ) -> Judged {
        let (mut latencies, mut missed, mut frozen, mut broken) =
            (Vec::new(), 0, 0, BTreeSet::new());
        let mut group_whole_us = 0;
        for number in 0..frames {
            let sent_us = begin_us + number * every_us;
            let latency = self
                .whole_us
                .get(&number)
                .map_or(u64::MAX, |at| at - sent_us);
            latencies.push(latency);
            missed += u64::from(latency > budget_us);
            if latency > budget_us && std::env::var_os("SHOW_MISSED").is_some() {
                eprintln!("frame {number} after {} ms", latency / 1_000);
            }
            if number % group == 0 {
                group_whole_us = 0;
            }
            group_whole_us = group_whole_us.max(latency.saturating_add(sent_us));
            if group_whole_us > sent_us + budget_us {
                broken.insert(number);
                frozen += 1;
            }
        }
        latencies.sort_unstable();
        Judged {
            latencies,
            missed,
            frozen,
        }
    }
}

fn main() {
    let options = options();
    let policy = if options.hop { policy() } else { None };
    let mut world = world(&options);
    let session = meet(&mut world, &options);
    world.execute(SENDER, serve(session, policy)).unwrap();
    world.trace_objects(RECEIVER, true).unwrap();
    let begin_us = 2_000_000;
    let end_us = begin_us + options.seconds * 1_000_000;
    run_to(&mut world, begin_us);
    // The session stood before the weather turned.
    let forward = link(&options, options.get("loss", 0.0));
    world.set_link(SENDER, RECEIVER, forward).unwrap();
    let feedback = link(&options, options.get("back", 0.0));
    world.set_link(RECEIVER, SENDER, feedback).unwrap();
    let before = *world.link_stats(SENDER, RECEIVER).unwrap();
    let back_before = *world.link_stats(RECEIVER, SENDER).unwrap();
    let mut seen = BTreeMap::from([(VIDEO, Seen::default()), (AUDIO, Seen::default())]);
    let (next, now_us) = play(&mut world, begin_us, end_us, &mut seen);
    let after = *world.link_stats(SENDER, RECEIVER).unwrap();
    let back = *world.link_stats(RECEIVER, SENDER).unwrap();
    world
        .execute(SENDER, vec![Command::Snapshot { token: 1 }])
        .unwrap();
    let mut hop = None;
    for (_, _, event) in world.run_until(now_us + 1_000).unwrap() {
        if let Event::Snapshot { snapshot, .. } = event {
            hop = snapshot.sessions.iter().find_map(|s| s.hop);
        }
    }
    let budget_us = options.get("budget_ms", 400.0) as u64 * 1_000;
    let video = seen[&VIDEO].judge(next[0], VIDEO_US, GROUP, begin_us, budget_us);
    let audio = seen[&AUDIO].judge(next[1], AUDIO_US, AUDIO_GROUP, begin_us, budget_us);
    let at = |share: f64| {
        let index = (video.latencies.len() as f64 * share) as usize;
        video.latencies[index.min(video.latencies.len() - 1)] / 1_000
    };
    let share = |count: u64, of: u64| count as f64 / of.max(1) as f64;
    println!(
        "{{\"frames\":{},\"p50_ms\":{},\"p99_ms\":{},\"p999_ms\":{},\"missed\":{:.6},\"frozen_share\":{:.6},\"audio_missed\":{:.6},\"bytes\":{},\"packets\":{},\"back_bytes\":{},\"loss_seen\":{:.4},\"hop\":\"{:?}\"}}",
        next[0],
        at(0.5),
        at(0.99),
        at(0.999),
        share(video.missed, next[0]),
        share(video.frozen, next[0]),
        share(audio.missed, next[1]),
        after.bytes_in - before.bytes_in,
        after.packets_in - before.packets_in,
        back.bytes_in - back_before.bytes_in,
        share(
            after.packets_lost - before.packets_lost,
            after.packets_in - before.packets_in
        ),
        hop
    );
}

/// Connects the two; the sender's session.
fn meet(world: &mut World, options: &Options) -> u64 {
    world.execute(RECEIVER, vec![connect(options)]).unwrap();
    let mut served = None;
    while world.now_us() < 1_500_000 {
        for (_, host, event) in world.run_until(1_500_000).unwrap() {
            match event {
                Event::SessionOpened { session, .. } if host == SENDER => served = Some(session),
                Event::SessionOpened { .. } => world.execute(RECEIVER, watch()).unwrap(),
                _ => {}
            }
        }
    }
    served.expect("a session")
}

/// Sends both tracks to their end and lets them arrive; how many frames each had, and what time it is.
fn play(
    world: &mut World,
    begin_us: u64,
    end_us: u64,
    seen: &mut BTreeMap<u64, Seen>,
) -> ([u64; 2], u64) {
    let (mut next, mut now_us) = ([0u64; 2], begin_us);
    while now_us < end_us + SETTLE_US {
        let until_us = now_us + 1_000_000;
        let mut commands = Vec::new();
        for (at, track) in [VIDEO, AUDIO].into_iter().enumerate() {
            loop {
                let (offset_us, command) = frame(track, next[at]);
                let at_us = begin_us + offset_us;
                if at_us >= until_us.min(end_us) {
                    break;
                }
                commands.push((at_us, command));
                next[at] += 1;
            }
        }
        commands.sort_by_key(|(at_us, _)| *at_us);
        world.schedule(SENDER, commands).unwrap();
        run_to(world, until_us);
        take(world, seen);
        now_us = until_us;
    }
    (next, now_us)
}

/// Runs on; what the datapaths tell their agents does not matter here.
fn run_to(world: &mut World, until_us: u64) {
    while world.now_us() < until_us {
        world.run_until(until_us).unwrap();
    }
}

fn take(world: &mut World, seen: &mut BTreeMap<u64, Seen>) {
    let trace = world.take_object_trace(RECEIVER).unwrap();
    for entry in trace.chunks_exact(OBJECT_TRACE_BYTES) {
        let word = |at: usize| u64::from_le_bytes(entry[8 * at..8 * at + 8].try_into().unwrap());
        let (last_us, track, group) = (word(1), word(2), word(3));
        let object = u64::from(u32::from_le_bytes(entry[32..36].try_into().unwrap()));
        let size = if track == VIDEO { GROUP } else { AUDIO_GROUP };
        if let Some(seen) = seen.get_mut(&track) {
            seen.whole_us
                .entry(group * size + object)
                .or_insert(last_us);
        }
    }
}
