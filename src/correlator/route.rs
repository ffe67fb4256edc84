//! Who hears of a change: the running generation's webhooks, as far as the correlator must know them.

use std::sync::Arc;

/// How a webhook is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Each change is an event of its own and gets a row in the outbox.
    Event,
    /// The worker reads what each alert is now (Alertmanager), so that no row is needed.
    State,
    /// It is told of no alert: the worker reads the events of the journal.
    Journal,
}

/// One webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its name, which rules give in `notify`.
    pub name: Arc<str>,
    /// How it is told.
    pub kind: RouteKind,
}

/// The webhooks of one generation, in the order of the settings. Made once a generation and shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    events: Vec<Arc<str>>,
}

impl Routes {
    /// Of all webhooks of a generation.
    pub fn new(webhooks: impl IntoIterator<Item = Route>) -> Self {
        let events = webhooks.into_iter().filter(|route| route.kind == RouteKind::Event);
        Self { events: events.map(|route| route.name).collect() }
    }

    /// The webhooks that need an outbox row for a change of an alert with this `notify` (`None` is every
    /// one). A name that no webhook has is passed over: the webhook was removed since.
    pub(super) fn queue_for(&self, notify: Option<&[Arc<str>]>) -> Vec<Arc<str>> {
        let wanted = |name: &&Arc<str>| notify.is_none_or(|names| names.contains(name));
        self.events.iter().filter(wanted).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_event_webhooks_that_the_rule_names_get_a_row() {
        let route = |name: &str, kind| Route { name: name.into(), kind };
        let routes = Routes::new([
            route("am", RouteKind::State),
            route("noc", RouteKind::Journal),
            route("one", RouteKind::Event),
            route("two", RouteKind::Event),
        ]);
        let names = |notify: Option<&[&str]>| {
            let notify: Option<Vec<Arc<str>>> = notify.map(|n| n.iter().map(|&n| n.into()).collect());
            routes.queue_for(notify.as_deref()).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["one", "two"]);
        assert_eq!(names(Some(&["am", "two", "gone"])), ["two"]);
        assert!(names(Some(&[])).is_empty());
    }
}
