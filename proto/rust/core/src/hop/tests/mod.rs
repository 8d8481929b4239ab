//! Tests of the hop as a whole: codec, and two ends joined by a bad link in virtual time.

mod codec;
mod limits;
mod link;
mod liveness;
mod recovery;
