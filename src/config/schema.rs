//! The JSON Schema of a configuration, made from the table of keys.

use serde_json::{Map, Value, json};

use super::keys::{self, Key, Kind, RESTART_ONLY, Section, TESTS};

/// The JSON Schema (draft 2020-12) of what this version takes, for editors and CUE. Relations between
/// keys, as `url` or `urls`, are checked by Nereus alone.
#[must_use]
pub fn schema() -> Value {
    let mut root = section(&keys::ROOT);
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["title"] = "Nereus configuration".into();
    root["$defs"] = json!({
        "secret": {
            "description": "A secret: inline, from the environment, or from a file.",
            "oneOf": [
                {"type": "string", "minLength": 1},
                closed(json!({"env": {"type": "string", "minLength": 1}}), &["env"]),
                closed(json!({"file": {"type": "string", "minLength": 1}}), &["file"]),
            ],
        },
        "scalar": {"type": ["integer", "string", "boolean"]},
        "test": {"oneOf": [
            {"$ref": "#/$defs/scalar"},
            {"type": "array", "items": {"$ref": "#/$defs/scalar"}, "minItems": 1},
            tests(),
        ]},
        "condition": {"oneOf": [
            {"$ref": "#/$defs/conditions"},
            {
                "type": "object",
                "minProperties": 1,
                "properties": {"all": {"$ref": "#/$defs/conditions"}, "any": {"$ref": "#/$defs/conditions"}},
                "additionalProperties": {"$ref": "#/$defs/test"},
            },
        ]},
        "conditions": {"type": "array", "items": {"$ref": "#/$defs/condition"}, "minItems": 1},
    });
    root
}

fn closed(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn section(section: &Section) -> Value {
    let properties: Map<_, _> =
        section.keys.iter().map(|key| (key.name.to_owned(), property(section, key))).collect();
    let required: Vec<_> = section.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn property(section: &Section, key: &Key) -> Value {
    let path = section.path_of(key.name);
    let mut schema = of(&key.kind);
    schema["description"] = key.doc.into();
    if let Some(default) = key.default.and_then(|json| serde_json::from_str(json).ok()) {
        schema["default"] = default;
    }
    let examples = [key.example, key.also].into_iter().flatten();
    let examples: Vec<Value> = examples.filter_map(|json| serde_json::from_str(json).ok()).collect();
    if !examples.is_empty() {
        schema["examples"] = examples.into();
    }
    if RESTART_ONLY.contains(&&*path) {
        schema["x-restart-only"] = true.into();
    }
    schema
}

fn of(kind: &Kind) -> Value {
    let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
    match kind {
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Duration { min, .. } => {
            let pattern = text("^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$");
            if *min == 0 { json!({"anyOf": [pattern, {"const": 0}]}) } else { pattern }
        }
        Kind::Size { .. } => text("^[0-9]+ *(B|KiB|MiB|GiB|TiB|PiB)$"),
        Kind::Percent => text("^[0-9]+(\\.[0-9]+)? *%$"),
        Kind::Choice(words) => json!({"enum": words}),
        Kind::Endpoint => text("^(tcp://)?(\\[[0-9A-Fa-f:.%]+\\]|[0-9.]+):[0-9]+$"),
        Kind::Address => text("^(\\[[0-9A-Fa-f:.%]+\\]|[0-9.]+):[0-9]+$"),
        Kind::Network => text("^[0-9A-Fa-f:.]+(/[0-9]+)?$"),
        Kind::EngineId => text("^(0[xX])?[0-9A-Fa-f]{2}([: -]?[0-9A-Fa-f]{2}){4,31}$"),
        Kind::Url => text("^https?://[^@\\s#]+$"),
        Kind::Trap | Kind::Varbind => text(
            "^(\\.?[0-9]+(\\.[0-9]+)*(\\.\\*)?|([A-Za-z][A-Za-z0-9_-]*::)?[A-Za-z][A-Za-z0-9_-]*|[A-Za-z_][A-Za-z0-9_]*\\.[A-Za-z_][A-Za-z0-9_]*)$",
        ),
        Kind::Template => json!({"type": "string"}),
        Kind::Text | Kind::Path | Kind::Pattern | Kind::Alias | Kind::Webhook => {
            json!({"type": "string", "minLength": 1})
        }
        Kind::Secret => json!({"$ref": "#/$defs/secret"}),
        Kind::Condition => json!({"$ref": "#/$defs/condition"}),
        Kind::List(kind) => json!({"type": "array", "items": of(kind)}),
        Kind::Many(kind) => json!({"anyOf": [of(kind), {"type": "array", "items": of(kind)}]}),
        Kind::Map(kind) => json!({"type": "object", "additionalProperties": of(kind)}),
        Kind::Either(kinds) => json!({"anyOf": kinds.iter().map(of).collect::<Vec<_>>()}),
        Kind::Section(inner) => section(inner),
        Kind::Any => json!({}),
    }
}

fn tests() -> Value {
    let test = |name: &str| match name {
        "equals" => json!({"$ref": "#/$defs/scalar"}),
        "in" => json!({"type": "array", "items": {"$ref": "#/$defs/scalar"}, "minItems": 1}),
        "not" => json!({"$ref": "#/$defs/test"}),
        "above" | "below" => json!({"type": "number"}),
        "exists" => json!({"type": "boolean"}),
        _ => json!({"type": "string", "minLength": 1}),
    };
    let properties: Map<_, _> = TESTS
        .iter()
        .map(|(name, doc)| {
            let mut schema = test(name);
            schema["description"] = (*doc).into();
            ((*name).to_owned(), schema)
        })
        .collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false, "minProperties": 1})
}
