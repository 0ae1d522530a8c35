//! Whether the private Redis still answers. One that is dead is seen at once, its process ends; one that hangs (stopped, or
//! stuck) keeps its socket, and everybody would wait for it without end.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::redis_files::RedisFiles;

/// How a Redis is listened to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulse {
    /// Between two pings.
    pub(super) every: Duration,
    /// How long an answer may take.
    pub(super) answer: Duration,
    /// So many pings in a row without an answer, and it hangs.
    pub(super) misses: u32,
}

impl Pulse {
    /// Half a minute of silence: longer than any pause of a Redis that is well.
    pub(super) const CALM: Self = Self { every: Duration::from_secs(5), answer: Duration::from_secs(10), misses: 3 };

    /// Returns when the Redis of these files hangs. Any answer counts: one that loads its file (`-LOADING`) or runs a long
    /// script (`-BUSY`) is alive. A refused connection is no silence either; the end of the process is seen elsewhere.
    pub(super) async fn stops(self, files: &RedisFiles) {
        let mut missed = 0;
        while missed < self.misses {
            match timeout(self.answer, ask(files, "PING")).await {
                Ok(_) => {
                    missed = 0;
                    sleep(self.every).await;
                }
                Err(_) => {
                    missed += 1;
                    tracing::warn!(missed, "the private Redis did not answer within {} ms", self.answer.as_millis());
                }
            }
        }
    }
}

/// One command on a connection of its own, and the first line of the answer.
pub(super) async fn ask(files: &RedisFiles, command: &str) -> Option<String> {
    let mut stream = UnixStream::connect(&files.socket).await.ok()?;
    stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).await.ok()?;
    Some(String::from_utf8_lossy(&answer[..read]).into_owned())
}

/// Whether a Redis answers on the socket of these files.
pub(super) async fn is_alive(files: &RedisFiles) -> bool {
    timeout(Duration::from_secs(2), ask(files, "PING")).await.ok().flatten().is_some()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use tokio::net::UnixListener;
    use tokio::sync::mpsc;

    use super::*;

    fn files(folder: &std::path::Path) -> RedisFiles {
        RedisFiles { folder: folder.to_owned(), socket: folder.join("s") }
    }

    #[tokio::test]
    async fn one_that_takes_connections_and_says_nothing_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let _silent = UnixListener::bind(&files.socket).unwrap();
        let pulse = Pulse { every: Duration::ZERO, answer: Duration::from_millis(5), misses: 3 };
        pulse.stops(&files).await;
    }

    #[tokio::test]
    async fn one_that_loads_or_is_busy_is_alive() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let listener = UnixListener::bind(&files.socket).unwrap();
        let (asked, mut heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for answer in ["-LOADING Redis is loading\r\n", "-BUSY Redis is busy\r\n"].into_iter().cycle() {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                asked.send(()).unwrap();
            }
        });
        // So patient that a slow machine does not count; so few misses that one would do.
        let pulse = Pulse { every: Duration::ZERO, answer: Duration::from_secs(60), misses: 1 };
        let ten = async {
            for _ in 0..10 {
                heard.recv().await.unwrap();
            }
        };
        tokio::select! {
            () = pulse.stops(&files) => panic!("it was taken for dead"),
            () = ten => {}
        }
    }
}
