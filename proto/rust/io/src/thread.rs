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

#[cfg(test)]
mod tests {
    use std::env;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// Set in the process that is to end.
    const DOOMED: &str = "FARCAST_TEST_DOOMED";

    #[test]
    fn a_panic_in_a_thread_ends_the_process_with_a_message() {
        if env::var_os(DOOMED).is_some() {
            let thread = super::spawn("doomed", || panic!("as the test wants it")).unwrap();
            let _ = thread.join();
            return;
        }
        let ended = Command::new(env::current_exe().unwrap())
            .args(["--nocapture", "a_panic_in_a_thread"])
            .env(DOOMED, "1")
            .output()
            .unwrap();
        assert_eq!(ended.status.signal(), Some(libc::SIGABRT));
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("as the test wants it"), "{said}");
        assert!(
            said.contains("thread doomed failed, ending the process"),
            "{said}"
        );
    }
}
