//! What takes the place of an HTTP endpoint: a file, a syslog receiver, an SNMP receiver. The queue, the retries, the breaker and the
//! dead letters are the same.

mod file;
mod forward;
mod syslog;

use std::sync::Arc;

use super::connect::Network;
use super::flights::Hands;
use super::webhook::{Endpoint, Message, Outcome};
use crate::config::settings::{Output, WebhookSettings, WebhookUrl};

pub(super) use forward::{Framed, datagram};
pub(super) use syslog::messages as syslog_messages;

/// Whatever a lane posts to.
pub(super) enum Target {
    Http(Box<Endpoint>),
    File(Arc<file::Appender>),
    Syslog(Box<syslog::Sender>),
    Forward(Box<forward::Sender>),
}

impl Target {
    /// Prepares what `settings` say of `url`. HTTP connections are in `hands`.
    ///
    /// # Errors
    /// As [`Endpoint::new`].
    pub(super) async fn new(
        settings: &WebhookSettings,
        url: &WebhookUrl,
        network: &Arc<Network>,
        hands: Hands,
    ) -> Result<Self, String> {
        match &settings.output {
            None => {
                let endpoint = Endpoint::new(settings, url, network, hands).await?;
                Ok(Self::Http(Box::new(endpoint)))
            }
            Some(Output::File(file)) => Ok(Self::File(Arc::new(file::Appender::new(file.clone())))),
            Some(Output::Syslog(syslog)) => {
                Ok(Self::Syslog(Box::new(syslog::Sender::new(syslog.clone(), settings, network))))
            }
            Some(Output::Forward(forward)) => {
                Ok(Self::Forward(Box::new(forward::Sender::new(forward.clone(), settings))))
            }
        }
    }

    /// Posts `message` once.
    pub(super) async fn post(&self, message: Message) -> Outcome {
        match self {
            Self::Http(endpoint) => endpoint.post(message).await,
            Self::File(file) => {
                let file = Arc::clone(file);
                let written = tokio::task::spawn_blocking(move || file.append(&message.body)).await;
                match written {
                    Ok(Ok(())) => Outcome::Taken,
                    // A disk that is full or a folder that is gone has refused nothing: it is to be repaired.
                    Ok(Err(error)) => Outcome::unreached(error.to_string()),
                    Err(_) => Outcome::unreached("the write has panicked".to_owned()),
                }
            }
            Self::Syslog(sender) => sender.send(&message.body).await,
            Self::Forward(sender) => sender.send(&message.body).await,
        }
    }
}
