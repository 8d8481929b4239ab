//! A film of 3 Mbit/s and sound of 64 kbit/s over a link that loses, in virtual time: one hop with real datapaths, or
//! other rules of repair as a model (rules.rs).
//!
//! `recovery hop|quic|rule SECONDS SEED KEY=VALUE...` with `loss=` (share), `burst=` (packets, or ms with `time=1`),
//! `back=` (loss of feedback), `jitter_us=`, `reorder=`, `rate_bps=`, `delay_us=`, `budget_ms=`, `cc=` (of streams: 0 the
//! usual one, 1 CUBIC, 2 BBR3), `film=0` (sound alone, which is what is judged then), and those of a rule; the hop's policy comes on standard input, a row a line (nothing:
//! the built-in one). `quic`: a session of streams, by QUIC's rules. Prints one line of JSON: latencies of whole
//! frames, what missed the budget, and what crossed the link.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)] // a bench fails by panicking

mod film;
mod rules;

use bytes::Bytes;
use farcast_core::command::{
    CacheLimits, Command, Draft, GroupOrder, NewObject, QueueLimits, Target,
};
use farcast_core::config::DatapathConfig;
use farcast_core::congestion::{CongestionConfig, ControllerKind};
use farcast_core::event::Event;
use farcast_core::hop::policy::Symbols;
use farcast_core::hop::{HopConfig, HopPolicy, PolicyRow};
use farcast_core::location::{LargestCell, Location};
use farcast_core::stats::HopStats;
use farcast_core::tls::{ClientTls, Identity, ServerTls, Trust};
use farcast_net::record::OBJECT_TRACE_BYTES;
use farcast_net::rng::derive_seed;
use farcast_net::{Link, LinkConfig, LinkStats, Loss, World};
use film::{AUDIO, Judged, TRACKS, Track, Whole};
use rules::{Rule, Run};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

const SENDER: usize = 0;
const RECEIVER: usize = 1;
const SETTLE_US: u64 = 15_000_000;
/// The session stands before the weather turns, and the film begins.
const BEGIN_US: u64 = 2_000_000;

struct Options {
    kind: String,
    seconds: u64,
    seed: u64,
    values: BTreeMap<String, f64>,
}

impl Options {
    fn is_hop(&self) -> bool {
        self.kind == "hop"
    }

    fn length_us(&self) -> u64 {
        self.seconds * 1_000_000
    }

    fn budget_us(&self) -> u64 {
        self.get("budget_ms", 400.0) as u64 * 1_000
    }

    /// The film and its sound, or sound alone.
    fn tracks(&self) -> &'static [Track] {
        const { &TRACKS }
            .get(usize::from(self.get("film", 1.0) <= 0.0)..)
            .unwrap_or_default()
    }

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
        kind,
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
        again: numbers[4] != 0,
        spacing_us: numbers[5] as u32,
        collect_us: numbers[6] as u32,
        span_us: numbers[7] as u32,
        coded: numbers[8] != 0,
        small_copies: numbers[9] as u8,
        essential: symbols(10),
        disposable: symbols(26),
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
        hop: HopConfig {
            budget_ms: options.get("budget_ms", 400.0) as u16,
            ..HopConfig::default()
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
        chain: vec![include_bytes!("../../../../proto/rust/core/tests/data/edge.der").to_vec()],
        key: include_bytes!("../../../../proto/rust/core/tests/data/edge.key.der").to_vec(),
    }
}

fn roots() -> Vec<Vec<u8>> {
    vec![include_bytes!("../../../../proto/rust/core/tests/data/ca.der").to_vec()]
}

fn address(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host as u8 + 1], 4_433))
}

fn connect(options: &Options) -> Command {
    let client = options.is_hop().then(identity);
    Command::Connect {
        session: 1,
        remote: address(SENDER),
        server_name: "localhost".to_owned(),
        target: if options.is_hop() {
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
    TRACKS.map(|track| add(track.id)).to_vec()
}

fn serve(session: u64, policy: Option<HopPolicy>) -> Vec<Command> {
    let mut commands = tracks();
    for track in TRACKS.map(|track| track.id) {
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
    for track in TRACKS.map(|track| track.id) {
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

/// Frame `number` of a track.
fn frame(track: &Track, number: u64) -> Command {
    let object = number % track.group;
    Command::Publish {
        track: track.id,
        object: NewObject {
            group: number / track.group,
            subgroup: 0,
            object,
            priority: track.priority,
            status: 0,
            properties: Bytes::new(),
            payload: vec![object as u8; track.bytes(number)].into(),
            end_of_subgroup: object + 1 == track.group,
            end_of_group: object + 1 == track.group,
        },
    }
}

/// What crossed the link, and when each frame was whole.
struct Outcome {
    whole: BTreeMap<u64, Whole>,
    forward: LinkStats,
    back: LinkStats,
    hop: String,
}

fn main() {
    let options = options();
    let outcome = if options.kind == "rule" {
        model(&options)
    } else {
        measure(&options)
    };
    print(&options, &outcome);
}

fn print(options: &Options, outcome: &Outcome) {
    let judge = |track: &Track| {
        let whole = &outcome.whole[&track.id];
        Judged::new(track, whole, options.length_us(), options.budget_us())
    };
    let (first, audio) = (judge(&options.tracks()[0]), judge(&AUDIO));
    let Outcome { forward, back, .. } = outcome;
    println!(
        "{{\"frames\":{},\"p50_ms\":{},\"p99_ms\":{},\"p999_ms\":{},\"missed\":{:.6},\"frozen_share\":{:.6},\"audio_missed\":{:.6},\"bytes\":{},\"packets\":{},\"back_bytes\":{},\"loss_seen\":{:.4},\"hop\":\"{}\"}}",
        first.frames,
        first.at_ms(0.5),
        first.at_ms(0.99),
        first.at_ms(0.999),
        first.missed_share(),
        first.frozen_share(),
        audio.missed_share(),
        forward.bytes_in,
        forward.packets_in,
        back.bytes_in,
        forward.packets_lost as f64 / forward.packets_in.max(1) as f64,
        outcome.hop,
    );
}

/// Another rule: its links have the seeds that the links of a world have, so that both lose alike.
fn model(options: &Options) -> Outcome {
    let seed = |from: usize, to: usize| {
        derive_seed(derive_seed(options.seed, 1 << 32 | from as u64), to as u64)
    };
    let forward = link(options, options.get("loss", 0.0));
    let mut forward = Link::new(forward, seed(SENDER, RECEIVER)).unwrap();
    let back = link(options, options.get("back", 0.0));
    let mut back = Link::new(back, seed(RECEIVER, SENDER)).unwrap();
    let count = |name| options.get(name, 0.0) as usize;
    let rule = Rule {
        parity: [
            count("parity_key"),
            count("parity_other"),
            count("parity_audio"),
        ],
        copies: options.get("copies", 1.0) as u64,
        spacing_us: options.get("spacing_us", 12_000.0) as u64,
        asks: options.get("ask", 1.0) > 0.0,
        spares: options.get("spare", 0.0) > 0.0,
        budget_us: options.budget_us(),
        rtt_us: 2 * link(options, 0.0).delay_us,
    };
    let mut run = Run::new(rule, &mut forward, &mut back, BEGIN_US);
    run.play(options.tracks(), options.length_us());
    Outcome {
        whole: run.whole,
        forward: *forward.stats(),
        back: *back.stats(),
        hop: String::new(),
    }
}

/// Real datapaths.
fn measure(options: &Options) -> Outcome {
    let policy = if options.is_hop() { policy() } else { None };
    let mut world = world(options);
    let session = meet(&mut world, options);
    world.execute(SENDER, serve(session, policy)).unwrap();
    world.trace_objects(RECEIVER, true).unwrap();
    run_to(&mut world, BEGIN_US);
    let forward = link(options, options.get("loss", 0.0));
    world.set_link(SENDER, RECEIVER, forward).unwrap();
    let feedback = link(options, options.get("back", 0.0));
    world.set_link(RECEIVER, SENDER, feedback).unwrap();
    let before = *world.link_stats(SENDER, RECEIVER).unwrap();
    let back_before = *world.link_stats(RECEIVER, SENDER).unwrap();
    let (whole, now_us) = play(&mut world, options.tracks(), options.length_us());
    let forward = *world.link_stats(SENDER, RECEIVER).unwrap();
    let back = *world.link_stats(RECEIVER, SENDER).unwrap();
    Outcome {
        whole,
        forward: since(&before, forward),
        back: since(&back_before, back),
        hop: format!("{:?}", hop_stats(&mut world, now_us)),
    }
}

/// What was counted since.
fn since(before: &LinkStats, mut now: LinkStats) -> LinkStats {
    now.bytes_in -= before.bytes_in;
    now.packets_in -= before.packets_in;
    now.packets_lost -= before.packets_lost;
    now
}

/// What the sender's hop counted.
fn hop_stats(world: &mut World, now_us: u64) -> Option<HopStats> {
    world
        .execute(SENDER, vec![Command::Snapshot { token: 1 }])
        .unwrap();
    let events = world.run_until(now_us + 1_000).unwrap();
    events.into_iter().find_map(|(_, _, event)| match event {
        Event::Snapshot { snapshot, .. } => snapshot.sessions.iter().find_map(|s| s.hop),
        _ => None,
    })
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

/// Sends the tracks to their end and lets them arrive; when frames were whole, and what time it is.
fn play(world: &mut World, tracks: &[Track], length_us: u64) -> (BTreeMap<u64, Whole>, u64) {
    let mut whole: BTreeMap<u64, Whole> = TRACKS.map(|track| (track.id, Whole::new())).into();
    let (mut next, mut now_us) = ([0u64; 2], BEGIN_US);
    while now_us < BEGIN_US + length_us + SETTLE_US {
        let until_us = now_us + 1_000_000;
        let mut commands = Vec::new();
        for (track, next) in tracks.iter().zip(&mut next) {
            while *next < track.frames(length_us) {
                let at_us = BEGIN_US + *next * track.every_us;
                if at_us >= until_us {
                    break;
                }
                commands.push((at_us, frame(track, *next)));
                *next += 1;
            }
        }
        commands.sort_by_key(|(at_us, _)| *at_us);
        world.schedule(SENDER, commands).unwrap();
        run_to(world, until_us);
        take(world, &mut whole);
        now_us = until_us;
    }
    (whole, now_us)
}

/// Runs on; what the datapaths tell their agents does not matter here.
fn run_to(world: &mut World, until_us: u64) {
    while world.now_us() < until_us {
        world.run_until(until_us).unwrap();
    }
}

fn take(world: &mut World, whole: &mut BTreeMap<u64, Whole>) {
    let trace = world.take_object_trace(RECEIVER).unwrap();
    for entry in trace.chunks_exact(OBJECT_TRACE_BYTES) {
        let word = |at: usize| u64::from_le_bytes(entry[8 * at..8 * at + 8].try_into().unwrap());
        let (last_us, id, group) = (word(1), word(2), word(3));
        let object = u64::from(u32::from_le_bytes(entry[32..36].try_into().unwrap()));
        if let Some(track) = TRACKS.iter().find(|track| track.id == id) {
            let whole = whole.entry(id).or_default();
            whole
                .entry(group * track.group + object)
                .or_insert(last_us - BEGIN_US);
        }
    }
}
