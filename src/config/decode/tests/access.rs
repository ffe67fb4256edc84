//! Users and their keys.

use super::*;
use crate::security::{AuthProtocol, PrivacyProtocol, SecurityLevel};

#[test]
fn users_are_decoded() {
    let settings = fine(
        "
access:
  engine_id: 0x80:00:00:00:05:01
  users:
    - {name: plain}
    - name: ops
      auth: {protocol: sha256, passphrase: {file: /auth}}
      privacy: {protocol: aes256c, passphrase: {env: PRIV}}
      sources: 10.0.0.0/8
    - name: ops
      auth: {protocol: sha256, passphrase: {file: /auth}}
      minimum_level: no_auth_no_priv
      engines: [0x8000000001, 8000000002]
      lenient_time: true
    - name: router
      auth: {protocol: md5, key: '0x000102030405060708090a0b0c0d0e0f'}
      engines: 0x8000000003
",
    );
    let access = &settings.access;
    assert_eq!(access.engine_id.unwrap().to_string(), "800000000501");
    assert_eq!(access.communities, None);
    let [plain, ops, other, router] = &access.users[..] else { panic!("{access:?}") };
    assert_eq!((plain.minimum_level, &plain.engines), (SecurityLevel::NoAuthNoPriv, &None));
    let secret = |octets: String| KeySource::Passphrase(Secret::new(octets.into_bytes()));
    let auth = Credential { protocol: AuthProtocol::Sha256, secret: secret(format!("{PLANTED}-file-/auth")) };
    let privacy =
        Credential { protocol: PrivacyProtocol::Aes256C, secret: secret(format!("{PLANTED}-env-PRIV")) };
    assert_eq!((ops.auth.as_ref(), ops.privacy.as_ref()), (Some(&auth), Some(&privacy)));
    assert_eq!((ops.minimum_level, ops.sources.len(), ops.lenient_time), (SecurityLevel::AuthPriv, 1, false));
    assert_eq!((other.minimum_level, other.lenient_time), (SecurityLevel::NoAuthNoPriv, true));
    assert_eq!(other.engines.as_ref().unwrap().len(), 2);
    let Some(Credential { secret: KeySource::Localized(key), .. }) = &router.auth else {
        panic!("{router:?}")
    };
    assert_eq!(key.expose(), (0..16).collect::<Vec<u8>>());
    assert!(!format!("{access:?}").contains(PLANTED));
}

#[test]
fn each_mistake_has_its_code() {
    for (text, expected) in [
        ("access: {engine_id: core}", "config-engine-id"),
        ("access: {users: [{}]}", "config-missing-key"),
        ("access: {users: [{name: a}, {name: a}]}", "config-duplicate-name"),
        ("access: {users: [{name: a, engines: []}]}", "config-value"),
        ("access: {users: [{name: a, engines: [80]}]}", "config-engine-id"),
        ("access: {users: [{name: aaaaaaaaaabbbbbbbbbbccccccccccddd}]}", "config-value"),
        ("access: {users: [{name: a, minimum_level: auth_priv}]}", "config-conflict"),
        ("access: {users: [{name: a, auth: {protocol: sha1}}]}", "config-missing-key"),
        ("access: {users: [{name: a, auth: {passphrase: abcdefgh}}]}", "config-missing-key"),
        ("access: {users: [{name: a, auth: {protocol: sha1, passphrase: short}}]}", "config-secret"),
        ("access: {users: [{name: a, auth: {protocol: sha2, passphrase: abcdefgh}}]}", "config-value"),
        ("access: {users: [{name: a, privacy: {protocol: des, passphrase: abcdefgh}}]}", "config-conflict"),
        (
            "access: {users: [{name: a, auth: {protocol: md5, passphrase: abcdefgh, key: '00'}}]}",
            "config-conflict",
        ),
        (
            "access: {users: [{name: a, auth: {protocol: md5, key: '000102030405060708090a0b0c0d0e0f'}}]}",
            "config-conflict",
        ),
        (
            "access: {users: [{name: a, engines: 0x8000000001, auth: {protocol: md5, key: '0001'}}]}",
            "config-secret",
        ),
        (
            "access: {users: [{name: a, engines: 0x8000000001, auth: {protocol: md5, key: 'key'}}]}",
            "config-secret",
        ),
    ] {
        assert_eq!(codes(text), [expected], "{text}\n{}", told(text));
    }
}
