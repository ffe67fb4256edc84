//! `nereus replay`: a capture through a configuration, or through two of them.
//!
//! `capture.rs` finds the datagrams. What becomes of each is what a receiver would decide: the very processing, without
//! sockets, store or webhooks. The life of alerts over several packets is not played.

mod capture;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::failure::{Failure, note};
use super::output::{Out, printable};
use super::run;
use crate::event::{Effect, EffectKind, Event, Verdict};
use crate::pipeline::{Datagram, ReplyKind, Scratch, process};
use crate::snapshot::{Publisher, Snapshot};
use capture::{Captured, Problem};

/// Where notifications go that no configuration says anything about.
const TRAP_PORTS: [u16; 2] = [162, 1162];

const HELP: &str = "\
Looked at are UDP datagrams to the ports of the configurations' listeners, to 162 and 1162, and to each --port. Each is \
decided on as a running Nereus would decide; alerts over several packets (clears, repeats, expiry) are not played.

Examples:
  nereus replay traps.pcap -c nereus.yaml
  nereus replay traps.pcapng -c nereus.yaml --against new.yaml      exit code 1 if anything differs";

#[derive(Args)]
#[command(after_help = HELP)]
pub(super) struct ReplayArgs {
    /// A capture: pcap or pcapng
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The configuration; without it the one that `nereus run` would take
    #[arg(short, long, value_name = "A")]
    config: Option<PathBuf>,
    /// Another configuration: show only what it would make otherwise
    #[arg(long, value_name = "B")]
    against: Option<PathBuf>,
    /// Look at datagrams to this port too; may be given more than once
    #[arg(long, value_name = "PORT")]
    port: Vec<u16>,
    /// One JSON object a line; the last one is the summary
    #[arg(long)]
    json: bool,
}

/// One configuration, and what it decides with.
struct Side {
    publisher: Publisher,
    scratch: Scratch,
}

/// Shows what becomes of each datagram.
///
/// # Errors
/// [`Failure::Bad`] where two configurations differ, [`Failure::Unable`] for a file that cannot be read,
/// [`Failure::Undone`] for an invalid configuration.
pub(super) fn replay(args: &ReplayArgs, out: &mut Out) -> Result<(), Failure> {
    let mut first = Side::new(args.config.clone().or_else(crate::config::find).as_deref())?;
    let mut second = args.against.as_deref().map(|path| Side::new(Some(path))).transpose()?;
    let mut ports: BTreeSet<u16> = TRAP_PORTS.into_iter().chain(args.port.iter().copied()).collect();
    for side in std::iter::once(&first).chain(&second) {
        let listeners = side.publisher.current().settings().listeners.iter();
        ports.extend(listeners.map(|listener| listener.address.address.port()));
    }
    let (mut notifications, mut elsewhere, mut events, mut differ) = (0u64, 0u64, 0u64, 0u64);
    let out = std::cell::RefCell::new(out);
    let take = |captured: &Captured<'_>| {
        if !ports.contains(&captured.to.port()) {
            elsewhere += 1;
            return Ok(());
        }
        notifications += 1;
        let before = first.decide(captured);
        events += u64::from(before["outcome"] == "event");
        let mut out = out.borrow_mut();
        let Some(second) = &mut second else {
            return if args.json {
                out.json(&place(captured, before))
            } else {
                out.line(&printable(&format!("{}  {}", head(captured), sentence(&before))))
            };
        };
        let after = second.decide(captured);
        if before == after {
            return Ok(());
        }
        differ += 1;
        if args.json {
            return out.json(&place(captured, json!({"before": before, "after": after})));
        }
        out.line(&printable(&head(captured)))?;
        out.line(&printable(&format!("  - {}", sentence(&before))))?;
        out.line(&printable(&format!("  + {}", sentence(&after))))
    };
    let problem = |problem: Problem| {
        if args.json {
            return out.borrow_mut().json(&problem);
        }
        note(&printable(&format!("packet {}: {}", problem.packet, problem.problem)));
        Ok(())
    };
    let path = args.file.display();
    let (packets, skipped) = capture::read(&args.file, take, problem)
        .map_err(|why| Failure::Unable(format!("{path} cannot be read to its end: {why}")))??;
    let out = out.into_inner();
    if args.json {
        out.json(&json!({"summary": {
            "packets": packets, "datagrams": notifications, "elsewhere": elsewhere, "events": events,
            "differ": args.against.is_some().then_some(differ), "skipped": skipped,
        }}))?;
    } else {
        out.line(&format!(
            "packets: {packets}, datagrams to these ports: {notifications}, events: {events}, to other ports: \
             {elsewhere}, skipped: {}",
            skipped.other
                + skipped.tcp
                + skipped.damaged
                + skipped.cut
                + skipped.link_type
                + skipped.incomplete
        ))?;
        if args.against.is_some() {
            out.line(&format!("differ: {differ}"))?;
        }
    }
    if differ > 0 { Err(Failure::Bad) } else { Ok(()) }
}

impl Side {
    fn new(path: Option<&Path>) -> Result<Self, Failure> {
        let publisher = Publisher::new(run::candidate(path)?, 1);
        let publisher = publisher.map_err(|error| Failure::Unable(error.to_string()))?;
        let scratch = Scratch::offline(publisher.current().settings().access.engine_id);
        Ok(Self { publisher, scratch })
    }

    /// What becomes of the datagram, as JSON.
    fn decide(&mut self, captured: &Captured<'_>) -> Value {
        let snapshot = self.publisher.current();
        let datagram = Datagram {
            octets: captured.octets,
            peer: captured.from,
            listener: listener(snapshot, captured),
            received: captured.time,
        };
        let verdict = process(snapshot, &datagram, &mut self.scratch);
        let answered = self.scratch.reply.kind() != ReplyKind::None;
        let mut told = match &verdict {
            Verdict::Accepted(event) => event_json(event),
            Verdict::Dropped(reason) => json!({"outcome": "dropped", "reason": reason.as_str()}),
        };
        if let Value::Object(fields) = &mut told {
            fields.insert("version".into(), self.scratch.version.map(|version| version.to_string()).into());
            fields.insert("answered".into(), answered.into());
        }
        told
    }
}

/// The listener that would have had it: of this address and port, else of this port, else the first.
fn listener(snapshot: &Snapshot, captured: &Captured<'_>) -> usize {
    let listeners = &snapshot.settings().listeners;
    let exactly = listeners.iter().position(|own| own.address.address == captured.to);
    let by_port = || listeners.iter().position(|own| own.address.address.port() == captured.to.port());
    exactly.or_else(by_port).unwrap_or(0)
}

fn event_json(event: &Event) -> Value {
    json!({
        "outcome": "event",
        "trap_oid": event.trap_oid.to_string(),
        "trap_name": event.trap_name,
        "source": event.source,
        "community": event.community.as_deref(),
        "effects": event.effects.iter().map(effect_json).collect::<Vec<_>>(),
    })
}

fn effect_json(effect: &Effect) -> Value {
    let key: Map<String, Value> =
        effect.rule.key_parts(&effect.key).map(|(name, value)| (name.to_string(), value.into())).collect();
    let (does, severity) = match effect.kind {
        EffectKind::Raise(severity) => ("raise", Some(severity)),
        EffectKind::Clear(_) => ("clear", None),
        EffectKind::Store => ("store", None),
    };
    json!({
        "rule": effect.rule.rule,
        "does": does,
        "alert": effect.rule.alert,
        "severity": severity,
        "key": key,
        "notify": effect.rule.notify.as_ref().map(|names| names.iter().map(|name| &**name).collect::<Vec<_>>()),
    })
}

/// Which packet it is, with what is told of it.
fn place(captured: &Captured<'_>, told: Value) -> Value {
    let mut object = Map::new();
    object.insert("packet".into(), captured.packet.into());
    object.insert("time".into(), json!(captured.time));
    object.insert("peer".into(), json!(captured.from));
    object.insert("to".into(), json!(captured.to));
    if let Value::Object(told) = told {
        object.extend(told);
    }
    Value::Object(object)
}

fn head(captured: &Captured<'_>) -> String {
    format!("{:>6}  {}  {}", captured.packet, captured.time, captured.from)
}

/// The outcome for people.
fn sentence(told: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = told["version"].as_str().unwrap_or("?");
    let inform = if told["answered"] == true { ", answered" } else { "" };
    if told["outcome"] != "event" {
        return format!("{version} dropped: {}{inform}", text(&told["reason"]));
    }
    let name = told["trap_name"].as_str().or(told["trap_oid"].as_str()).unwrap_or_default();
    let mut line = format!("{version} {name} of {}{inform}", text(&told["source"]));
    for effect in told["effects"].as_array().into_iter().flatten() {
        line.push_str(&format!(": {}", text(&effect["does"])));
        for part in ["alert", "severity"] {
            if let Some(part) = effect[part].as_str().filter(|part| !part.is_empty()) {
                line.push_str(&format!(" {part}"));
            }
        }
        for (name, value) in effect["key"].as_object().into_iter().flatten() {
            line.push_str(&format!(" {name}={}", text(value)));
        }
        line.push_str(&format!(" (rule {})", text(&effect["rule"])));
        if let Some(webhooks) = effect["notify"].as_array() {
            let names: Vec<_> = webhooks.iter().filter_map(Value::as_str).collect();
            line.push_str(&format!(
                " to {}",
                if names.is_empty() { "nobody".into() } else { names.join(", ") }
            ));
        }
    }
    line
}
