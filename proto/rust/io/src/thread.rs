//! Threads that end the process when they fail: an edge without its datapath must not look alive.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::thread::{Builder, JoinHandle};

/// Run `body` in a thread of this name. A panic, or an error, is a message on standard error and the
/// end of the process (`SIGABRT`).
pub(crate) fn spawn(
    name: &'static str,
    body: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(move || {
        // Nothing that the body leaves behind is looked at: the process ends.
        let problem = match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "panic, see above".to_owned(),
        };
        eprintln!("farcast: thread {name} failed, ending the process: {problem}");
        process::abort();
    })
}
