//! Which device a notification speaks of. A leaf, since settings, events and rows all speak of it.
//!
//! An address alone tells devices apart only where addresses are unique. A listener stands in one realm
//! (`listener[].realm`), and a device is an address in a realm: `10.0.0.1` in the realm `default`, `branch/10.0.0.1`
//! in another one. So it is written everywhere: in keys, labels, JSON, mutes and questions.

use std::fmt;
use std::net::{AddrParseError, IpAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// The realm of a listener that says none. Its devices are written without it.
pub const DEFAULT_REALM: &str = "default";
/// The longest name of a realm, in octets.
const MAX_REALM: usize = 64;

/// A device: an address in a realm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// `None` is [`DEFAULT_REALM`].
    pub realm: Option<Arc<str>>,
    /// Its address, an IPv4-mapped one as IPv4.
    pub address: IpAddr,
}

impl From<IpAddr> for Device {
    /// In the realm `default`.
    fn from(address: IpAddr) -> Self {
        Self { realm: None, address }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(realm) = &self.realm {
            write!(f, "{realm}/")?;
        }
        self.address.fmt(f)
    }
}

impl FromStr for Device {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        let (realm, address) = split_realm(text);
        Ok(Self { realm: realm.map(Arc::from), address: address.parse()? })
    }
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a configuration says which device it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceRef {
    /// By its address.
    Address(Device),
    /// By its one name (`source.canonical`), whatever address it sends from.
    Name(Arc<str>),
}

impl From<Device> for DeviceRef {
    fn from(device: Device) -> Self {
        Self::Address(device)
    }
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(device) => device.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Whether a realm may have this name. No address and no beginning of a network is one, so that
/// [`split_realm`] is never in doubt.
#[must_use]
pub fn is_realm(name: &str) -> bool {
    name.len() <= MAX_REALM
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"_-.".contains(&octet))
}

/// The realm, if it is another one than `default`, and the address or network behind it.
#[must_use]
pub fn split_realm(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((DEFAULT_REALM, rest)) => (None, rest),
        Some((realm, rest)) if is_realm(realm) => (Some(realm), rest),
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_it_is_read() {
        for text in ["10.0.0.1", "branch/10.0.0.1", "2001:db8::1", "a-b_c.9/fe80::1"] {
            let device: Device = text.parse().unwrap();
            assert_eq!(device.to_string(), text);
            assert_eq!(serde_json::to_string(&device).unwrap(), format!("\"{text}\""));
        }
        assert_eq!("default/10.0.0.1".parse(), Ok(Device::from(IpAddr::from([10, 0, 0, 1]))));
        assert_ne!("a/10.0.0.1".parse::<Device>(), "b/10.0.0.1".parse());
        for wrong in ["", "a/", "a/b/10.0.0.1", "10.0.0.0/8", "a/10.0.0.0/8", "1a/10.0.0.1", "a"] {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_is_never_taken_for_a_realm() {
        assert_eq!(split_realm("10.0.0.0/8"), (None, "10.0.0.0/8"));
        assert_eq!(split_realm("fe80::/10"), (None, "fe80::/10"));
        assert_eq!(split_realm("branch/fe80::/10"), (Some("branch"), "fe80::/10"));
        assert_eq!(split_realm("default/10.0.0.0/8"), (None, "10.0.0.0/8"));
        assert!(!is_realm("") && !is_realm("a b") && !is_realm("a/b") && !is_realm(&"a".repeat(65)));
    }
}
