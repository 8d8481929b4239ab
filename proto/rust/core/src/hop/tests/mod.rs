//! Tests of the hop as a whole: codec, and two ends joined by a bad link in virtual time.

mod codec;
mod full;
mod limits;
mod link;
mod liveness;
mod recovery;
mod rounds;

use std::time::Instant;

/// The moment at which virtual time begins; which one it is does not matter.
#[allow(clippy::disallowed_methods)]
pub(in crate::hop) fn epoch() -> Instant {
    Instant::now()
}
