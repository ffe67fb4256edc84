//! `nereus send`: a notification by its MIB names, or many of them at a rate.
//!
//! `inform.rs` waits for an answer. `message.rs` makes OIDs and values of the command line (`value.rs`) and says it in SNMPv1 where asked;
//! `v3.rs` says whose message it is in SNMPv3; `load.rs` sends, `pace.rs` says when.

mod inform;
mod load;
mod message;
mod pace;
mod v3;
mod value;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;

use super::failure::{self, Failure, note};
use super::names::NameArgs;
use super::output::{Out, printable};
use inform::{Asked, Patience};
use load::{Envelope, Sender, Sent};
use message::Message;
use pace::Pace;

use crate::wire::Kind;

/// Where notifications go when the address names no port.
const SNMP_TRAP_PORT: u16 = 162;

const HELP: &str = "\
A varbind's NAME is an object with its instance: IF-MIB::ifDescr.3, sysName.0, or an OID in numbers. VALUE is read \
by the object's syntax: an enumeration's label or number, an OID by name, octets as text or as 0x001b2c, an IP \
address, a number.

An object that no MIB defines needs its type, as NAME:TYPE=VALUE; any other takes one as well. TYPE is one of \
snmptrap's letters: i INTEGER, u Unsigned32, c Counter32, C Counter64, t TimeTicks, a IpAddress, o OBJECT IDENTIFIER, \
s text, x hexadecimal octets, n NULL.

Examples:
  nereus send --to 127.0.0.1:1162 linkDown ifIndex.3=3 ifAdminStatus.3=up ifOperStatus.3=down
  nereus send --to 127.0.0.1:1162 --inform coldStart
  nereus send --to 127.0.0.1:1162 --v3 --user ops --auth sha256 --auth-passphrase-file auth.txt coldStart
  nereus send --to [::1]:1162 --v1 1.3.6.1.4.1.5.0.1 1.3.6.1.4.1.5.2.0:i=60
  nereus send --to 127.0.0.1:1162 --rate 20000 --duration 20s --vary ifIndex=1..50000 linkDown";

/// The arguments of `nereus send`. No Debug: the community is a secret.
#[derive(Args)]
#[command(after_help = HELP)]
pub(super) struct SendArgs {
    /// The receiver: host:port, [v6]:port, or a host for port 162
    #[arg(long, value_name = "ADDR")]
    to: String,
    /// As an SNMPv1 trap: enterprise, generic-trap and specific-trap follow from the notification
    #[arg(long, conflicts_with = "v2c")]
    v1: bool,
    /// As an SNMPv2c trap (the default)
    #[arg(long)]
    v2c: bool,
    #[command(flatten)]
    v3: v3::V3Args,
    /// As an inform: sent until it is answered, which a Nereus does once the event is on its disk
    #[arg(long, conflicts_with_all = ["v1", "rate"])]
    inform: bool,
    /// With --inform: how long to wait for the answer to each try
    #[arg(long, value_name = "TIME", requires = "inform", default_value = "2s", value_parser = super::time::duration)]
    timeout: Duration,
    /// With --inform: how often to try again
    #[arg(long, value_name = "N", requires = "inform", default_value_t = 3)]
    retries: u32,
    /// The community
    #[arg(
        long,
        value_name = "COMMUNITY",
        default_value = "public",
        env = "NEREUS_COMMUNITY",
        hide_env_values = true
    )]
    community: String,
    /// The agent-addr of an SNMPv1 trap; without it the address that is sent from
    #[arg(long, value_name = "IPV4", requires = "v1")]
    agent_addr: Option<Ipv4Addr>,
    #[command(flatten)]
    names: NameArgs,
    /// Send so many a second, instead of one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), requires = "end")]
    rate: Option<u64>,
    /// With --rate: how many in all
    #[arg(long, value_name = "N", requires = "rate", group = "end")]
    count: Option<u64>,
    /// With --rate: for how long, as 20s or 5m
    #[arg(long, value_name = "TIME", requires = "rate", group = "end", value_parser = super::time::duration)]
    duration: Option<Duration>,
    /// With --rate: a varbind whose value counts from packet to packet, from FROM to TO and again. A column
    /// without a row takes the value for the row too; may be given more than once
    #[arg(long, value_name = "NAME=FROM..TO", requires = "rate")]
    vary: Vec<String>,
    /// With --rate, to a loopback address: from so many addresses of 127.0.0.0/8 in turn
    #[arg(long, value_name = "N", requires = "rate", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    sources: Option<u32>,
    /// Say what was sent as JSON
    #[arg(long)]
    json: bool,
    /// The notification: IF-MIB::linkDown, linkDown, or an OID in numbers
    name: String,
    /// NAME=VALUE or NAME:TYPE=VALUE
    #[arg(value_name = "VARBIND=VALUE")]
    varbinds: Vec<String>,
}

/// What one notification became, as `--json` prints it.
#[derive(Serialize)]
struct One<'a> {
    sent: u64,
    to: SocketAddr,
    trap_oid: String,
    trap_name: &'a str,
    version: &'a str,
    varbinds: usize,
    octets: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    inform: Option<Inform>,
}

/// What came of an inform, as `--json` prints it.
#[derive(Serialize)]
struct Inform {
    answered: bool,
    tries: u32,
    /// From the first try to the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    /// The error-status of the Response; 0 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_status: Option<i32>,
}

/// What many became, as `--json` prints it.
#[derive(Serialize)]
struct Many<'a> {
    #[serde(flatten)]
    sent: &'a Sent,
    to: SocketAddr,
    trap_oid: String,
    version: &'a str,
}

/// Sends what the arguments say.
///
/// # Errors
/// [`Failure::Usage`] for names and values that make no sense, [`Failure::Unable`] where it could not be sent or an
/// inform was not answered, [`Failure::Undone`] where not every one of many was sent, [`Failure::Bad`] where the answer
/// to an inform is an error.
pub(super) fn send(args: &SendArgs, out: &mut Out) -> Result<(), Failure> {
    let mib = args.names.load()?;
    let mut message =
        Message::parse(&mib, &args.name, &args.varbinds, &args.vary).map_err(|problems| usage(&problems))?;
    let v1 = if args.v1 { Some(message.v1_head().map_err(Failure::Usage)?) } else { None };
    let missing = message.missing(&mib);
    if !missing.is_empty() {
        note(&format!("{} has also {}; sent without", message.trap_name, missing.join(", ")));
    }
    let to = resolve(&args.to)?;
    let user = v3::User::of(&args.v3)?;
    let session = user.as_ref().map(v3::User::for_traps);
    if args.sources.is_some() && !matches!(to.ip(), IpAddr::V4(v4) if v4.is_loopback()) {
        return Err(Failure::Usage(format!("--sources sends from 127.0.0.0/8, which {to} does not hear")));
    }
    if let Some(sources) = args.sources {
        allow_open_files(sources.into());
    }
    let unable = |error| Failure::Unable(format!("cannot send to {to}: {error}"));
    let mut sender = Sender::connect(to, args.sources).map_err(|error| unable(error.to_string()))?;
    let envelope = Envelope {
        kind: if args.inform { Kind::Inform } else { Kind::Trap },
        community: args.community.as_bytes(),
        v1: v1.as_ref(),
        v3: session.as_ref(),
        agent_addr: args.agent_addr.map(|address| address.octets()),
        uptime: system_uptime(),
        request_id: request_id(),
    };
    let version = match (args.v1, &session) {
        (_, Some(_)) => "v3",
        (true, None) => "v1",
        (false, None) => "v2c",
    };
    let trap_oid = message.trap_oid.to_string();
    let Some(rate) = args.rate else {
        let (octets, asked) = if args.inform {
            let patience = Patience { timeout: args.timeout, retries: args.retries };
            let (octets, asked) = match &user {
                Some(user) => {
                    let ids = (envelope.request_id, envelope.uptime);
                    v3::ask(user, sender.socket(), &message, ids, patience).map_err(unable)?
                }
                None => sender.ask(&message, &envelope, patience).map_err(unable)?,
            };
            (octets, Some(asked))
        } else {
            (sender.once(&message, &envelope).map_err(unable)?, None)
        };
        let varbinds = message.varbinds.len();
        if args.json {
            out.json(&One {
                sent: asked.map_or(1, |asked| asked.tries.into()),
                to,
                trap_oid,
                trap_name: &message.trap_name,
                version,
                varbinds,
                octets,
                inform: asked.map(|asked| Inform {
                    answered: asked.answer.is_some(),
                    tries: asked.tries,
                    seconds: asked.answer.map(|(_, after)| after.as_secs_f64()),
                    error_status: asked.answer.map(|(response, _)| response.error_status),
                }),
            })?;
        } else {
            out.line(&format!(
                "sent {} to {to}: {version}, varbinds: {varbinds}, octets: {octets}",
                message.trap_name
            ))?;
        }
        return asked.map_or(Ok(()), |asked| judge(asked, to, args.json, out));
    };
    let sent = sender.run(&mut message, &envelope, Pace::new(rate, args.count, args.duration));
    if args.json {
        out.json(&Many { sent: &sent, to, trap_oid, version })?;
    } else {
        out.line(&format!(
            "sent {} in {:.3} s to {to}: {:.0}/s, {} refused, {} errors",
            sent.sent, sent.seconds, sent.rate, sent.refused, sent.errors
        ))?;
    }
    if let Some(error) = sent.error {
        return Err(unable(error));
    }
    if sent.refused > 0 {
        failure::error(&format!("{to} answered {} times that nothing listens there", sent.refused));
        return Err(Failure::Undone);
    }
    Ok(())
}

/// Tells what came of an inform.
fn judge(asked: Asked, to: SocketAddr, json: bool, out: &mut Out) -> Result<(), Failure> {
    let tries = asked.tries;
    let Some((response, after)) = asked.answer else {
        let why = if asked.refused { "nothing listens there" } else { "no answer" };
        return Err(Failure::Unable(format!("{to} did not answer the inform: {why}, tries: {tries}")));
    };
    if response.error_status != 0 {
        let (status, index) = (response.error_status, response.error_index);
        failure::error(&format!("{to} answered the inform with error-status {status}, error-index {index}"));
        return Err(Failure::Bad);
    }
    if json {
        return Ok(());
    }
    out.line(&format!("answered after {:.1} ms, tries: {tries}", after.as_secs_f64() * 1e3))
}

fn usage(problems: &[String]) -> Failure {
    let lines: Vec<_> = problems.iter().map(|problem| printable(problem)).collect();
    Failure::Usage(lines.join("\n       "))
}

/// The first address that `text` stands for.
fn resolve(text: &str) -> Result<SocketAddr, Failure> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok((address, SNMP_TRAP_PORT).into());
    }
    let (host, port) = match text.rsplit_once(':') {
        None => (text, SNMP_TRAP_PORT),
        Some((host, port)) => {
            let wrong = || Failure::Usage(format!("--to {text}: write host:port or [v6]:port"));
            if host.contains(':') {
                return Err(wrong());
            }
            (host, port.parse().map_err(|_| wrong())?)
        }
    };
    let unknown = |why: String| Failure::Unable(format!("the host {host} cannot be resolved: {why}"));
    let mut addresses = (host, port).to_socket_addrs().map_err(|error| unknown(error.to_string()))?;
    addresses.next().ok_or_else(|| unknown("it has no address".to_owned()))
}

/// Asks for room for so many sockets, as far as the system lets a user: each source has one.
fn allow_open_files(number: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = number + 64;
    if limit.current.is_some_and(|current| current < wanted) {
        let current = Some(limit.maximum.map_or(wanted, |most| wanted.min(most)));
        // Without it the next socket says what is wrong.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum });
    }
}

/// How long the system has been up, in hundredths of a second; 0 where it does not say.
fn system_uptime() -> u32 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split_whitespace().next().and_then(|first| first.parse::<f64>().ok()).unwrap_or(0.0);
    // Through u64, so that it goes round as TimeTicks do.
    (seconds * 100.0) as u64 as u32
}

/// A request-id that the process before did not use.
fn request_id() -> i32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_micros() as i32) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_a_port() {
        for (text, address) in [
            ("127.0.0.1:1162", "127.0.0.1:1162"),
            ("127.0.0.1", "127.0.0.1:162"),
            ("[::1]:1162", "[::1]:1162"),
            ("[::1]", "[::1]:162"),
            ("::1", "[::1]:162"),
        ] {
            assert_eq!(resolve(text), Ok(address.parse().unwrap()), "{text}");
        }
        assert!(matches!(resolve("localhost:x"), Err(Failure::Usage(_))));
        assert!(matches!(resolve("a:b:c"), Err(Failure::Usage(_))));
    }
}
