//! Programs that end within a time, with what they printed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::process::{Signal, send_signal, wait_until};

const TIME_LIMIT_DEFAULT: Duration = Duration::from_secs(90);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How much of what a failed program printed goes into the error.
const EXCERPT_LINES: usize = 30;

const DESCRIPTION_WORD_MAX: usize = 200;
/// Shells, and JVMs, add the number of the signal to it.
const SIGNAL_EXIT_CODE: i32 = 128;

/// A program to run.
#[derive(Debug)]
pub struct Tool {
    command: Command,
    stdin: Option<PathBuf>,
    time_limit: Duration,
}

/// What a program printed.
#[derive(Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
}

/// How a program ended.
#[derive(Debug)]
pub struct End {
    /// The program and its arguments
    pub description: String,
    pub status: ExitStatus,
    pub output: Output,
}

impl Tool {
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            command: Command::new(program),
            stdin: None,
            time_limit: TIME_LIMIT_DEFAULT,
        }
    }

    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The file that the program reads as its stdin, which is empty otherwise.
    #[must_use]
    pub fn stdin(mut self, file: &Path) -> Self {
        self.stdin = Some(file.to_owned());
        self
    }

    /// The time after which [`Self::run`] kills the program.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// When it fails or exceeds its time; the message has the last lines that it printed.
    pub fn run(self) -> Result<Output> {
        let limit = self.time_limit;
        self.spawn()?.wait(limit)
    }

    /// Runs the program to its end, which may be a failure.
    ///
    /// # Errors
    /// When it can't be started, or exceeds its time.
    pub fn end(self) -> Result<End> {
        let limit = self.time_limit;
        self.spawn()?.end(limit)
    }

    /// Starts the program and returns; it is killed when the value is dropped.
    ///
    /// # Errors
    /// When the program can't be started.
    pub fn spawn(self) -> Result<Running> {
        let stdin = match &self.stdin {
            Some(path) => Stdio::from(
                File::open(path).with_context(|| format!("can't read {}", path.display()))?,
            ),
            None => Stdio::null(),
        };
        self.spawn_reading(stdin)
    }

    /// As [`Self::spawn`], for a program whose stdin the caller writes, and closes.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn spawn_with_stdin(self) -> Result<(Running, ChildStdin)> {
        let mut running = self.spawn_reading(Stdio::piped())?;
        let stdin = running.child.stdin.take().context("stdin is not a pipe")?;
        Ok((running, stdin))
    }

    fn spawn_reading(mut self, stdin: Stdio) -> Result<Running> {
        let program = self.command.get_program().to_string_lossy().into_owned();
        let mut child = self
            .command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {program}"))?;
        let stdout = child.stdout.take().map(Capture::start);
        let stderr = child.stderr.take().map(Capture::start);
        Ok(Running {
            child,
            stdout: stdout.context("stdout is not a pipe")?,
            stderr: stderr.context("stderr is not a pipe")?,
            description: describe(&self.command),
        })
    }
}

/// The program and its arguments, without those that fill pages, such as class paths.
fn describe(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words = words.map(|word| match word.to_string_lossy() {
        long if long.len() > DESCRIPTION_WORD_MAX => "[...]".to_owned(),
        word => word.into_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Capture,
    stderr: Capture,
    description: String,
}

impl Running {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// The number of lines that it printed so far.
    #[must_use]
    pub fn stdout_lines(&self) -> usize {
        self.stdout.lines()
    }

    /// What it printed to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Polls until `done` holds.
    ///
    /// # Errors
    /// When the program ends before, or the time is over.
    pub fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        let mut ended = None;
        let outcome = wait_until(what, limit, || {
            ended = self.child.try_wait().ok().flatten();
            done(self) || ended.is_some()
        });
        if ended.is_some() {
            // Its last words may be on their way.
            self.stdout.finish();
            self.stderr.finish();
        }
        if outcome.is_ok() && done(self) {
            return Ok(());
        }
        let reason = match ended {
            Some(status) => format!("it ended with {status}, waiting until {what}"),
            None => format!("waited {limit:?} in vain until {what}"),
        };
        bail!("{}", self.failure(&reason));
    }

    /// Asks the program to stop and waits until it has.
    ///
    /// # Errors
    /// When it does not stop in time, or fails; to end as one that was stopped is no failure.
    pub fn stop(&mut self, signal: Signal, limit: Duration) -> Result<Output> {
        send_signal(self.pid(), signal).with_context(|| self.failure("can't be stopped"))?;
        let status = self.wait_for_status(limit)?;
        // What a JVM exits with after its shutdown hooks.
        let stopped = status.code() == Some(SIGNAL_EXIT_CODE + signal.as_raw());
        self.output(stopped || status.success(), status)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits for the end of the program.
    ///
    /// # Errors
    /// When it fails or exceeds its time.
    pub fn wait(&mut self, limit: Duration) -> Result<Output> {
        let status = self.wait_for_status(limit)?;
        self.output(status.success(), status)
    }

    /// As [`Self::wait`], for a program that may fail.
    ///
    /// # Errors
    /// When it exceeds its time.
    pub fn end(&mut self, limit: Duration) -> Result<End> {
        let status = self.wait_for_status(limit)?;
        Ok(End {
            description: self.description.clone(),
            status,
            output: self.output(true, status)?,
        })
    }

    fn output(&mut self, is_success: bool, status: ExitStatus) -> Result<Output> {
        self.stdout.finish();
        self.stderr.finish();
        if !is_success {
            bail!("{}", self.failure(&format!("failed with {status}")));
        }
        Ok(Output {
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        })
    }

    fn wait_for_status(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                let failure = self.failure(&format!("did not end within {limit:?}"));
                self.child.kill()?;
                bail!("{failure}");
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn failure(&self, reason: &str) -> String {
        format!(
            "{reason}: {}\n--- stdout, {} lines, the last:\n{}\n--- stderr, the last lines:\n{}",
            self.description,
            self.stdout.lines(),
            last_lines(&self.stdout.text(), EXCERPT_LINES / 3),
            last_lines(&self.stderr.text(), EXCERPT_LINES),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a text.
#[must_use]
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A thread that keeps what comes out of a pipe.
#[derive(Debug)]
struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Capture {
    fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut chunk = vec![0; 64 << 10];
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                if let Ok(mut kept) = kept.lock() {
                    kept.extend_from_slice(&chunk[..count]);
                }
            }
        });
        Self {
            bytes,
            reader: Some(reader),
        }
    }

    fn with_bytes<T>(&self, view: impl FnOnce(&[u8]) -> T) -> T {
        let bytes = self.bytes.lock().expect("the reader does not panic");
        view(&bytes)
    }

    fn text(&self) -> String {
        self.with_bytes(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn lines(&self) -> usize {
        self.with_bytes(|bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
    }

    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            // It ends with the pipe, and does not panic.
            let _ = reader.join();
        }
    }
}
