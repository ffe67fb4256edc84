//! The `access` section: communities, and SNMPv3 users with their keys.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::super::keys::Kind;
use super::super::settings::{Access, Community, Credential, KeySource, Secret, UserSettings};
use super::super::tree::{Data, Node};
use super::sections::{at_most, open};
use super::{Context, Fields, pick};
use crate::security::{AuthProtocol, EngineId, PrivacyProtocol, SecurityLevel, octets_of_hex};

/// The shortest passphrase (RFC 3414 section 11.2).
const MIN_PASSPHRASE: usize = 8;
/// The longest msgUserName, in octets.
const MAX_USER_NAME: usize = 32;

pub(super) fn access(cx: &mut Context<'_>, fields: &Fields<'_>) -> Access {
    let mut access = Access::default();
    if let Some((node, Kind::List(Kind::Either(kinds)))) = fields.get(cx, "communities") {
        let mut communities: Vec<Community> = Vec::new();
        let items = cx.items(node, false, "communities").unwrap_or_default();
        if items.is_empty() && matches!(node.data, Data::List(_)) {
            let help = "leave `communities` out to accept any";
            cx.error("config-value", &node.span, "no community at all is accepted", Some(help.into()));
        }
        for item in at_most(cx, items) {
            let Some((community, name_span)) = community(cx, item, kinds) else { continue };
            if let Some(span) =
                name_span.filter(|_| communities.iter().any(|other| other.name == community.name))
            {
                cx.error("config-duplicate-name", &span, "two communities have this name", None);
            }
            if communities.iter().any(|other| other.community == community.community) {
                cx.error(
                    "config-duplicate-name",
                    &item.shown(),
                    "this community stands in the list twice",
                    None,
                );
            }
            communities.push(community);
        }
        access.communities = Some(communities);
    }
    if let Some((node, Kind::Either(kinds))) = fields.get(cx, "engine_id") {
        access.engine_id = match pick(kinds, node) {
            Kind::Choice(_) => None,
            _ => cx.engine_id(node),
        };
    }
    if let Some((node, Kind::List(Kind::Section(section)))) = fields.get(cx, "users") {
        let items = cx.items(node, false, "users").unwrap_or_default();
        for item in at_most(cx, items) {
            let Some(fields) = cx.section(item, section) else { continue };
            let Some(user) = user(cx, &fields) else { continue };
            if access.users.iter().any(|other| same_place(other, &user)) {
                let message = "this user stands twice for the same engines and sources";
                let help = "give each of them other `engines`, or other `sources`";
                cx.error("config-duplicate-name", &item.shown(), message, Some(help.into()));
            }
            access.users.push(Arc::new(user));
        }
    }
    access
}

fn community(
    cx: &mut Context<'_>,
    item: &Node,
    kinds: &'static [Kind],
) -> Option<(Community, Option<super::Span>)> {
    let Kind::Section(section) = pick(kinds, item) else {
        return cx.secret(item).map(|community| (Community { name: None, community }, None));
    };
    let fields = cx.section(item, section)?;
    let name_node = fields.get(cx, "name").map(|(node, _)| node);
    let name = name_node.and_then(|node| cx.name(node)).map(Arc::from);
    let community = fields.get(cx, "community").and_then(|(node, _)| cx.secret(node))?;
    let span = name_node.filter(|_| name.is_some()).map(|node| node.span.clone());
    Some((Community { name, community }, span))
}

fn user(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<UserSettings> {
    let name_node = fields.get(cx, "name").map(|(node, _)| node);
    let name = name_node.and_then(|node| cx.name(node).map(|name| (node, name)));
    if let Some((node, name)) = name
        && name.len() > MAX_USER_NAME
    {
        let message = format!("a user's name has at most {MAX_USER_NAME} octets (RFC 3414)");
        cx.error("config-value", &node.span, message, None);
    }
    let engines = match fields.get(cx, "engines") {
        Some((Node { data: Data::Text(text), .. }, _)) if text == "any" => None,
        Some((node, _)) => {
            let items = cx.items(node, true, "engine IDs").unwrap_or_default();
            if items.is_empty() && matches!(node.data, Data::List(_)) {
                let help = "leave `engines` out for any engine";
                cx.error("config-value", &node.span, "this list names no engine", Some(help.into()));
            }
            Some(items.iter().filter_map(|item| cx.engine_id(item)).collect::<Vec<_>>())
        }
        None => None,
    };
    let auth: Option<Credential<AuthProtocol>> =
        credential(cx, fields, "auth", engines.as_deref(), AuthProtocol::key_octets);
    let privacy: Option<Credential<PrivacyProtocol>> =
        credential(cx, fields, "privacy", engines.as_deref(), PrivacyProtocol::key_octets);
    if let Some(entry) = fields.entry("privacy")
        && fields.entry("auth").is_none()
    {
        let message = "a user with `privacy` needs `auth`";
        let help = "SNMPv3 has no encryption without authentication (RFC 3414)";
        cx.error("config-conflict", &entry.key_span, message, Some(help.into()));
    }
    let mut user = UserSettings {
        name: name.map_or("", |(_, name)| name).into(),
        auth,
        privacy,
        engines,
        sources: fields.networks(cx, "sources").unwrap_or_default(),
        minimum_level: SecurityLevel::NoAuthNoPriv,
        lenient_time: fields.flag(cx, "lenient_time").unwrap_or(false),
    };
    let strongest = user.level();
    user.minimum_level = strongest;
    if let Some(level) = fields.choice(cx, "minimum_level").and_then(|word| word.parse().ok()) {
        // A protocol that could not be read was told already.
        let complete = fields.entry("auth").is_some() == user.auth.is_some()
            && fields.entry("privacy").is_some() == user.privacy.is_some();
        if level > strongest
            && complete
            && let Some(entry) = fields.entry("minimum_level")
        {
            let message = format!("this user cannot reach `{level}`: its protocols allow `{strongest}`");
            let help = "add `auth` and `privacy`, or lower `minimum_level`";
            cx.error("config-conflict", &entry.value.span, message, Some(help.into()));
        }
        user.minimum_level = level;
    }
    name.is_some().then_some(user)
}

/// `auth` or `privacy`: a protocol with a passphrase or a key.
fn credential<P: std::str::FromStr + Copy>(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    name: &str,
    engines: Option<&[EngineId]>,
    key_octets: fn(P) -> usize,
) -> Option<Credential<P>> {
    let own = open(cx, fields, name)?;
    let protocol: Option<P> = own.choice(cx, "protocol").and_then(|word| word.parse().ok());
    let passphrase = own.get(cx, "passphrase").map(|(node, _)| (node, cx.secret(node)));
    let key = own.get(cx, "key").map(|(node, _)| (node, cx.secret(node)));
    let secret = match (passphrase, key) {
        (Some(_), Some((node, _))) => {
            let message = format!("`{name}` has a passphrase and a key: one of them");
            cx.error("config-conflict", &node.shown(), message, None);
            return None;
        }
        (None, None) => {
            let message = format!("`{name}` needs a `passphrase`, or a `key`");
            cx.error("config-missing-key", &own.node.shown(), message, None);
            return None;
        }
        (Some((node, secret)), None) => {
            let secret = secret?;
            if secret.expose().len() < MIN_PASSPHRASE {
                let message =
                    format!("a passphrase has at least {MIN_PASSPHRASE} octets (RFC 3414 section 11.2)");
                cx.error("config-secret", &node.shown(), message, None);
            }
            KeySource::Passphrase(secret)
        }
        (None, Some((node, secret))) => {
            let secret = secret?;
            if engines.is_none_or(|engines| engines.len() != 1) {
                let help = "name the engine that it was localised to in `engines`, and no other";
                let message = "a localised key belongs to one engine";
                cx.error("config-conflict", &node.shown(), message, Some(help.into()));
            }
            let octets =
                std::str::from_utf8(secret.expose()).ok().and_then(octets_of_hex).map(Zeroizing::new);
            let wanted = protocol.map(key_octets);
            match octets {
                Some(octets) if wanted.is_none_or(|wanted| wanted == octets.len()) => {
                    KeySource::Localized(Secret::new(octets.to_vec()))
                }
                octets => {
                    let message = match (octets, wanted) {
                        (Some(octets), Some(wanted)) => {
                            format!("this key has {} octets, and the protocol's have {wanted}", octets.len())
                        }
                        _ => "a key is written in hexadecimal digits, two an octet".to_owned(),
                    };
                    cx.error("config-secret", &node.shown(), message, None);
                    return None;
                }
            }
        }
    };
    Some(Credential { protocol: protocol?, secret })
}

/// Whether no message could tell the two apart.
fn same_place(one: &UserSettings, other: &UserSettings) -> bool {
    let engines = match (&one.engines, &other.engines) {
        (None, None) => true,
        (Some(one), Some(other)) => one.iter().any(|id| other.contains(id)),
        _ => false,
    };
    let sources = one.sources.len() == other.sources.len()
        && one.sources.iter().all(|network| other.sources.contains(network));
    one.name == other.name && engines && sources
}
