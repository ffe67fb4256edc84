//! Counters, gauges and histograms: plain atomics that any layer may count on, registered in one place.
//!
//! Every label is bounded: versions, reasons, severities and phases are closed sets; webhooks and
//! listeners come from the settings, never from a packet. Receivers count in plain integers and add
//! them here once a batch.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a datagram became no event: the label of `nereus_traps_dropped_total`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DropReason { $($(#[$doc])* $name,)* }

        impl DropReason {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name as it stands in metrics and in `events --refused`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// The peer is in no network of the listener's `allow`.
    NotAllowed = "not_allowed",
    /// Larger than a datagram can be, or cut off by the kernel.
    MessageTooLong = "message_too_long",
    /// Ends before its lengths say.
    Truncated = "truncated",
    /// A length that is indefinite, reserved, too wide, or not the type's.
    BadLength = "bad_length",
    /// An INTEGER that is empty or out of range.
    BadInteger = "bad_integer",
    /// An OBJECT IDENTIFIER that is empty, unterminated, too long or out of range.
    BadOid = "bad_oid",
    /// An IpAddress that is not of four octets.
    BadAddress = "bad_address",
    /// Another type than the one that has to stand there.
    UnexpectedTag = "unexpected_tag",
    /// Octets inside the message that belong to nothing.
    TrailingOctets = "trailing_octets",
    /// A version other than SNMPv1, SNMPv2c and SNMPv3.
    UnsupportedVersion = "unsupported_version",
    /// A request, a response or a report.
    NotANotification = "not_a_notification",
    /// An SNMPv1 Trap-PDU in an SNMPv2c message, or the reverse.
    PduNotOfVersion = "pdu_not_of_version",
    /// More varbinds than one notification may carry here.
    TooManyVarbinds = "too_many_varbinds",
    /// No snmpTrapOID.0 (RFC 3416 section 4.2.6).
    MissingTrapOid = "missing_trap_oid",
    /// snmpTrapOID.0 is no OBJECT IDENTIFIER.
    BadTrapOid = "bad_trap_oid",
    /// A v1 trap whose translation would pass 128 arcs (RFC 3584 section 3.1).
    TrapOidTooLong = "trap_oid_too_long",
    /// A v1 generic-trap outside 0 to 6.
    BadGenericTrap = "bad_generic_trap",
    /// A v1 specific-trap below 0.
    BadSpecificTrap = "bad_specific_trap",
    /// A v1 time-stamp that is negative or no number.
    BadTimestamp = "bad_timestamp",
    /// An SNMPv3 header field outside its range.
    BadV3Header = "bad_v3_header",
    /// msgFlags that are not one octet, or privacy without authentication (snmpInvalidMsgs).
    BadV3Flags = "bad_v3_flags",
    /// A security model other than USM (snmpUnknownSecurityModels).
    UnsupportedSecurityModel = "unsupported_security_model",
    /// An engine ID that is neither empty nor of 5 to 32 octets.
    BadEngineId = "bad_engine_id",
    /// Negative engine boots or engine time.
    BadEngineTime = "bad_engine_time",
    /// A user name over 32 octets.
    BadUserName = "bad_user_name",
    /// A question for this collector's engine ID, answered with a Report: how every inform's sender begins.
    Discovery = "discovery",
    /// usmStatsUnknownEngineIDs: an inform for another engine, or a message without an engine ID.
    UnknownEngineIds = "unknown_engine_ids",
    /// usmStatsUnknownUserNames: no user of that name at that engine from that address.
    UnknownUserNames = "unknown_user_names",
    /// usmStatsUnsupportedSecLevels: a level that the user has no protocol for.
    UnsupportedSecLevels = "unsupported_sec_levels",
    /// usmStatsWrongDigests: another passphrase or protocol, or a forgery.
    WrongDigests = "wrong_digests",
    /// usmStatsNotInTimeWindows: a replay, or an engine that forgot its boots.
    NotInTimeWindows = "not_in_time_windows",
    /// usmStatsDecryptionErrors: another privacy passphrase or protocol.
    DecryptionErrors = "decryption_errors",
    /// A level below the user's `minimum_level`.
    BelowMinimumLevel = "below_minimum_level",
    /// A community that is not among `access.communities`.
    BadCommunity = "bad_community",
    /// A rule with `drop: true`.
    Rule = "rule",
    /// No rule matched and `unmatched` is `drop`.
    Unmatched = "unmatched",
    /// The queue between receivers and correlator was full.
    HandoffFull = "handoff_full",
    /// More came in before the first generation stood than is held for it.
    HoldFull = "hold_full",
    /// The store could not take it before the program ended.
    Stopped = "stopped",
}

/// Why a TCP listener closed a connection at once: a label of `nereus_connections_refused_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// The peer is in no network of the listener's `allow`.
    NotAllowed,
    /// There are `max_connections`.
    MaxConnections,
    /// There are `max_connections_per_peer` of this peer.
    MaxConnectionsPerPeer,
    /// The system could not set it up.
    System,
}

impl ConnectionRefusal {
    /// The name as it stands in the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::MaxConnections => "max_connections",
            Self::MaxConnectionsPerPeer => "max_connections_per_peer",
            Self::System => "system",
        }
    }
}

/// Everything that is counted. One instance a program, shared as an `Arc`.
#[derive(Debug)]
#[allow(missing_docs, reason = "each field's help text below says what it counts")]
pub struct Metrics {
    registry: Registry,
    pub traps_received: IntCounterVec,
    pub traps_dropped: IntCounterVec,
    pub traps_processed: IntCounter,
    pub kernel_drops: IntCounterVec,
    pub receive_buffer_bytes: IntGaugeVec,
    pub replies: IntCounterVec,
    pub usm_lenient_time: IntCounter,
    pub usm_engines: IntGauge,
    pub connections: IntGaugeVec,
    pub connections_refused: IntCounterVec,
    pub trap_processing_duration: Histogram,
    pub unresolved_oids: IntCounter,
    pub events_stored: IntCounter,
    pub events_deduplicated: IntCounter,
    pub alerts_open: IntGaugeVec,
    pub alerts_fired: IntCounter,
    pub alerts_resolved: IntCounterVec,
    pub alerts_refused: IntCounter,
    pub alerts_acknowledged: IntCounter,
    pub alerts_muted: IntGauge,
    pub mutes_active: IntGauge,
    pub webhooks_delivered: IntCounterVec,
    pub webhooks_failed: IntCounterVec,
    pub webhook_retries: IntCounterVec,
    pub webhook_rate_limited: IntCounterVec,
    pub webhook_dropped: IntCounterVec,
    pub webhook_events_lost: IntCounterVec,
    pub webhook_breaker_state: IntGaugeVec,
    pub webhook_queue_length: IntGaugeVec,
    pub webhook_oldest_seconds: GaugeVec,
    pub webhook_delivery_duration: HistogramVec,
    pub dead_letters: IntGaugeVec,
    pub storage_commit_seconds: Histogram,
    pub storage_size_bytes: IntGauge,
    pub storage_errors: IntCounter,
    pub mib_modules: IntGauge,
    pub mib_nodes: IntGauge,
    pub mib_problems: IntGaugeVec,
    pub snapshot_generation: IntGauge,
    pub config_last_reload_successful: IntGauge,
    pub config_last_reload_success_timestamp: Gauge,
    pub reload_events: IntCounterVec,
    pub reload_duration: GaugeVec,
    pub reload_phase: HistogramVec,
    pub component_reloads: IntCounterVec,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All of them at zero; children of closed label sets exist from the start, so that a rate over
    /// them is right from the first scrape.
    #[must_use]
    pub fn new() -> Self {
        let r = Registry::new_custom(Some("nereus".into()), None).unwrap_or_default();
        let build = int_gauges(&r, "build_info", "The version that runs; always 1.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            traps_received: counters(
                &r,
                "traps_received_total",
                "Datagrams read from the sockets, by SNMP version as far as it could be told (else unknown).",
                &["version"],
            ),
            traps_dropped: counters(
                &r,
                "traps_dropped_total",
                "Datagrams that became no event, by reason.",
                &["reason"],
            ),
            traps_processed: counter(
                &r,
                "traps_processed_total",
                "Notifications that were accepted as events.",
            ),
            kernel_drops: counters(
                &r,
                "kernel_drops_total",
                "Datagrams that the kernel dropped since a socket's buffer was full, by listener.",
                &["listener"],
            ),
            receive_buffer_bytes: int_gauges(
                &r,
                "receive_buffer_bytes",
                "The receive buffer that the kernel granted to each socket, by listener.",
                &["listener"],
            ),
            connections: int_gauges(&r, "connections", "Open connections of a TCP listener.", &["listener"]),
            connections_refused: counters(
                &r,
                "connections_refused_total",
                "Connections that a TCP listener closed at once, by reason.",
                &["listener", "reason"],
            ),
            replies: counters(
                &r,
                "replies_total",
                "What was sent back: Responses to informs, Reports. One that failed is not tried again; its sender does that.",
                &["pdu", "result"],
            ),
            usm_lenient_time: counter(
                &r,
                "usm_lenient_time_total",
                "SNMPv3 messages outside of the time window that were taken since their user has lenient_time.",
            ),
            usm_engines: int_gauge(
                &r,
                "usm_engines",
                "SNMPv3 engines whose boots and time are remembered; at most 131072.",
            ),
            trap_processing_duration: histogram(
                &r,
                "trap_processing_duration_seconds",
                "From a datagram's reading to its handoff; one observation a batch, its mean.",
                MICROS,
            ),
            unresolved_oids: counter(&r, "unresolved_oids_total", "Notifications whose OID no MIB names."),
            events_stored: counter(&r, "events_stored_total", "Events committed to the journal."),
            events_deduplicated: counter(
                &r,
                "events_deduplicated_total",
                "Repeats that were counted on their alert and got no row.",
            ),
            alerts_open: int_gauges(&r, "alerts_open", "Open alerts, by severity.", &["severity"]),
            alerts_fired: counter(&r, "alerts_fired_total", "Alerts that were opened."),
            alerts_resolved: counters(
                &r,
                "alerts_resolved_total",
                "Alerts that ended, by what ended them.",
                &["how"],
            ),
            alerts_acknowledged: counter(
                &r,
                "alerts_acknowledged_total",
                "Alerts that an operator acknowledged.",
            ),
            alerts_muted: int_gauge(&r, "alerts_muted", "Open alerts that a mute matches."),
            mutes_active: int_gauge(&r, "mutes_active", "Mutes that are in force."),
            alerts_refused: counter(
                &r,
                "alerts_refused_total",
                "Alerts that were not opened since the table of open alerts was full; their events are stored.",
            ),
            webhooks_delivered: counters(
                &r,
                "webhooks_delivered_total",
                "Alerts that an endpoint has taken.",
                &["webhook"],
            ),
            webhooks_failed: counters(
                &r,
                "webhooks_failed_total",
                "Posts that failed, the last try of each counted too.",
                &["webhook"],
            ),
            webhook_retries: counters(
                &r,
                "webhook_retries_total",
                "Posts that were tried again.",
                &["webhook"],
            ),
            webhook_dropped: counters(
                &r,
                "webhook_dropped_total",
                "Queued changes that were dropped, the oldest first, since the queues took half of storage.max_size.",
                &["webhook"],
            ),
            webhook_events_lost: counters(
                &r,
                "webhook_events_lost_total",
                "Events that retention took away before an output that forwards them had sent them.",
                &["webhook"],
            ),
            webhook_rate_limited: counters(
                &r,
                "webhook_rate_limited_total",
                "Posts that had to wait for the rate limit.",
                &["webhook"],
            ),
            webhook_breaker_state: int_gauges(
                &r,
                "webhook_breaker_state",
                "The worst of the webhook's endpoints: 0 closed, 1 half-open, 2 open.",
                &["webhook"],
            ),
            webhook_queue_length: int_gauges(
                &r,
                "webhook_queue_length",
                "Alert changes waiting for an endpoint.",
                &["webhook"],
            ),
            webhook_oldest_seconds: gauges(
                &r,
                "webhook_oldest_seconds",
                "The age of the oldest change that waits.",
                &["webhook"],
            ),
            webhook_delivery_duration: histograms(
                &r,
                "webhook_delivery_duration_seconds",
                "One post, from its start to its answer.",
                &["webhook"],
                MILLIS,
            ),
            dead_letters: int_gauges(
                &r,
                "dead_letters",
                "Posts that an endpoint refused for good.",
                &["webhook"],
            ),
            storage_commit_seconds: histogram(
                &r,
                "storage_commit_seconds",
                "One group commit of the journal, its sync included.",
                MILLIS,
            ),
            storage_size_bytes: int_gauge(&r, "storage_size_bytes", "What the data directory takes."),
            storage_errors: counter(
                &r,
                "storage_errors_total",
                "Writes that the disk refused; each is tried again.",
            ),
            mib_modules: int_gauge(&r, "mib_modules", "MIB modules of the running generation."),
            mib_nodes: int_gauge(&r, "mib_nodes", "Named nodes of the running generation."),
            mib_problems: int_gauges(
                &r,
                "mib_problems",
                "Problems in the MIB files of the running generation, by level.",
                &["level"],
            ),
            snapshot_generation: int_gauge(&r, "snapshot_generation", "The running generation."),
            config_last_reload_successful: int_gauge(
                &r,
                "config_last_reload_successful",
                "Whether the last reload was published (1) or rejected (0).",
            ),
            config_last_reload_success_timestamp: gauge(
                &r,
                "config_last_reload_success_timestamp_seconds",
                "When the last reload was published.",
            ),
            reload_events: counters(
                &r,
                "reload_events_total",
                "Reloads, by type and result.",
                &["type", "result"],
            ),
            reload_duration: gauges(
                &r,
                "reload_duration_seconds",
                "How long the last reload took, by type.",
                &["type"],
            ),
            reload_phase: histograms(
                &r,
                "reload_phase_seconds",
                "How long each phase of a reload took.",
                &["phase"],
                MILLIS,
            ),
            component_reloads: counters(
                &r,
                "component_reloads_total",
                "Reloads that a component took part in.",
                &["component"],
            ),
            registry: r,
        };
        for version in ["v1", "v2c", "v3", "unknown"] {
            metrics.traps_received.with_label_values(&[version]);
        }
        for (pdu, result) in
            [("response", "sent"), ("response", "failed"), ("report", "sent"), ("report", "failed")]
        {
            metrics.replies.with_label_values(&[pdu, result]);
        }
        for reason in DropReason::ALL {
            metrics.traps_dropped.with_label_values(&[reason.as_str()]);
        }
        for severity in crate::severity::Severity::ALL {
            metrics.alerts_open.with_label_values(&[severity.as_str()]);
        }
        metrics
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// The encoder's, which does not fail on what is registered here.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Counts `number` datagrams that were dropped for `reason`.
    pub fn dropped(&self, reason: DropReason, number: u64) {
        self.traps_dropped.with_label_values(&[reason.as_str()]).inc_by(number);
    }
}

/// Buckets for what takes microseconds, in seconds.
const MICROS: &[f64] =
    &[5e-7, 1e-6, 1.5e-6, 2e-6, 3e-6, 5e-6, 7.5e-6, 1e-5, 1.5e-5, 2e-5, 3e-5, 5e-5, 1e-4, 1e-3, 1e-2, 0.1];
/// Buckets for what takes milliseconds, in seconds.
const MILLIS: &[f64] = &[5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

macro_rules! constructors {
    ($($name:ident($($argument:ident: $type:ty),*) -> $made:ty = $make:expr;)*) => {
        $(fn $name(registry: &Registry, name: &str, help: &str $(, $argument: $type)*) -> $made {
            // Names, labels and buckets are literals above: a failure is a mistake in this file, which every test meets.
            let make: fn(&str, &str $(, $type)*) -> prometheus::Result<$made> = $make;
            let made = make(name, help $(, $argument)*).expect("a legal metric");
            registry.register(Box::new(made.clone())).expect("a name of its own");
            made
        })*
    };
}

constructors! {
    counter() -> IntCounter = |n, h| IntCounter::new(n, h);
    counters(labels: &[&str]) -> IntCounterVec = |n, h, l| IntCounterVec::new(Opts::new(n, h), l);
    int_gauge() -> IntGauge = |n, h| IntGauge::new(n, h);
    int_gauges(labels: &[&str]) -> IntGaugeVec = |n, h, l| IntGaugeVec::new(Opts::new(n, h), l);
    gauge() -> Gauge = |n, h| Gauge::new(n, h);
    gauges(labels: &[&str]) -> GaugeVec = |n, h, l| GaugeVec::new(Opts::new(n, h), l);
    histogram(buckets: &[f64]) -> Histogram = |n, h, b| Histogram::with_opts(HistogramOpts::new(n, h).buckets(b.to_vec()));
    histograms(labels: &[&str], buckets: &[f64]) -> HistogramVec = |n, h, l, b| HistogramVec::new(HistogramOpts::new(n, h).buckets(b.to_vec()), l);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_prefixed_and_closed_sets_are_there_from_the_start() {
        let metrics = Metrics::new();
        metrics.dropped(DropReason::BadCommunity, 3);
        let text = metrics.render().unwrap();
        assert!(text.contains("nereus_traps_dropped_total{reason=\"bad_community\"} 3"), "{text}");
        assert!(text.contains("nereus_traps_dropped_total{reason=\"rule\"} 0"));
        assert!(text.contains("nereus_build_info{version="));
    }
}
