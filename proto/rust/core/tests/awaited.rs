//! What a viewer stands and waits for leaves twice, and nothing else does.
//!
//! The nodes are those of `reroute.rs`; no link loses anything. Virtual time.

mod net;

use net::mesh::{A, B, CHILD, Mesh};

/// Words about a track leave three times.
const WORD_COPIES_MAX: u64 = 12;

#[test]
fn what_the_next_parent_sends_first_leaves_twice_and_the_film_itself_once() {
    let mut mesh = Mesh::new(20, 20, 7);
    mesh.film(60);
    let (a, b) = (mesh.a.far, mesh.b.far);
    assert!(mesh.hop(A, a).chunks_repaired <= WORD_COPIES_MAX);
    assert!(mesh.hop(B, b).chunks_repaired <= WORD_COPIES_MAX);
    let before = mesh.hop(B, b).chunks_sent;
    mesh.cut_both(A, CHILD);
    mesh.film(10);
    let gap = mesh.hop(B, b);
    let (sent, copies) = (gap.chunks_sent - before, gap.chunks_repaired);
    assert!(copies > sent / 3, "{copies} copies of {sent} chunks");
    mesh.film(60);
    let later = mesh.hop(B, b).chunks_repaired;
    assert!(later <= copies + WORD_COPIES_MAX, "{copies}, then {later}");
    mesh.finish();
    mesh.assert_nothing_lost_or_doubled();
}
