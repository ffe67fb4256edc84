//! Secrets: inline, from the environment, from a file. No message here quotes a value.

use std::path::Path;

use super::super::file::ContentHash;
use super::super::settings::Secret;
use super::super::tree::{Data, Node};
use super::{Context, suggest};

impl Context<'_> {
    /// A text, `{env: NAME}` or `{file: PATH}`. Line ends at a file's end are no part of the secret.
    pub(super) fn secret(&mut self, node: &Node) -> Option<Secret> {
        match &node.data {
            Data::Text(text) if text.is_empty() => {
                self.error("config-secret", &node.span, "a secret cannot be empty", None);
                None
            }
            Data::Text(text) => Some(Secret::new(text.clone().into_bytes())),
            Data::Integer(..) | Data::Float(..) | Data::Bool(_) => {
                let message = format!("expected a text, found {}", node.what());
                self.error("config-type", &node.span, message, Some("put the secret in quotes".into()));
                None
            }
            Data::Map(entries) => {
                let [entry] = &entries[..] else {
                    let message = "a secret is a text, `{env: NAME}` or `{file: PATH}`";
                    self.error("config-secret", &node.shown(), message, None);
                    return None;
                };
                match &*entry.key {
                    "env" => self.environment_secret(&entry.value),
                    "file" => self.file_secret(&entry.value),
                    other => {
                        let help = suggest(other, ["env", "file"].into_iter())
                            .map_or("known keys: env, file".to_owned(), |near| {
                                format!("did you mean `{near}`?")
                            });
                        self.error(
                            "config-unknown-key",
                            &entry.key_span,
                            "unknown key in a secret",
                            Some(help),
                        );
                        None
                    }
                }
            }
            Data::Null | Data::List(_) => {
                self.wrong_type(node, "a text, `{env: NAME}` or `{file: PATH}`");
                None
            }
        }
    }

    fn environment_secret(&mut self, node: &Node) -> Option<Secret> {
        let name = self.text(node)?;
        let problem = match self.inputs.env(name) {
            Some(value) if !value.is_empty() => return Some(Secret::new(value)),
            Some(_) => "is empty",
            None => "is not set",
        };
        let message = format!("the environment variable `{name}` {problem}");
        self.error(
            "config-secret",
            &node.span,
            message,
            Some(format!("set `{name}` where Nereus is started")),
        );
        None
    }

    fn file_secret(&mut self, node: &Node) -> Option<Secret> {
        let path = Path::new(self.text(node)?);
        match self.inputs.read(path) {
            Ok(octets) => {
                self.remember(path, Some(ContentHash::of(&octets)), Some(true), &node.span);
                let octets = zeroize::Zeroizing::new(octets);
                let end = octets.iter().rposition(|b| !matches!(b, b'\n' | b'\r')).map_or(0, |last| last + 1);
                if end == 0 {
                    let message = format!("the secret's file `{}` is empty", path.display());
                    self.error("config-secret", &node.span, message, None);
                    return None;
                }
                Some(Secret::new(octets[..end].to_vec()))
            }
            Err(error) => {
                self.remember(path, None, Some(true), &node.span);
                let message = format!("cannot read the secret's file `{}`: {error}", path.display());
                let help = "a relative path counts from the directory that Nereus is started in";
                let help = path.is_relative().then(|| help.to_owned());
                self.error("config-secret", &node.span, message, help);
                None
            }
        }
    }
}
