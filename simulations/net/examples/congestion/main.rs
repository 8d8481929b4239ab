//! Congestion controllers over one bottleneck, in virtual time: what `make bench-congestion` runs.
//!
//! Reads one experiment from standard input, a line a setting, and prints one line of JSON: of each flow what
//! arrived in every second, frames and their delays; of the bottleneck its queue over time and its drops.
//!
//! ```text
//! seed 1
//! seconds 60
//! forward delay_us 50000 rate_bps 5000000 queue_bytes 312500
//! forward rate_at 30000000 2500000
//! forward delay_at 30000000 75000
//! forward bursts 0.05 3
//! forward delay_log 7500 1.1 500000
//! backward delay_us 50000
//! flow media bulk start_s 0 end_s 60 extra_us 0
//! flow cubic film 3000000
//! ```

mod node;
mod receiver;
mod source;
#[path = "../support/mod.rs"]
mod support;

use farcast_core::congestion::{CongestionConfig, ControllerKind};
use farcast_net::{HostId, LinkConfig, Loss, LossWindow, RateEntry, World};
use node::{FlowSpec, Node};
use source::Kind;
use std::fmt::Write;
use std::io::Read;
use std::net::SocketAddr;
use std::time::Instant;

const SENDER: HostId = 0;
const RECEIVER: HostId = 1;
/// How often the bottleneck's queue is looked at.
const SAMPLE_US: u64 = 10_000;

/// One experiment.
struct Experiment {
    seed: u64,
    seconds: u64,
    forward: Way,
    backward: Way,
    flows: Vec<(String, FlowSpec)>,
}

/// One direction.
#[derive(Default)]
struct Way {
    config: LinkConfig,
    rates: Vec<RateEntry>,
    losses: Vec<Loss>,
    windows: Vec<LossWindow>,
    windows_repeat_us: u64,
    /// From when on the delay is another one, in order.
    delays: Vec<(u64, u64)>,
}

impl Way {
    fn set(&mut self, words: &[&str]) -> Option<()> {
        match words {
            ["rate_at", at_us, bps] => self.rates.push(RateEntry {
                at_us: at_us.parse().ok()?,
                rate_bps: bps.parse().ok()?,
            }),
            ["delay_at", at_us, delay_us] => {
                let delay = (at_us.parse().ok()?, delay_us.parse().ok()?);
                self.delays.push(delay);
            }
            ["bursts", loss, burst] => self.losses.push(Loss::GilbertElliott {
                loss: loss.parse().ok()?,
                burst: burst.parse().ok()?,
            }),
            ["window", start_us, length_us, share] => self.windows.push(LossWindow {
                start_us: start_us.parse().ok()?,
                length_us: length_us.parse().ok()?,
                share: share.parse().ok()?,
            }),
            ["delay_log", median_us, sigma, redraw_us] => {
                self.config.delay_log_median_us = median_us.parse().ok()?;
                self.config.delay_log_sigma = sigma.parse().ok()?;
                self.config.delay_redraw_us = redraw_us.parse().ok()?;
            }
            ["windows_repeat_us", repeat_us] => self.windows_repeat_us = repeat_us.parse().ok()?,
            pairs => {
                for pair in pairs.chunks(2) {
                    let [name, value] = pair else { return None };
                    self.set_one(name, value.parse().ok()?)?;
                }
            }
        }
        Some(())
    }

    fn set_one(&mut self, name: &str, value: u64) -> Option<()> {
        let config = &mut self.config;
        match name {
            "delay_us" => config.delay_us = value,
            "jitter_us" => config.jitter_us = value,
            "rate_bps" => config.rate_bps = Some(value),
            "rate_repeat_us" => config.rate_repeat_us = value,
            "queue_bytes" => config.queue_bytes = value,
            "policer_bps" => config.policer_bps = Some(value),
            "policer_burst_bytes" => config.policer_burst_bytes = value,
            _ => return None,
        }
        Some(())
    }

    /// What the link becomes at a moment that a sample falls on, if its delay changes then.
    fn link_from(&self, at_us: u64) -> Option<LinkConfig> {
        let (_, delay_us) = self.delays.iter().find(|(at, _)| *at == at_us)?;
        Some(LinkConfig {
            delay_us: *delay_us,
            ..self.link()
        })
    }

    fn link(&self) -> LinkConfig {
        let mut losses = self.losses.clone();
        if !self.windows.is_empty() {
            losses.push(Loss::Windows {
                windows: self.windows.clone().into(),
                repeat_us: self.windows_repeat_us,
            });
        }
        LinkConfig {
            rate_schedule: self.rates.clone().into(),
            loss: match losses.is_empty() {
                true => Loss::None,
                false => Loss::AnyOf(losses.into()),
            },
            ..self.config.clone()
        }
    }
}

impl Experiment {
    fn read(text: &str) -> Result<Experiment, String> {
        let mut experiment = Experiment {
            seed: 1,
            seconds: 30,
            forward: Way::default(),
            backward: Way::default(),
            flows: Vec::new(),
        };
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            experiment
                .set(&words)
                .ok_or_else(|| format!("not understood: {line}"))?;
        }
        Ok(experiment)
    }

    fn set(&mut self, words: &[&str]) -> Option<()> {
        match words {
            [] => Some(()),
            ["seed", seed] => seed.parse().ok().map(|seed| self.seed = seed),
            ["seconds", s] => s.parse().ok().map(|seconds| self.seconds = seconds),
            ["forward", rest @ ..] => self.forward.set(rest),
            ["backward", rest @ ..] => self.backward.set(rest),
            ["flow", controller, rest @ ..] => self.add_flow(controller, rest),
            _ => None,
        }
    }

    fn add_flow(&mut self, controller: &str, rest: &[&str]) -> Option<()> {
        let (kind, mut rest) = match rest {
            ["bulk", rest @ ..] => (Kind::Bulk, rest),
            ["film", bps, rest @ ..] => (
                Kind::Film {
                    bps: bps.parse().ok()?,
                },
                rest,
            ),
            ["encoder", bps, rest @ ..] => {
                let bps_max = bps.parse().ok()?;
                (Kind::Encoder { bps_max }, rest)
            }
            _ => return None,
        };
        let mut spec = FlowSpec {
            congestion: CongestionConfig {
                kind: ControllerKind::from_name(controller)?,
                ..CongestionConfig::default()
            },
            kind,
            start_us: 0,
            end_us: self.seconds * 1_000_000,
            extra_us: 0,
        };
        while let [name, value, more @ ..] = rest {
            let value: f64 = value.parse().ok()?;
            match *name {
                "start_s" => spec.start_us = (value * 1e6) as u64,
                "end_s" => spec.end_us = (value * 1e6) as u64,
                "extra_us" => spec.extra_us = value as u64,
                _ => return None,
            }
            rest = more;
        }
        self.flows.push((controller.to_owned(), spec));
        rest.is_empty().then_some(())
    }
}

/// What was seen.
#[derive(Default)]
struct Seen {
    /// Of each flow, bytes that had come at the end of every second.
    totals: Vec<Vec<u64>>,
    queue_us: Vec<u64>,
}

fn run(experiment: &Experiment) -> Result<(World<Node>, Seen), String> {
    #[allow(clippy::disallowed_methods)] // any instant serves as the epoch
    let epoch = Instant::now();
    let address = |last| SocketAddr::from(([10, 0, 0, last], 4_433));
    let specs: Vec<FlowSpec> = experiment.flows.iter().map(|(_, spec)| *spec).collect();
    let mut world = World::new(epoch, experiment.seed);
    let sender = Node::sender(epoch, address(2), &specs, experiment.seed);
    let receiver = Node::receiver(epoch, specs.len(), experiment.seed);
    for (last, node) in [(1, sender), (2, receiver)] {
        let added = world.add_engine(address(last), node);
        added.map_err(|error| error.to_string())?;
    }
    let ways = [
        (SENDER, RECEIVER, &experiment.forward),
        (RECEIVER, SENDER, &experiment.backward),
    ];
    for (from, to, way) in &ways {
        let added = world.add_link(*from, *to, way.link());
        added.map_err(|error| error.to_string())?;
    }
    // Whatever is asked of a host, it is looked at when it wants to be woken.
    let woken = world.execute(SENDER, Vec::new());
    woken.map_err(|error| error.to_string())?;
    let mut seen = Seen {
        totals: vec![Vec::new(); specs.len()],
        ..Seen::default()
    };
    for at_us in (SAMPLE_US..=experiment.seconds * 1_000_000).step_by(SAMPLE_US as usize) {
        world.run_until(at_us).map_err(|error| error.to_string())?;
        for (from, to, way) in &ways {
            if let Some(link) = way.link_from(at_us) {
                let set = world.set_link(*from, *to, link);
                set.map_err(|error| error.to_string())?;
            }
        }
        let backlog = world.link_backlog_us(SENDER, RECEIVER);
        seen.queue_us
            .push(backlog.map_err(|error| error.to_string())?);
        if at_us % 1_000_000 == 0 {
            let received = world.engine(RECEIVER).map_or(&[][..], Node::received);
            for (totals, flow) in seen.totals.iter_mut().zip(received) {
                totals.push(flow.bytes);
            }
        }
    }
    Ok((world, seen))
}

fn list(values: impl IntoIterator<Item = u64>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    format!("[{}]", values.join(","))
}

fn report(experiment: &Experiment, world: &World<Node>, seen: Seen) -> Result<String, String> {
    let stats = world.link_stats(SENDER, RECEIVER);
    let stats = stats.map_err(|error| error.to_string())?;
    let frames = world.engine(SENDER).map_or(Vec::new(), Node::frames);
    let received = world.engine(RECEIVER).map_or(&[][..], Node::received);
    let mut flows = Vec::new();
    for (number, (controller, _)) in experiment.flows.iter().enumerate() {
        let totals = &seen.totals[number];
        let before = std::iter::once(&0).chain(totals);
        let each = totals.iter().zip(before).map(|(now, before)| now - before);
        let (made, skipped) = frames[number];
        let mut flow = String::new();
        let _ = write!(
            flow,
            "{{\"controller\":\"{controller}\",\"bytes_per_second\":{},\"frames\":{made},\"skipped\":{skipped},\"delays_us\":{}}}",
            list(each),
            list(received[number].delays_us.iter().copied()),
        );
        flows.push(flow);
    }
    Ok(format!(
        "{{\"flows\":[{}],\"queue_us\":{},\"packets_in\":{},\"packets_lost\":{},\"dropped_queue\":{},\"dropped_policer\":{}}}",
        flows.join(","),
        list(seen.queue_us),
        stats.packets_in,
        stats.packets_lost,
        stats.packets_dropped_queue,
        stats.packets_dropped_policer,
    ))
}

#[allow(clippy::print_stdout)] // the result of the program
fn main() -> Result<(), String> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    let experiment = Experiment::read(&text)?;
    let (world, seen) = run(&experiment)?;
    println!("{}", report(&experiment, &world, seen)?);
    Ok(())
}
