//! The keys of `access`: communities and SNMPv3 users.

use super::{Kind, Section, key};

pub(super) static ACCESS: Section = Section {
    path: "access",
    keys: &[
        key(
            "engine_id",
            Kind::Either(&[Kind::Choice(&["auto"]), Kind::EngineId]),
            "The SNMPv3 engine ID of this collector, for informs; auto makes one and keeps it in the data directory. Changed only by a restart.",
        )
        .default("\"auto\"")
        .example("\"0x80000000056e6572657573\""),
        key(
            "communities",
            Kind::List(&Kind::Either(&[Kind::Secret, Kind::Section(&COMMUNITY)])),
            "The communities that are accepted; without it any is, but none once there are users. A name lets rules match on it.",
        )
        .example(r#"["public", {"name": "core", "community": {"env": "CORE"}}]"#)
        .also(r#"[{"file": "/run/secrets/community"}]"#),
        key(
            "users",
            Kind::List(&Kind::Section(&USER)),
            "SNMPv3 users. A name may stand more than once: the one for the engine counts, then the one for the sender's address.",
        ),
    ],
};

static USER: Section = Section {
    path: "access.users[]",
    keys: &[
        key("name", Kind::Text, "The user's name, as its messages say it.").required().example("\"ops\""),
        key("auth", Kind::Section(&USER_AUTH), "How it authenticates; without it not at all."),
        key("privacy", Kind::Section(&USER_PRIVACY), "How it encrypts; needs `auth`."),
        key(
            "engines",
            Kind::Either(&[Kind::Choice(&["any"]), Kind::Many(&Kind::EngineId)]),
            "The engine IDs that it sends from.",
        )
        .default("\"any\"")
        .example(r#"["0x80001f8804636f7265"]"#),
        key("sources", Kind::Many(&Kind::Network), "Networks that it sends from; without it, every one.")
            .example(r#"["10.1.0.0/16"]"#),
        key(
            "minimum_level",
            Kind::Choice(&["no_auth_no_priv", "auth_no_priv", "auth_priv"]),
            "What is below is refused; without it, what its protocols allow at most.",
        )
        .example("\"auth_priv\""),
        key(
            "lenient_time",
            Kind::Flag,
            "Take messages outside of the time window, which replays are; for devices that forget their boots.",
        )
        .default("false"),
    ],
};

static USER_AUTH: Section = Section {
    path: "access.users[].auth",
    keys: &[
        key("protocol", Kind::Choice(&["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]), "The hash.")
            .required()
            .example("\"sha256\""),
        key("passphrase", Kind::Secret, "At least eight characters.").example(r#"{"env": "OPS_AUTH"}"#),
        key(
            "key",
            Kind::Secret,
            "In its place: a key localised to the user's only engine, in hexadecimal digits.",
        )
        .example(r#"{"file": "/run/secrets/ops-auth-key"}"#),
    ],
};

static USER_PRIVACY: Section = Section {
    path: "access.users[].privacy",
    keys: &[
        key(
            "protocol",
            Kind::Choice(&["des", "3des", "aes128", "aes192", "aes256", "aes192c", "aes256c"]),
            "The cipher. aes192 and aes256 lengthen keys by Blumenthal's draft, aes192c and aes256c by Reeder's, as Cisco does.",
        )
        .required()
        .example("\"aes128\""),
        key("passphrase", Kind::Secret, "At least eight characters.").example(r#"{"env": "OPS_PRIV"}"#),
        key("key", Kind::Secret, "In its place: a key localised to the user's only engine, in hexadecimal digits.")
            .example(r#"{"file": "/run/secrets/ops-priv-key"}"#),
    ],
};

static COMMUNITY: Section = Section {
    path: "access.communities[]",
    keys: &[
        key("name", Kind::Text, "What rules and logs call it.").required().example("\"core\""),
        key("community", Kind::Secret, "The community itself.").required().example(r#"{"env": "CORE"}"#),
    ],
};
