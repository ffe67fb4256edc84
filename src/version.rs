//! The SNMP message version. A leaf, since the codec, events and metrics all speak of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The message version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Version {
    /// SNMPv1 (RFC 1157), `0` on the wire.
    #[serde(rename = "v1")]
    V1,
    /// Community-based SNMPv2 (RFC 1901), `1` on the wire.
    #[serde(rename = "v2c")]
    V2c,
    /// SNMPv3 (RFC 3412), `3` on the wire.
    #[serde(rename = "v3")]
    V3,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V1, Self::V2c, Self::V3];

    /// `v1`, `v2c`, `v3`: in JSON, metrics and the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2c => "v2c",
            Self::V3 => "v3",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
