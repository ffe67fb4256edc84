//! The Snapshot: everything that decides how a notification is treated, immutable, published at once.
//!
//! [`build`] makes a [`Candidate`] of settings and MIBs, purely and off the hot path; the one
//! [`Publisher`] gives it a number and makes it current; each receiver reads it through its own
//! [`SnapshotReader`]. State (alerts, queues, engines) is not in here: it outlives generations.

mod build;
mod builtin;
mod changes;
mod component;
mod explain;
mod field;
mod index;
mod predicate;
mod publish;
mod rules;
mod text;
mod users;
pub mod view;

use std::net::IpAddr;
use std::sync::Arc;

pub use build::build;
pub use changes::{rule_changes, start_changes};
pub use component::{ComponentReloader, PrepareError, Prepared, ReloadCounter, ReloadStats};
pub use explain::{Definition, ExplainedEffect, ExplainedRule, ExplainedWebhook, Explanation, explain};
pub use field::{Subject, key_part};
pub use publish::{Publisher, SnapshotHandle, SnapshotReader, Staged};
pub use rules::{CompiledRules, Decision, RuleScratch};
pub use users::{Refused, User, UserKeys, Users};

use crate::config::Settings;
use crate::config::lookup::LookupTable;
use crate::config::settings::{Endpoint, SourceOrigin, WebhookSettings, any_contains};
use crate::event::Generation;
use crate::mib::Mib;

/// One generation: settings, MIBs, compiled rules, webhook routes and users, for reading alone.
#[derive(Debug)]
pub struct Snapshot {
    generation: Generation,
    parts: Candidate,
}

/// A Snapshot that was built and validated, and has no number yet. Cheap to clone: all parts are shared.
#[derive(Debug, Clone)]
pub struct Candidate {
    settings: Arc<Settings>,
    mib: Arc<Mib>,
    rules: Arc<CompiledRules>,
    routes: Arc<[Arc<WebhookSettings>]>,
    lookups: Arc<[Arc<LookupTable>]>,
    users: Arc<Users>,
}

impl Candidate {
    /// The embedded default: built-in names and rules, no webhook.
    #[must_use]
    pub fn embedded_default() -> Self {
        // The default settings bind only names that the built-in MIBs have; a test builds it.
        build(Settings::default(), Mib::builtin(), None).expect("the embedded default is valid")
    }

    /// The settings that it was built from.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Whether every part is the very one of `snapshot`: publishing it would change nothing.
    #[must_use]
    pub fn is(&self, snapshot: &Snapshot) -> bool {
        Arc::ptr_eq(&self.settings, &snapshot.parts.settings)
            && Arc::ptr_eq(&self.mib, &snapshot.parts.mib)
            && Arc::ptr_eq(&self.rules, &snapshot.parts.rules)
            && Arc::ptr_eq(&self.routes, &snapshot.parts.routes)
            && Arc::ptr_eq(&self.lookups, &snapshot.parts.lookups)
            && Arc::ptr_eq(&self.users, &snapshot.parts.users)
    }

    fn into_snapshot(self, generation: Generation) -> Snapshot {
        Snapshot { generation, parts: self }
    }
}

impl Snapshot {
    /// Its number.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The settings that it was built from.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.parts.settings
    }

    /// The compiled MIBs.
    #[must_use]
    pub fn mib(&self) -> &Arc<Mib> {
        &self.parts.mib
    }

    /// The compiled rules.
    #[must_use]
    pub fn rules(&self) -> &Arc<CompiledRules> {
        &self.parts.rules
    }

    /// The webhooks, in the order of the settings.
    #[must_use]
    pub fn routes(&self) -> &Arc<[Arc<WebhookSettings>]> {
        &self.parts.routes
    }

    /// The lookup tables, in the order of the settings.
    #[must_use]
    pub fn lookups(&self) -> &Arc<[Arc<LookupTable>]> {
        &self.parts.lookups
    }

    /// Who may send.
    #[must_use]
    pub fn users(&self) -> &Arc<Users> {
        &self.parts.users
    }

    /// Its parts again, for publishing them under a new number.
    #[must_use]
    pub fn candidate(&self) -> Candidate {
        self.parts.clone()
    }

    /// Where the settings have the listener with this address, if they still have it.
    #[must_use]
    pub fn listener(&self, address: Endpoint) -> Option<usize> {
        self.parts.settings.listeners.iter().position(|listener| listener.address == address)
    }

    /// Whether `listener` (its place in the settings) takes datagrams from `peer`.
    #[must_use]
    pub fn allows(&self, listener: usize, peer: IpAddr) -> bool {
        self.parts
            .settings
            .listeners
            .get(listener)
            .is_some_and(|own| own.allow.as_ref().is_none_or(|networks| any_contains(networks, peer)))
    }

    /// The realm of the devices behind `listener` (its place in the settings); `None` is `default`.
    #[must_use]
    pub fn realm(&self, listener: usize) -> Option<&Arc<str>> {
        self.parts.settings.listeners.get(listener)?.realm.as_ref()
    }

    /// The address of the device that a notification speaks of (RFC 3584 section 3.1, and what operators know of their
    /// relays): the first believed origin of `source.order`, else the peer. An IPv4-mapped address
    /// becomes IPv4, so that a device is one device through either socket.
    #[must_use]
    pub fn device(
        &self,
        peer: IpAddr,
        trap_address: Option<[u8; 4]>,
        agent_address: Option<[u8; 4]>,
    ) -> IpAddr {
        let peer = peer.to_canonical();
        // 0.0.0.0 is what agents send that do not know their address.
        let known = |address: Option<[u8; 4]>| address.filter(|octets| *octets != [0; 4]).map(IpAddr::from);
        if trap_address.is_none() && agent_address.is_none() {
            return peer;
        }
        let source = &self.parts.settings.source;
        let relay = any_contains(&source.trusted_relays, peer);
        let direct = relay || any_contains(&source.direct_agent_address, peer);
        for origin in &source.order {
            let believed = match origin {
                SourceOrigin::TrapAddress if relay => known(trap_address),
                SourceOrigin::AgentAddress if direct => known(agent_address),
                SourceOrigin::Packet => Some(peer),
                _ => None,
            };
            if let Some(address) = believed {
                return address;
            }
        }
        peer
    }
}

#[cfg(test)]
mod tests;
