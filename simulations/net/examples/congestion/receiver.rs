//! The one receiver: counts what comes of each flow, and notes how late each frame of a film was whole.

use crate::source::{FRAME_HEADER_BYTES, STREAM_HEADER_BYTES};
use noq_proto::{Connection, ReadError, StreamId};
use std::collections::BTreeMap;

const READ_BYTES: usize = 256 << 10;

/// What came of one flow.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Bytes of streams, in order.
    pub bytes: u64,
    /// Of each frame, from its capture to its last byte, microseconds.
    pub delays_us: Vec<u64>,
}

/// A stream that is being read.
#[derive(Default)]
struct Incoming {
    flow: Option<usize>,
    is_film: bool,
    /// Of a header, bytes so far.
    header: Vec<u8>,
    /// Of the running frame: bytes that are missing and its capture.
    frame: Option<(u64, u64)>,
}

/// Streams of one connection.
#[derive(Default)]
pub struct Streams {
    open: BTreeMap<StreamId, Incoming>,
}

impl Streams {
    pub fn begin(&mut self, id: StreamId) {
        self.open.insert(id, Incoming::default());
    }

    /// Read what there is of a stream; `flows`: what came of each flow so far.
    pub fn read(
        &mut self,
        now_us: u64,
        quic: &mut Connection,
        id: StreamId,
        flows: &mut [Received],
    ) {
        let Some(incoming) = self.open.get_mut(&id) else {
            return;
        };
        let mut stream = quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else {
            self.open.remove(&id);
            return;
        };
        let is_over = loop {
            match chunks.next(READ_BYTES) {
                Ok(Some(chunk)) => incoming.take(now_us, &chunk.bytes, flows),
                Err(ReadError::Blocked) => break false,
                Ok(None) | Err(_) => break true,
            }
        };
        // This connection is being worked on, and is asked to send at the end of it.
        let _ = chunks.finalize();
        if is_over {
            self.open.remove(&id);
        }
    }
}

impl Incoming {
    fn take(&mut self, now_us: u64, mut data: &[u8], flows: &mut [Received]) {
        while !data.is_empty() {
            let Some(flow) = self.flow else {
                if let Some(header) = self.header(&mut data, STREAM_HEADER_BYTES) {
                    self.flow = Some(usize::from(header[0]));
                    self.is_film = header[1] != 0;
                }
                continue;
            };
            let received = &mut flows[flow];
            if !self.is_film {
                received.bytes += data.len() as u64;
                return;
            }
            let Some((missing, captured_us)) = &mut self.frame else {
                if let Some(header) = self.header(&mut data, FRAME_HEADER_BYTES) {
                    let (length, at) = header.split_at(4);
                    let number = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b));
                    self.frame = Some((number(length), number(at)));
                }
                continue;
            };
            let taken = (*missing).min(data.len() as u64);
            received.bytes += taken;
            *missing -= taken;
            data = &data[taken as usize..];
            if *missing == 0 {
                received.delays_us.push(now_us.saturating_sub(*captured_us));
                self.frame = None;
            }
        }
    }

    fn header(&mut self, data: &mut &[u8], bytes: usize) -> Option<Vec<u8>> {
        let taken = (bytes - self.header.len()).min(data.len());
        self.header.extend_from_slice(&data[..taken]);
        *data = &data[taken..];
        (self.header.len() == bytes).then(|| std::mem::take(&mut self.header))
    }
}
