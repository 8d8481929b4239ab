//! The controller on synthetic acknowledgements.

use super::*;

const MS: Duration = Duration::from_millis(1);

fn epoch() -> Instant {
    #[allow(clippy::disallowed_methods)] // any instant serves as the epoch
    Instant::now()
}

/// Acknowledge a packet of 1200 bytes a millisecond for so long, at one round trip.
fn feed(controller: &mut MediaController, from: Instant, ms: u32, rtt: Duration) -> Instant {
    for step in 0..ms {
        let now = from + step * MS;
        controller.srtt = Some(rtt);
        controller.acked(now, now - rtt, 1_200, false);
    }
    from + ms * MS
}

#[test]
fn the_rate_grows_while_it_is_used_and_nothing_queues() {
    let now = epoch() + 1_000 * MS;
    let mut controller = MediaController::new(MediaConfig::default(), now, 1_200);
    let before = controller.rate();
    feed(&mut controller, now, 1_000, 50 * MS);
    assert!(controller.rate() > before);
}

#[test]
fn a_standing_queue_lowers_the_rate_below_what_is_delivered() {
    let now = epoch() + 1_000 * MS;
    let mut controller = MediaController::new(MediaConfig::default(), now, 1_200);
    let now = feed(&mut controller, now, 1_000, 50 * MS);
    feed(&mut controller, now, 300, 120 * MS);
    assert!(controller.rate() < 1_200_000, "{}", controller.rate());
}

#[test]
fn no_sequence_of_acknowledgements_leaves_the_limits() {
    let now = epoch() + 10_000 * MS;
    let config = MediaConfig::default();
    let mut controller = MediaController::new(config, now, 0);
    for step in 0..2_000u32 {
        let at = now + step * 7 * MS;
        controller.srtt = Some(Duration::MAX);
        controller.on_packet_lost(u16::MAX, 0, at);
        controller.acked(at, at - (step % 900) * MS, u64::MAX, step % 3 == 0);
        assert!((config.rate_min..=config.rate_max).contains(&controller.rate()));
        assert!(controller.window() > 0);
    }
}
