//! How the demo shows what it does: bars on a terminal, lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Where the demo is shown.
pub(super) struct Show {
    bars: Option<MultiProgress>,
    begun: Instant,
    quiet: bool,
}

/// Something that goes on.
pub(super) struct Going {
    bar: Option<ProgressBar>,
    begun: Instant,
    from: Instant,
    quiet: bool,
    name: String,
    last: u64,
}

impl Show {
    /// With `quiet` (JSON on standard output) lines go to standard error.
    pub(super) fn new(quiet: bool) -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { bars, begun: Instant::now(), quiet }
    }

    /// Since the demo began.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Says a line.
    pub(super) fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(text)),
            None => write_line(self.quiet, text),
        }
    }

    /// Begins something with so many parts (0: nobody knows).
    pub(super) fn begin(&self, name: &str, parts: u64) -> Going {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(parts));
            let template = match parts {
                0 => "{spinner} {prefix} {wide_msg}",
                _ => "{spinner} {prefix} [{bar:28}] {percent:>3}% {wide_msg}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        if bar.is_none() {
            write_line(self.quiet, &format!("{:>6.1}s  …  {name}", self.begun.elapsed().as_secs_f64()));
        }
        Going { bar, begun: Instant::now(), from: self.begun, quiet: self.quiet, name: name.to_owned(), last: 0 }
    }
}

impl Going {
    /// So many parts are done.
    pub(super) fn at(&mut self, part: u64, text: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(part);
                bar.set_message(text.to_owned());
            }
            None if part >= self.last + 25 => {
                self.last = part;
                write_line(
                    self.quiet,
                    &format!("{:>6.1}s     {} {part} % {text}", self.from.elapsed().as_secs_f64(), self.name),
                );
            }
            None => {}
        }
    }

    /// What it is.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// It ended; returns how long it took.
    pub(super) fn end(self, good: bool, text: &str) -> Duration {
        let took = self.begun.elapsed();
        let mark = if good { "✓" } else { "✗" };
        let line = format!("{:>6.1}s  {mark}  {}: {text}", self.from.elapsed().as_secs_f64(), self.name);
        match &self.bar {
            Some(bar) => {
                bar.println(&line);
                bar.finish_and_clear();
            }
            None => write_line(self.quiet, &line),
        }
        took
    }
}

fn write_line(quiet: bool, text: &str) {
    // Who reads may have gone away.
    let _ = if quiet { writeln!(std::io::stderr(), "{text}") } else { writeln!(std::io::stdout(), "{text}") };
}
