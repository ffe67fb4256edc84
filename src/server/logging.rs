//! The log: one JSON object a line, `time, level, msg, component` first, as the founding document shows.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, reload};

use crate::config::settings::{LogFormat, LogLevel, LogOutput, LoggingSettings};
use crate::event::Timestamp;

/// The running log. Level, format and output can be exchanged while it runs.
#[derive(Clone)]
pub(super) struct Log {
    level: reload::Handle<LevelFilter, Registry>,
    output: Output,
    format: Lines,
}

/// The process has one log; it stays installed.
static LOG: OnceLock<Log> = OnceLock::new();

/// A log that is ready to be switched to.
pub(super) struct Opened {
    target: Target,
    format: LogFormat,
    level: LevelFilter,
}

/// Opens what `settings` name; nothing of the running log changes.
///
/// # Errors
/// When the log file cannot be opened.
pub(super) fn open(settings: &LoggingSettings) -> io::Result<Opened> {
    let level = match settings.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Ok(Opened { target: Target::open(&settings.output)?, format: settings.format, level })
}

/// Puts an opened log in force; the first one installs it.
pub(super) fn switch(opened: Opened) {
    let log = LOG.get_or_init(|| {
        let (level, handle) = reload::Layer::new(LevelFilter::INFO);
        let output = Output(Arc::new(Mutex::new(Target::Stderr)));
        let format = Lines(Arc::new(Mutex::new(opened.format)));
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(output.clone())
            .event_format(format.clone())
            .with_ansi(false);
        // Somebody who embeds Nereus may have a subscriber already: theirs stays.
        let _ = tracing::subscriber::set_global_default(Registry::default().with(level).with(lines));
        Log { level: handle, output, format }
    });
    *log.output.0.lock() = opened.target;
    *log.format.0.lock() = opened.format;
    let _ = log.level.reload(opened.level);
}

/// Opens the log file anew where another file, or none, has its name now, as after a rotation. The lines that come
/// meanwhile go to the old one.
///
/// # Errors
/// When the file cannot be opened; the old one stays.
pub(super) fn reopen() -> io::Result<()> {
    let Some(log) = LOG.get() else { return Ok(()) };
    let (path, was) = match &*log.output.0.lock() {
        Target::File(file, path) => (path.clone(), file.metadata()?),
        Target::Stderr | Target::Stdout => return Ok(()),
    };
    if fs::metadata(&path).is_ok_and(|is| (is.dev(), is.ino()) == (was.dev(), was.ino())) {
        return Ok(());
    }
    let file = open_file(&path)?;
    *log.output.0.lock() = Target::File(file, path);
    Ok(())
}

/// Where lines go now.
#[derive(Clone)]
struct Output(Arc<Mutex<Target>>);

enum Target {
    Stderr,
    Stdout,
    File(File, PathBuf),
}

impl Target {
    fn open(output: &LogOutput) -> io::Result<Self> {
        Ok(match output {
            LogOutput::Stderr => Self::Stderr,
            LogOutput::Stdout => Self::Stdout,
            LogOutput::File(path) => Self::File(open_file(path)?, path.clone()),
        })
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("log file {}: {error}", path.display())))
}

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.0.lock() {
            Target::Stderr => io::stderr().write(line),
            Target::Stdout => io::stdout().write(line),
            Target::File(file, _) => file.write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// How a line looks.
#[derive(Clone)]
struct Lines(Arc<Mutex<LogFormat>>);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = event.metadata().level().as_str();
        let time = Timestamp::now();
        // Lines of the crates underneath carry their own name.
        let component =
            fields.component.take().unwrap_or_else(|| Value::String(event.metadata().target().to_owned()));
        if *self.0.lock() == LogFormat::Text {
            let component = component.as_str().unwrap_or_default();
            write!(writer, "{time} {level:<5} {component}: {}", Plain(&fields.message))?;
            for (name, value) in &fields.rest {
                write!(writer, " {name}={value}")?;
            }
            return writeln!(writer);
        }
        let message = Value::String(fields.message);
        write!(writer, r#"{{"time":"{time}","level":"{level}","msg":{message},"component":{component}"#)?;
        for (name, value) in &fields.rest {
            write!(writer, ",{}:{value}", Value::String(name.clone()))?;
        }
        writeln!(writer, "}}")
    }
}

/// A message without what would move a terminal's cursor.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        self.0.chars().try_for_each(|c| f.write_char(if c.is_control() { '\u{fffd}' } else { c }))
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    component: Option<Value>,
    rest: Map<String, Value>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            ("component", value) => self.component = Some(value),
            // `type` is a keyword in Rust, so that the macro's callers write `r#type`.
            (name, value) => {
                self.rest.insert(name.trim_start_matches("r#").to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }
}
