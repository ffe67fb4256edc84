//! The validated settings: what the rest of Nereus reads. No I/O happens here, and no serde shape.
//!
//! [`Settings`] holds its parts as `Arc`s wherever a later generation may share them: a part that is
//! equal to its predecessor is taken over as the very same `Arc` (see `snapshot::build`).

mod webhook;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{AddrParseError, IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use webhook::*;

use super::lookup::LookupTable;
use crate::device::DeviceRef;
use crate::security::{AuthProtocol, EngineId, PrivacyProtocol, SecurityLevel};
use crate::severity::Severity;

/// Everything that a configuration file says, checked, with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where notifications are received, at least one.
    pub listeners: Arc<[Listener]>,
    /// Which address stands for the device.
    pub source: Arc<SourceSettings>,
    /// Who may send.
    pub access: Arc<Access>,
    /// Where MIB files are.
    pub mib: Arc<MibSettings>,
    /// What registered components are to do, by their names; each checks its own.
    pub components: BTreeMap<Arc<str>, Component>,
    /// The lookup tables, read; names are unique.
    pub lookups: Vec<Arc<LookupTable>>,
    /// What happens to a notification that no rule matches.
    pub unmatched: Unmatched,
    /// The rules, in their order.
    pub rules: Vec<Arc<RuleSettings>>,
    /// Storm control, where it is on.
    pub storm: Option<Arc<StormSettings>>,
    /// Devices that must send; names are unique.
    pub heartbeats: Vec<Arc<HeartbeatSettings>>,
    /// The webhooks, by their order in the file; names are unique.
    pub webhooks: Vec<Arc<WebhookSettings>>,
    /// Where events are kept.
    pub storage: Arc<StorageSettings>,
    /// The HTTP address.
    pub admin: Arc<AdminSettings>,
    /// The log.
    pub logging: Arc<LoggingSettings>,
    /// How changes come in.
    pub reload: Arc<ReloadSettings>,
}

impl Default for Settings {
    /// The embedded default: UDP 1162 on every address, built-in names and rules, `./nereus-data`,
    /// admin on 127.0.0.1:9090.
    fn default() -> Self {
        Self {
            listeners: Arc::new([Listener::default()]),
            source: Arc::default(),
            access: Arc::default(),
            mib: Arc::default(),
            components: BTreeMap::new(),
            lookups: Vec::new(),
            unmatched: Unmatched::Builtin,
            rules: Vec::new(),
            storm: None,
            heartbeats: Vec::new(),
            webhooks: Vec::new(),
            storage: Arc::default(),
            admin: Arc::default(),
            logging: Arc::default(),
            reload: Arc::default(),
        }
    }
}

/// How notifications come to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// A datagram each (RFC 3417).
    Udp,
    /// One after the other on a connection (RFC 3430).
    Tcp,
}

/// A transport's address. Reads and prints as `0.0.0.0:1162`, or `tcp://0.0.0.0:1162`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// How it is reached.
    pub transport: Transport,
    /// Address and port; port 0 lets the system choose (tests).
    pub address: SocketAddr,
}

impl Endpoint {
    /// What stands before an address of TCP.
    pub const TCP: &str = "tcp://";

    /// UDP at `address`.
    #[must_use]
    pub const fn udp(address: SocketAddr) -> Self {
        Self { transport: Transport::Udp, address }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.transport == Transport::Tcp {
            f.write_str(Self::TCP)?;
        }
        self.address.fmt(f)
    }
}

impl FromStr for Endpoint {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix(Self::TCP) {
            Some(address) => Self { transport: Transport::Tcp, address: address.parse()? },
            None => Self::udp(text.parse()?),
        })
    }
}

/// One address at which notifications are received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: Endpoint,
    /// UDP: how many `SO_REUSEPORT` sockets and threads; `None` is `auto`: one a core. Restart-only.
    pub receivers: Option<u16>,
    /// UDP: the receive buffer asked for, in octets.
    pub receive_buffer: u64,
    /// The processors that its threads run on, one after the other; empty: wherever the system puts them. Restart-only.
    pub cores: Arc<[u16]>,
    /// Which of several networks with overlapping addresses its devices are in; `None` is `default`.
    pub realm: Option<Arc<str>>,
    /// Peers that may send; `None` is everyone.
    pub allow: Option<Arc<[IpNet]>>,
    /// TCP: how many connections there may be at a time.
    pub max_connections: u32,
    /// TCP: how many of them one peer may have; `None` is a quarter of all.
    pub max_connections_per_peer: Option<u32>,
    /// TCP: a connection ends after so long without a whole message.
    pub idle_timeout: Duration,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            address: Endpoint::udp(SocketAddr::from(([0, 0, 0, 0], 1162))),
            receivers: None,
            receive_buffer: 32 << 20,
            cores: Arc::default(),
            realm: None,
            allow: None,
            max_connections: 256,
            max_connections_per_peer: None,
            idle_timeout: Duration::from_secs(600),
        }
    }
}

impl Listener {
    /// TCP: how many connections one peer may have.
    #[must_use]
    pub fn most_of_a_peer(&self) -> u32 {
        self.max_connections_per_peer.unwrap_or(self.max_connections / 4).max(1)
    }
}

/// Where a device's address is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceOrigin {
    /// The varbind snmpTrapAddress.0 (RFC 3584 section 3.1), from trusted relays alone.
    TrapAddress,
    /// The v1 agent-addr field, from trusted relays and `direct_agent_address` alone.
    AgentAddress,
    /// The datagram's own source address.
    Packet,
}

/// The `source` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSettings {
    /// The origins to try, first to last; the packet's address is always the last resort.
    pub order: Vec<SourceOrigin>,
    /// Peers whose snmpTrapAddress.0 and agent-addr are believed.
    pub trusted_relays: Vec<IpNet>,
    /// Networks whose v1 agent-addr is believed though they send directly.
    pub direct_agent_address: Vec<IpNet>,
    /// Where a device's one name is found.
    pub canonical: Option<Canonical>,
}

/// Where a device's one name is found. It stands for the address wherever rules say `source` (keys, labels,
/// conditions, templates); an event keeps the address, and `match.source` compares that. An alert whose key has
/// no `source` shows the address of its first event as the label of that name.
///
/// A row that changes gives its device another key from then on: what is open under the old one ends by
/// `expire` or by hand. That `canonical` itself changes ends the alerts whose identity it is part of. The alert of a
/// heartbeat goes on under the new name, and that of a storm where its device had none before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// A table that is asked by `source`.
    pub lookup: Arc<str>,
    /// Its column. Where it says nothing of a device, the address stays.
    pub column: Arc<str>,
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            order: vec![SourceOrigin::TrapAddress, SourceOrigin::AgentAddress, SourceOrigin::Packet],
            trusted_relays: Vec::new(),
            direct_agent_address: Vec::new(),
            canonical: None,
        }
    }
}

/// Who may send.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// This collector's engine ID; `None` is `auto`: one of its own making, kept in the data directory.
    /// Restart-only.
    pub engine_id: Option<EngineId>,
    /// The communities that are accepted; `None` is any, but only while there are no users, and then none.
    pub communities: Option<Vec<Community>>,
    /// SNMPv3 users, in their order.
    pub users: Vec<Arc<UserSettings>>,
}

/// An SNMPv3 user. The same name may stand more than once, for other engines or other sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSettings {
    /// msgUserName, at most 32 octets.
    pub name: Arc<str>,
    /// How it authenticates; `None` is not at all.
    pub auth: Option<Credential<AuthProtocol>>,
    /// How it encrypts; only with `auth`.
    pub privacy: Option<Credential<PrivacyProtocol>>,
    /// The authoritative engines that it is known at; `None` is any.
    pub engines: Option<Vec<EngineId>>,
    /// Networks that it sends from; empty is every one.
    pub sources: Vec<IpNet>,
    /// What is below is refused.
    pub minimum_level: SecurityLevel,
    /// Whether messages outside of the time window are taken all the same, and counted.
    pub lenient_time: bool,
}

impl UserSettings {
    /// The strongest level that its credentials serve.
    #[must_use]
    pub fn level(&self) -> SecurityLevel {
        match (&self.auth, &self.privacy) {
            (None, _) => SecurityLevel::NoAuthNoPriv,
            (Some(_), None) => SecurityLevel::AuthNoPriv,
            (Some(_), Some(_)) => SecurityLevel::AuthPriv,
        }
    }
}

/// A protocol and what its keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential<P> {
    /// The protocol.
    pub protocol: P,
    /// Where keys come from.
    pub secret: KeySource,
}

/// Where a user's keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A passphrase of at least eight octets, from which each engine's key follows.
    Passphrase(Secret),
    /// The octets of a key that was localised to the user's only engine; of the protocol's length.
    Localized(Secret),
}

/// One accepted community, with the alias that rules see in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Community {
    /// The name for rules and logs; the community itself is never shown.
    pub name: Option<Arc<str>>,
    /// The octets to compare.
    pub community: Secret,
}

/// Where MIB files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MibSettings {
    /// Directories, read recursively, in order of preference.
    pub directories: Vec<PathBuf>,
    /// The file that what they compile to is kept in. Restart-only.
    pub cache: PathBuf,
}

impl Default for MibSettings {
    fn default() -> Self {
        Self { directories: Vec::new(), cache: PathBuf::from("./nereus-mib.cache") }
    }
}

/// What a registered component is to do, in the component's own words. Nobody but the component knows what of
/// it is secret, so that it prints as nothing but its type.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Component(pub serde_json::Value);

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Component(..)")
    }
}

/// What happens to a notification that no rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unmatched {
    /// The built-in rules make an alert of it.
    Builtin,
    /// It is stored as an event, without an alert.
    Store,
    /// It is counted and dropped.
    Drop,
}

/// How a rule names notifications.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TrapPattern {
    /// `MODULE::name` or `name`, bound to an OID at build.
    Name(String),
    /// Exactly this OID.
    Exact(crate::oid::Oid),
    /// This OID and all below it: `1.3.6.1.4.1.9.*`.
    Subtree(crate::oid::Oid),
}

/// One rule as the file says it, names not yet bound to OIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSettings {
    /// Unique among the rules.
    pub name: Arc<str>,
    /// Notifications it matches; empty is every one.
    pub trap: Vec<TrapPattern>,
    /// Notifications it does not match all the same.
    pub except: Vec<TrapPattern>,
    /// Device networks it matches; empty is every one.
    pub source: Vec<IpNet>,
    /// Realms of the device that it matches; empty is every one.
    pub realm: Vec<Arc<str>>,
    /// Community aliases it matches; empty is every one.
    pub community: Vec<Arc<str>>,
    /// What the varbinds must say.
    pub when: Option<Condition>,
    /// What becomes of what it matches.
    pub action: RuleActionSettings,
    /// Whether later rules are tried as well.
    pub continue_: bool,
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one a rule, behind the rule's Arc")]
pub enum RuleActionSettings {
    /// Counted and dropped, no event.
    Drop,
    /// Stored as an event without an alert (a rule without `alert`).
    Store,
    /// An alert.
    Alert(AlertSettings),
}

/// The alert that a rule raises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertSettings {
    /// Its `alertname`.
    pub alert: Arc<str>,
    /// Its severity.
    pub severity: SeveritySettings,
    /// What identifies the resource: `source`, or names of varbinds.
    pub key: Vec<String>,
    /// What ends it.
    pub cleared_by: Option<ClearSettings>,
    /// Repeats inside this window update the alert and send nothing.
    pub deduplicate: Option<Duration>,
    /// Whether such a repeat is stored as an event; else it is only counted.
    pub store_repeats: bool,
    /// Ended after so long without a repeat; `None` is never.
    pub expire: Option<Duration>,
    /// When it counts as flapping; `None` is never.
    pub flapping: Option<FlappingSettings>,
    /// Labels beside the identity's own; values are templates.
    pub labels: BTreeMap<String, String>,
    /// Annotations; values are templates.
    pub annotations: BTreeMap<String, String>,
    /// Webhooks by name; `None` is every one.
    pub notify: Option<Vec<Arc<str>>>,
}

/// When a source raises too many alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StormSettings {
    /// More alerts than this …
    pub alerts: u32,
    /// … that begin within this time are a storm.
    pub per: Duration,
    /// It is over once the source has stayed below for so long.
    pub hold: Duration,
    /// What is raised then.
    pub raises: WatchAlert,
}

/// Devices that must send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatSettings {
    /// Its name.
    pub name: Arc<str>,
    /// The devices, each once; names are those of [`SourceSettings::canonical`].
    pub sources: Vec<DeviceRef>,
    /// Something at least this often.
    pub within: Duration,
    /// What is raised for one that does not.
    pub raises: WatchAlert,
}

/// An alert that no rule raises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchAlert {
    /// Its `alertname`.
    pub alert: Arc<str>,
    /// Its severity.
    pub severity: Severity,
    /// Its own labels.
    pub labels: BTreeMap<String, String>,
    /// Webhooks by name; `None` is every one.
    pub notify: Option<Vec<Arc<str>>>,
}

/// When an alert flaps, and for how long it is held then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlappingSettings {
    /// So many changes, each a beginning, an end or another severity …
    pub count: usize,
    /// … within this time.
    pub window: Duration,
    /// Let go after so long without a change.
    pub hold: Duration,
}

/// Where a severity comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeveritySettings {
    /// Always this one.
    Fixed(Severity),
    /// By a varbind's value.
    From {
        /// The varbind's name.
        varbind: String,
        /// Its text or number, and what it means; [`MappedSeverity::Clear`] ends the alert.
        map: BTreeMap<String, MappedSeverity>,
        /// For any other value.
        default: MappedSeverity,
    },
}

/// What a mapped value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappedSeverity {
    /// An alert of this severity.
    Severity(Severity),
    /// The end of the alert.
    Clear,
}

/// What ends an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearSettings {
    /// The notifications that clear.
    pub trap: Vec<TrapPattern>,
    /// What their varbinds must say.
    pub when: Option<Condition>,
    /// Key names of the rule and what they are called in the clearing notification, where they differ.
    pub key: BTreeMap<String, String>,
}

/// A typed condition over varbinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Every one must hold.
    All(Vec<Self>),
    /// One must hold.
    Any(Vec<Self>),
    /// The named varbind passes the test.
    Field {
        /// The varbind's name, or its OID.
        name: String,
        /// The test.
        test: Test,
    },
}

/// One test of one varbind's value. Only [`Test::Exists`] holds for an absent varbind (and [`Test::Not`] of another).
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Equal to the number, the enum label or the text.
    Equals(Scalar),
    /// Equal to one of them.
    In(Vec<Scalar>),
    /// The opposite.
    Not(Box<Self>),
    /// The rendered text matches the regular expression (checked when the settings were).
    Matches(String),
    /// Greater than; numeric types alone.
    Above(f64),
    /// Less than; numeric types alone.
    Below(f64),
    /// The rendered text contains it.
    Contains(String),
    /// Whether the varbind is there.
    Exists(bool),
    /// Every one of them.
    All(Vec<Self>),
}

// Numbers are finite: the decoder takes no others. Being `Eq` lets an `Arc` of settings be compared by its place.
impl Eq for Test {}

/// A constant in a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// A number.
    Number(i64),
    /// A text: an enum label where the syntax has it, else the value's rendered text.
    Text(String),
}

/// Where events are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSettings {
    /// A directory of Nereus' own. Restart-only.
    pub path: PathBuf,
    /// How long events are kept.
    pub retention: Duration,
    /// How much they may take, in octets.
    pub max_size: u64,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            path: PathBuf::from("./nereus-data"),
            retention: Duration::from_secs(30 * 86_400),
            max_size: 10 << 30,
        }
    }
}

/// The HTTP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// Address and port; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Host names that requests may carry besides the loopback ones.
    pub hosts: Vec<Arc<str>>,
    /// For everything; required unless the address is loopback.
    pub token: Option<Secret>,
    /// For reading alone.
    pub read_token: Option<Secret>,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9090)),
            hosts: Vec::new(),
            token: None,
            read_token: None,
        }
    }
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggingSettings {
    /// The least level that is written.
    pub level: LogLevel,
    /// How lines look.
    pub format: LogFormat,
    /// Where lines go.
    pub output: LogOutput,
}

impl Default for LoggingSettings {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Json, output: LogOutput::Stderr }
    }
}

/// Log levels, most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the field's own names")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person at a terminal.
    Text,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// How changes come in: the founding document's switches, exactly, and what Nereus adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadSettings {
    /// Whether files are watched at all; a reload that is asked for works either way.
    pub enabled: bool,
    /// Whether the configuration file is watched.
    pub watch_config_file: bool,
    /// Whether the MIB directories are watched.
    pub watch_mib_directories: bool,
    /// How long file events must be quiet before a reload; at most five times as long in all.
    pub reload_delay: Duration,
    /// How often a transient failure is tried in all, at least once; an invalid input never is.
    pub max_reload_attempts: u32,
    /// The longest that one attempt may take.
    pub reload_timeout: Duration,
    /// Whether deduplication and flap windows survive a reload. Alerts and queues always do.
    pub preserve_state: bool,
    /// Whether a candidate is rehearsed. Structure and references are validated either way.
    pub validate_before_reload: bool,
    /// How many generations stay for a rollback, the running one among them; at least 1.
    pub keep_generations: usize,
    /// What the rehearsal may find before it refuses.
    pub guard: GuardSettings,
}

impl Default for ReloadSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            watch_config_file: true,
            watch_mib_directories: true,
            reload_delay: Duration::from_secs(2),
            max_reload_attempts: 3,
            reload_timeout: Duration::from_secs(30),
            preserve_state: true,
            validate_before_reload: true,
            keep_generations: 8,
            guard: GuardSettings::default(),
        }
    }
}

/// The rehearsal's size and its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardSettings {
    /// How many recent datagrams are processed again.
    pub samples: usize,
    /// By how many hundredths of a percentage point the share of unresolved ones may grow: 500 is 5 %.
    pub max_unresolved_increase: u32,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self { samples: 4096, max_unresolved_increase: 500 }
    }
}

/// A secret's octets. Prints as `[redacted]`, compares in constant time for equal lengths, and is
/// overwritten when dropped.
#[derive(Clone)]
pub struct Secret(Arc<zeroize::Zeroizing<Vec<u8>>>);

impl Secret {
    /// Takes over `octets`.
    #[must_use]
    pub fn new(octets: Vec<u8>) -> Self {
        Self(Arc::new(zeroize::Zeroizing::new(octets)))
    }

    /// The octets; never to be printed.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether `other` is this secret; time depends on the lengths alone.
    #[must_use]
    pub fn matches(&self, other: &[u8]) -> bool {
        let own = self.expose();
        own.len() == other.len() && own.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.expose())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Whether `address` lies in one of `networks`; an IPv4-mapped IPv6 address counts as IPv4.
#[must_use]
pub fn any_contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}
