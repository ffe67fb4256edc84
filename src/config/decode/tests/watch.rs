//! Storms and heartbeats: which devices can be meant, and how.

use super::*;
use crate::device::{Device, DeviceRef};

const LOOKUP: &str = "lookups: [{name: device, file: devices.csv, key: source}]\n";
const CANONICAL: &str = "source: {canonical: {lookup: device, column: name}}\n";

fn beats(source: &str) -> String {
    format!("heartbeats: [{{name: a, source: {source}, within: 1m}}]\n")
}

fn sources(settings: &Settings) -> Vec<DeviceRef> {
    settings.heartbeats[0].sources.clone()
}

fn address(text: &str) -> DeviceRef {
    text.parse::<Device>().unwrap().into()
}

#[test]
fn a_device_is_meant_by_its_address_or_its_name() {
    let named = format!("{LOOKUP}{CANONICAL}{}", beats("[core-1, 10.0.0.1, '::1', core-1, 10.0.0.1/32]"));
    assert_eq!(
        sources(&fine(&named)),
        [DeviceRef::Name("core-1".into()), address("10.0.0.1"), address("::1")],
        "each once"
    );
    assert_eq!(sources(&fine(&format!("{LOOKUP}{CANONICAL}{}", beats("core-1")))).len(), 1);
    // The realm is that of addresses; a name is enough by itself.
    let realm = format!(
        "listener: [{{realm: branch}}]\n{LOOKUP}{CANONICAL}\
         heartbeats: [{{name: a, source: [core-1, 10.0.0.1], within: 1m, realm: branch}}]\n"
    );
    assert_eq!(sources(&fine(&realm)), [DeviceRef::Name("core-1".into()), address("branch/10.0.0.1")]);
}

#[test]
fn a_name_that_no_device_has_is_told() {
    let named = format!("{LOOKUP}{CANONICAL}");
    for (before, source, code, says) in [
        (&*named, "core-2", "config-dangling", "did you mean `core-1`?"),
        (&named, "backup", "config-dangling", "no device is called so in `device.name`"),
        (&named, "Berlin", "config-dangling", "no device is called so"),
        (&named, "10.0.0.300", "config-dangling", "`10.0.0.300` is no address"),
        (&named, "''", "config-value", ""),
        (&named, "10.0.0.0/8", "config-value", "not a network"),
        (&named, "branch/10.0.0.1", "config-network", "no network"),
        (&named, "17", "config-type", "expected"),
        ("", "core-1", "config-value", "names of devices are those that `source.canonical` gives"),
        (LOOKUP, "core-1", "config-value", "names of devices are those that `source.canonical` gives"),
        ("", "core-1/24", "config-value", "is no address"),
    ] {
        let text = format!("{before}{}", beats(source));
        assert_eq!(codes(&text), [code], "{text}");
        assert!(told(&text).contains(says), "{}", told(&text));
    }
    // What is told already of table or column is not told once more of each name.
    for before in [
        "lookups: [{name: device, file: missing.csv, key: source}]\nsource: {canonical: {lookup: device, column: name}}\n",
        "source: {canonical: {lookup: device, column: name}}\n",
        "lookups: [{name: device, file: devices.csv, key: source}]\nsource: {canonical: {lookup: device, column: nmae}}\n",
    ] {
        assert_eq!(codes(&format!("{before}{}", beats("[core-1, core-2]"))).len(), 1, "{before}");
    }
}
