//! Single values: numbers with ranges, durations, sizes, addresses, networks, URLs, names.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::super::keys::Kind;
use super::super::lookup::is_identifier;
use super::super::settings::{Endpoint, Transport, TrapPattern, WebhookUrl};
use super::super::tree::{Data, Node};
use super::units::{parse_duration, parse_size, show_duration, show_size};
use super::{Context, suggest};
use crate::oid::Oid;
use crate::security::EngineId;
use crate::template::Template;

/// The alternative of `kinds` that a value is meant to be.
pub(in crate::config) fn pick(kinds: &'static [Kind], node: &Node) -> &'static Kind {
    let fits = |kind: &&Kind| match (&node.data, kind) {
        (Data::Map(entries), Kind::Secret) => {
            entries.iter().any(|entry| matches!(&*entry.key, "env" | "file"))
        }
        (Data::Map(_), Kind::Section(_)) => true,
        (Data::Map(_), _) | (_, Kind::Section(_)) => false,
        (Data::Integer(..) | Data::Float(..) | Data::List(_), Kind::Choice(_)) => false,
        (Data::Text(text), Kind::Choice(words)) => words.contains(&&**text),
        (Data::Text(text), Kind::Duration { .. }) => text.starts_with(|c: char| c.is_ascii_digit()),
        _ => true,
    };
    kinds.iter().find(fits).unwrap_or(&kinds[0])
}

impl Context<'_> {
    /// A text that is not empty.
    pub(in crate::config) fn text<'t>(&mut self, node: &'t Node) -> Option<&'t str> {
        match &node.data {
            Data::Text(text) if text.trim().is_empty() => {
                self.error("config-value", &node.span, "this text is empty", None);
                None
            }
            Data::Text(text) => Some(text),
            Data::Integer(..) | Data::Float(..) | Data::Bool(_) => {
                let message = format!("expected a text, found {}", node.what());
                let help = self.quote(node).map(|text| format!("put it in quotes: \"{text}\""));
                self.error("config-type", &node.span, message, help);
                None
            }
            _ => {
                self.wrong_type(node, "a text");
                None
            }
        }
    }

    /// A name: a text of one line.
    pub(super) fn name<'t>(&mut self, node: &'t Node) -> Option<&'t str> {
        let text = self.text(node)?;
        if text.chars().any(char::is_control) || text.chars().count() > 200 {
            let message = "a name is one line of at most 200 characters";
            self.error("config-value", &node.span, message, None);
            return None;
        }
        Some(text)
    }

    pub(super) fn flag(&mut self, node: &Node) -> Option<bool> {
        match &node.data {
            Data::Bool(value) => Some(*value),
            Data::Text(text) => {
                let help = match &*text.to_ascii_lowercase() {
                    "yes" | "on" | "true" => Some("write `true`, without quotes".to_owned()),
                    "no" | "off" | "false" => Some("write `false`, without quotes".to_owned()),
                    _ => None,
                };
                let message = format!("expected true or false, found {}", self.quoted(node));
                self.error("config-type", &node.span, message, help);
                None
            }
            _ => {
                self.wrong_type(node, "true or false");
                None
            }
        }
    }

    pub(super) fn integer(&mut self, node: &Node, kind: &Kind) -> Option<i64> {
        let Kind::Integer { min, max } = *kind else { return None };
        match &node.data {
            Data::Integer(number, _) if (min..=max).contains(number) => Some(*number),
            Data::Integer(..) | Data::Float(..) => {
                let message = format!("{} is not a whole number from {min} to {max}", self.quoted(node));
                self.error("config-range", &node.span, message, None);
                None
            }
            Data::Text(text) if text.parse::<i64>().is_ok() => {
                self.error(
                    "config-type",
                    &node.span,
                    "expected a number, found a text",
                    Some("write it without quotes".into()),
                );
                None
            }
            _ => {
                self.wrong_type(node, &format!("a whole number from {min} to {max}"));
                None
            }
        }
    }

    pub(super) fn duration(&mut self, node: &Node, kind: &Kind) -> Option<Duration> {
        let Kind::Duration { min, max } = *kind else { return None };
        let milliseconds = match &node.data {
            Data::Text(text) => match parse_duration(text) {
                Ok(milliseconds) => milliseconds,
                Err(help) => {
                    let message = format!("{} is no duration", self.quoted(node));
                    self.error("config-duration", &node.span, message, Some(help));
                    return None;
                }
            },
            Data::Integer(0, _) if min == 0 => 0,
            Data::Integer(number, _) => {
                let message = "a duration needs a unit";
                self.error(
                    "config-duration",
                    &node.span,
                    message,
                    Some(format!("write `{number}s`, `{number}m`, `{number}h` or `{number}d`")),
                );
                return None;
            }
            _ => {
                self.wrong_type(node, "a duration as `2s` or `5m`");
                return None;
            }
        };
        if !(min..=max).contains(&milliseconds) {
            let range = format!("from {} to {}", show_duration(min), show_duration(max));
            let message = format!("{} is out of range: this duration goes {range}", self.quoted(node));
            self.error("config-range", &node.span, message, None);
            return None;
        }
        Some(Duration::from_millis(milliseconds))
    }

    pub(super) fn size(&mut self, node: &Node, kind: &Kind) -> Option<u64> {
        let Kind::Size { min, max } = *kind else { return None };
        let octets = match &node.data {
            Data::Text(text) => match parse_size(text) {
                Ok(octets) => octets,
                Err(help) => {
                    let message = format!("{} is no size", self.quoted(node));
                    self.error("config-size", &node.span, message, Some(help));
                    return None;
                }
            },
            Data::Integer(number, _) => {
                let help = format!("write `{number}B` for octets, or `32MiB`");
                self.error("config-size", &node.span, "a size needs a unit", Some(help));
                return None;
            }
            _ => {
                self.wrong_type(node, "a size as `32MiB`");
                return None;
            }
        };
        if !(min..=max).contains(&octets) {
            let range = format!("from {} to {}", show_size(min), show_size(max));
            let message = format!("{} is out of range: this size goes {range}", self.quoted(node));
            self.error("config-range", &node.span, message, None);
            return None;
        }
        Some(octets)
    }

    /// Hundredths of a percentage point.
    pub(super) fn percent(&mut self, node: &Node) -> Option<u32> {
        let share = match &node.data {
            Data::Text(text) => text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok()),
            _ => None,
        };
        match share {
            Some(share) if (0.0..=100.0).contains(&share) => Some((share * 100.0).round() as u32),
            _ => {
                let message = format!("{} is no percentage", self.quoted(node));
                self.error(
                    "config-value",
                    &node.span,
                    message,
                    Some("write it as `5%`, from 0% to 100%".into()),
                );
                None
            }
        }
    }

    pub(super) fn choice(&mut self, node: &Node, kind: &Kind) -> Option<&'static str> {
        let Kind::Choice(words) = *kind else { return None };
        let text = match &node.data {
            Data::Text(text) => &**text,
            Data::Bool(_) | Data::Integer(..) | Data::Float(..) => "",
            _ => {
                self.wrong_type(node, &format!("one of {}", words.join(", ")));
                return None;
            }
        };
        if let Some(word) = words.iter().copied().find(|word| *word == text) {
            return Some(word);
        }
        let help = match suggest(text, words.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? known are {}", words.join(", ")),
            None => format!("known are {}", words.join(", ")),
        };
        let message = format!("{} is not known here", self.quoted(node));
        self.error("config-value", &node.span, message, Some(help));
        None
    }

    pub(super) fn address(&mut self, node: &Node) -> Option<SocketAddr> {
        let text = match &node.data {
            Data::Integer(port, _) => {
                let help = format!("write \"0.0.0.0:{port}\" for every address");
                self.error(
                    "config-address",
                    &node.span,
                    "an address is missing before this port",
                    Some(help),
                );
                return None;
            }
            _ => self.text(node)?,
        };
        self.address_text(node, text)
    }

    /// An address with its transport: `tcp://` before it, or nothing for UDP.
    pub(super) fn endpoint(&mut self, node: &Node) -> Option<Endpoint> {
        if let Data::Text(text) = &node.data
            && let Some(rest) = text.strip_prefix(Endpoint::TCP)
        {
            let address = self.address_text(node, rest)?;
            return Some(Endpoint { transport: Transport::Tcp, address });
        }
        self.address(node).map(Endpoint::udp)
    }

    fn address_text(&mut self, node: &Node, text: &str) -> Option<SocketAddr> {
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let help = match text.strip_prefix("udp://") {
            Some(rest) => format!("write it without `udp://`: `{rest}`"),
            None if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) => {
                format!("add a port: `{text}:1162`")
            }
            None if text.parse::<IpAddr>().is_ok() => format!("add brackets and a port: \"[{text}]:1162\""),
            None if text
                .strip_prefix([':', '*'])
                .is_some_and(|p| p.trim_start_matches(':').parse::<u16>().is_ok()) =>
            {
                format!("write \"0.0.0.0:{}\" for every IPv4 address", text.trim_start_matches(['*', ':']))
            }
            None if text.starts_with("localhost:") => {
                format!("write `127.0.0.1:{}`", &text["localhost:".len()..])
            }
            None => "write an address as `0.0.0.0:1162` or `[::]:1162`; names are not taken".to_owned(),
        };
        let message = format!("{} is no address with a port", self.quoted(node));
        self.error("config-address", &node.span, message, Some(help));
        None
    }

    /// A network, or one address as the network of itself.
    pub(super) fn network(&mut self, node: &Node) -> Option<IpNet> {
        let text = self.text(node)?;
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(address.into());
        }
        match text.parse::<IpNet>() {
            Ok(network) if network.trunc() == network => Some(network),
            Ok(network) => {
                let message =
                    format!("`{text}` has bits beyond its prefix; `{}` is in force", network.trunc());
                self.warning(
                    "config-network",
                    &node.span,
                    message,
                    Some(format!("write `{}`", network.trunc())),
                );
                Some(network.trunc())
            }
            Err(_) => {
                let message = format!("{} is no network", self.quoted(node));
                let help = "write it as `10.0.0.0/8`, `2001:db8::/32`, or an address alone";
                self.error("config-network", &node.span, message, Some(help.into()));
                None
            }
        }
    }

    /// The address of a webhook. Messages show neither its path nor what stands before its host.
    pub(super) fn url(&mut self, node: &Node) -> Option<WebhookUrl> {
        const NO_SCHEME: (&str, Option<&str>) = ("it needs `http://` or `https://` before its host", None);
        let text = self.text(node)?;
        let problem = match text.parse::<hyper::Uri>() {
            Err(_) if text.chars().any(char::is_whitespace) => Some(("a URL has no blanks", None)),
            Err(_) if !text.contains("://") => Some(NO_SCHEME),
            Err(_) => Some(("this is no URL", Some("write it as `http://127.0.0.1:9093/api/v2/alerts`"))),
            Ok(uri) => match (uri.scheme_str(), uri.authority()) {
                (Some("http" | "https"), Some(authority)) => {
                    if text.contains('#') {
                        Some(("the URL of a webhook has no fragment", Some("remove `#` and what follows")))
                    } else if authority.as_str().contains('@') {
                        let help = "put them into `headers: {Authorization: …}`";
                        Some(("user and password in a URL are not in this version", Some(help)))
                    } else if authority.host().is_empty() {
                        Some(("the URL has no host", None))
                    } else if authority.port().is_some_and(|port| port.as_u16() == 0)
                        || authority.as_str().ends_with(':')
                        || (authority.port().is_none() && authority.as_str().len() != authority.host().len())
                    {
                        Some(("the URL's port is no number from 1 to 65535", None))
                    } else {
                        None
                    }
                }
                (Some(_), _) => Some(("a webhook is reached by `http` or `https`", None)),
                _ => Some(NO_SCHEME),
            },
        };
        match problem {
            None => Some(WebhookUrl(text.into())),
            Some((message, help)) => {
                let message = format!("invalid webhook URL: {message}");
                self.error("config-url", &node.span, message, help.map(str::to_owned));
                None
            }
        }
    }

    /// An SNMPv3 engine ID.
    pub(super) fn engine_id(&mut self, node: &Node) -> Option<EngineId> {
        let text = match &node.data {
            // Digits alone are a number to YAML.
            Data::Integer(_, text) | Data::Float(_, text) => text,
            _ => self.text(node)?,
        };
        match text.parse() {
            Ok(id) => Some(id),
            Err(why) => {
                let message = format!("{} is no engine ID: {why}", self.quoted(node));
                let help = "write it as \"0x80001f8804636f7265\", in quotes";
                self.error("config-engine-id", &node.span, message, Some(help.into()));
                None
            }
        }
    }

    /// A text that is an OID where YAML would read a number.
    fn oid_text<'t>(&mut self, node: &'t Node, expected: &str) -> Option<&'t str> {
        if matches!(node.data, Data::Float(..) | Data::Integer(..)) {
            let message = format!("{} is a number here, where {expected} is expected", self.quoted(node));
            let help = self.quote(node).map(|text| format!("an OID needs quotes: \"{text}\""));
            self.error("config-oid-number", &node.span, message, help);
            return None;
        }
        self.text(node)
    }

    pub(super) fn trap(&mut self, node: &Node) -> Option<TrapPattern> {
        let text = self.oid_text(node, "a notification's name or OID")?;
        match parse_trap(text) {
            Ok(pattern) => Some(pattern),
            Err(help) => {
                let message = format!("{} names no notification", self.quoted(node));
                self.error("config-trap", &node.span, message, Some(help));
                None
            }
        }
    }

    pub(super) fn traps(&mut self, node: &Node) -> Vec<TrapPattern> {
        let items = self.items(node, true, "notifications").unwrap_or_default();
        if items.is_empty() && matches!(node.data, Data::List(_)) {
            let help = "leave the key out to name none";
            self.error("config-value", &node.span, "this list names no notification", Some(help.into()));
        }
        items.iter().filter_map(|item| self.trap(item)).collect()
    }

    /// A varbind's name, `MODULE::name`, or OID, or a lookup's `device.COLUMN`.
    pub(super) fn varbind(&mut self, node: &Node) -> Option<String> {
        let text = self.oid_text(node, "a varbind's name or OID")?;
        if let Some((lookup, column)) = column_name(text) {
            return self.column(lookup, column, &node.span).then(|| text.to_owned());
        }
        if let Err(help) = check_varbind(text) {
            let message = format!("{} names no varbind", self.quoted(node));
            self.error("config-varbind", &node.span, message, Some(help));
            return None;
        }
        Some(text.strip_prefix('.').unwrap_or(text).to_owned())
    }

    /// A text with `{{ … }}`, tried out.
    pub(super) fn template(&mut self, node: &Node, name: &str) -> Option<String> {
        let text = match &node.data {
            Data::Text(text) => &**text,
            // Flow mappings of YAML swallow a template without quotes.
            Data::Map(_) => {
                let help = "a text that begins with `{{` needs quotes: \"{{ ifDescr }}\"";
                self.error(
                    "config-type",
                    &node.shown(),
                    "expected a text, found a section",
                    Some(help.into()),
                );
                return None;
            }
            _ => self.text(node)?,
        };
        match Template::compile(name, text) {
            Ok(template) => {
                let known = template.variables().iter().all(|name| self.variable(name, node));
                known.then(|| text.to_owned())
            }
            Err(error) => {
                let span = node.span.clone();
                let inside = error.range().and_then(|range| {
                    // Only where the text stands in the file as it is, without escapes or folding.
                    let raw = self.sources.raw(&span)?;
                    let at = raw.find(text)?;
                    Some(span.start + at + range.start..span.start + at + range.end)
                });
                let message = format!("invalid template: {error}");
                let help = error.help().map(str::to_owned);
                self.error("config-template", &inside.unwrap_or(span), message, help);
                None
            }
        }
    }

    /// A name that refers to something else in the file.
    pub(super) fn reference(&mut self, node: &Node, what: &str, known: &[Arc<str>]) -> Option<Arc<str>> {
        let text = self.text(node)?;
        if let Some(name) = known.iter().find(|name| &***name == text) {
            return Some(Arc::clone(name));
        }
        let help = match suggest(text, known.iter().map(|name| &**name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => format!("no {what} has a name"),
            None => format!("known are {}", known.join(", ")),
        };
        let message = match self.quoted(node) {
            quoted if quoted.starts_with('`') => format!("no {what} is called {quoted}"),
            _ => format!("no {what} is called so"),
        };
        self.error("config-dangling", &node.span, message, Some(help));
        None
    }
}

/// The parts of `device.site`. The module and the name of a varbind have no dot.
pub(in crate::config) fn column_name(text: &str) -> Option<(&str, &str)> {
    let (lookup, column) = text.split_once('.')?;
    (is_identifier(lookup) && is_identifier(column)).then_some((lookup, column))
}

fn is_oid_like(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '.')
}

/// `MODULE::name` or `name`: letters, digits, hyphens and underscores, a letter first.
fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    match text.split_once("::") {
        Some((module, name)) => part(module) && part(name),
        None => part(text),
    }
}

fn parse_trap(text: &str) -> Result<TrapPattern, String> {
    if text == "*" {
        return Err("leave `trap` out to match every notification".into());
    }
    if is_oid_like(text) {
        let (oid, subtree) = match text.strip_suffix(".*") {
            Some(oid) => (oid, true),
            None => (text, false),
        };
        let oid: Oid = oid.parse().map_err(|error| format!("{error}"))?;
        return Ok(if subtree { TrapPattern::Subtree(oid) } else { TrapPattern::Exact(oid) });
    }
    if is_name(text) {
        return Ok(TrapPattern::Name(text.to_owned()));
    }
    Err(match text {
        _ if text.ends_with('*') => "a subtree is written with its OID: `1.3.6.1.4.1.9.*`".into(),
        _ if text.contains(':') && !text.contains("::") => format!("write `{}`", text.replacen(':', "::", 1)),
        _ => "write `IF-MIB::linkDown`, `linkDown`, an OID, or a subtree as `1.3.6.1.4.1.9.*`".to_owned(),
    })
}

/// The error is a help text.
pub(super) fn check_varbind(text: &str) -> Result<(), String> {
    if is_oid_like(text) {
        return text.parse::<Oid>().map(drop).map_err(|error| error.to_string());
    }
    if is_name(text) {
        return Ok(());
    }
    Err("write a varbind's name as `ifIndex` or `IF-MIB::ifIndex`, or its OID".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications() {
        assert!(matches!(parse_trap("IF-MIB::linkDown"), Ok(TrapPattern::Name(_))));
        assert!(matches!(parse_trap("linkDown"), Ok(TrapPattern::Name(_))));
        assert!(matches!(parse_trap(".1.3.6.1.4.1.9.*"), Ok(TrapPattern::Subtree(_))));
        assert!(matches!(parse_trap("1.3.6.1.6.3.1.1.5.3"), Ok(TrapPattern::Exact(_))));
        assert_eq!(parse_trap("IF-MIB:linkDown"), Err("write `IF-MIB::linkDown`".into()));
        for text in ["*", "IF-MIB::*", "1.3..6", "1.3.*.6", "1.4294967296", "link down", "-a", "::", "A::"] {
            assert!(parse_trap(text).is_err(), "{text}");
        }
    }
}
