//! Who may ask the admin address: Host, Origin, method and token, decided before any route is reached.
//!
//! The address is meant for this machine's people and programs. A browser on this machine is neither:
//! a page from elsewhere must not reach it, be it by a form, by a script, or by a name that it has
//! made point to 127.0.0.1. So the Host must be a known name exactly, a foreign Origin is refused, and
//! what changes state is POST with a token wherever one is set.

use axum::http::{HeaderMap, Method, StatusCode, header};

use crate::config::settings::{AdminSettings, Secret};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Host is missing, doubled or not one of ours.
    Host,
    /// Origin or Sec-Fetch-Site names another site.
    Origin,
    /// A change that an HTML form could have sent.
    Form,
    /// No token, or a wrong one.
    Token,
    /// A token that is only for reading.
    ReadOnly,
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin | Self::ReadOnly => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Form => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Host => "the Host header names none of this program's names; add it to admin.hosts",
            Self::Origin => "requests from other sites are refused",
            Self::Form => "a form's content type is refused: send no body, or application/json",
            Self::Token => "a bearer token is needed: Authorization: Bearer …",
            Self::ReadOnly => "this token is for reading alone",
        }
    }
}

/// What a path needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing but a right Host: `/health` and `/ready`.
    Nothing,
    /// The right to read.
    Read,
    /// The right to change.
    Change,
}

impl Need {
    /// By method and path. Everything that is not GET or HEAD changes something.
    pub(super) fn of(method: &Method, path: &str) -> Self {
        match (method == Method::GET || method == Method::HEAD, path) {
            (true, "/health" | "/ready") => Self::Nothing,
            (true, _) => Self::Read,
            (false, _) => Self::Change,
        }
    }
}

/// Decides on one request.
///
/// # Errors
/// The first refusal that applies.
pub(super) fn admit(settings: &AdminSettings, headers: &HeaderMap, need: Need) -> Result<(), Refusal> {
    let host = only(headers, header::HOST).filter(|host| known_host(settings, host)).ok_or(Refusal::Host)?;
    if headers.contains_key(header::ORIGIN) {
        let origin = only(headers, header::ORIGIN).ok_or(Refusal::Origin)?;
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !own.is_some_and(|own| own.eq_ignore_ascii_case(host)) {
            return Err(Refusal::Origin);
        }
    }
    if let Some(site) = headers.get("sec-fetch-site")
        && !matches!(site.as_bytes(), b"same-origin" | b"none")
    {
        return Err(Refusal::Origin);
    }
    // What a page can send without asking us first: not every browser names the Origin of a form.
    if need == Need::Change && headers.get_all(header::CONTENT_TYPE).iter().any(of_a_form) {
        return Err(Refusal::Form);
    }
    // A loopback address needs no token; the settings make sure that any other has one, and that it stays is
    // a restart's matter.
    if settings.token.is_none() && settings.address.ip().is_loopback() {
        return Ok(());
    }
    with_token(settings, headers, need)
}

fn with_token(settings: &AdminSettings, headers: &HeaderMap, need: Need) -> Result<(), Refusal> {
    if need == Need::Nothing {
        return Ok(());
    }
    let given = only(headers, header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let is = |secret: &Option<Secret>| {
        secret.as_ref().zip(given).is_some_and(|(secret, given)| secret.matches(given.as_bytes()))
    };
    match (is(&settings.token), is(&settings.read_token), need) {
        (true, _, _) | (_, true, Need::Read) => Ok(()),
        (_, true, _) => Err(Refusal::ReadOnly),
        _ => Err(Refusal::Token),
    }
}

/// Whether a cross-site form or script can send this content type unasked.
fn of_a_form(value: &header::HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return true };
    let kind = text.split(';').next().unwrap_or_default().trim();
    let forms = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""];
    forms.iter().any(|form| kind.eq_ignore_ascii_case(form))
}

/// The value of a header that stands there exactly once, as text.
fn only(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn known_host(settings: &AdminSettings, host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        // `[::1]` has colons of its own.
        Some((name, port)) if !port.contains(']') => {
            if !port.bytes().all(|octet| octet.is_ascii_digit()) || port.is_empty() {
                return false;
            }
            name
        }
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|own| own.eq_ignore_ascii_case(name))
        || settings.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_our_own_names_are_hosts() {
        let settings = AdminSettings { hosts: vec!["nms.example".into()], ..AdminSettings::default() };
        for host in ["localhost", "localhost:9090", "127.0.0.1:1", "[::1]", "[::1]:9090", "NMS.example:443"] {
            assert_eq!(admit(&settings, &headers(&[("host", host)]), Need::Change), Ok(()), "{host}");
        }
        for host in [
            "127.0.0.1.evil.com",
            "127.0.0.1.evil.com:9090",
            "localhost.",
            "evil.com",
            "127.0.0.2",
            "[::2]",
            "localhost:9090:1",
            "localhost:",
            "",
            "localhost@evil.com",
            "127.0.0.1:x",
            "::1",
        ] {
            assert_eq!(
                admit(&settings, &headers(&[("host", host)]), Need::Read),
                Err(Refusal::Host),
                "{host}"
            );
        }
        assert_eq!(admit(&settings, &headers(&[]), Need::Read), Err(Refusal::Host));
        let two = headers(&[("host", "localhost"), ("host", "localhost")]);
        assert_eq!(admit(&settings, &two, Need::Read), Err(Refusal::Host));
    }

    #[test]
    fn a_foreign_origin_is_refused_even_for_reading() {
        let settings = AdminSettings::default();
        let ask = |origin: &str| {
            admit(&settings, &headers(&[("host", "localhost:9090"), ("origin", origin)]), Need::Read)
        };
        assert_eq!(ask("http://localhost:9090"), Ok(()));
        for origin in
            ["http://evil.com", "null", "http://localhost:9091", "http://localhost:9090.evil.com", ""]
        {
            assert_eq!(ask(origin), Err(Refusal::Origin), "{origin}");
        }
    }

    #[test]
    fn what_a_form_could_send_changes_nothing() {
        let settings = AdminSettings::default();
        let ask = |name: &'static str, value: &str, need| {
            admit(&settings, &headers(&[("host", "localhost"), (name, value)]), need)
        };
        for kind in [
            "text/plain",
            "TEXT/plain; charset=utf-8",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
        ] {
            assert_eq!(ask("content-type", kind, Need::Change), Err(Refusal::Form), "{kind}");
            assert_eq!(ask("content-type", kind, Need::Read), Ok(()));
        }
        assert_eq!(ask("content-type", "application/json", Need::Change), Ok(()));
        for site in ["cross-site", "same-site", "", "SAME-ORIGIN"] {
            assert_eq!(ask("sec-fetch-site", site, Need::Read), Err(Refusal::Origin), "{site}");
        }
        assert_eq!(ask("sec-fetch-site", "same-origin", Need::Change), Ok(()));
    }

    #[test]
    fn tokens_open_what_they_are_for() {
        let settings = AdminSettings {
            address: "192.0.2.1:9090".parse().unwrap(),
            token: Some(Secret::new(b"all".to_vec())),
            read_token: Some(Secret::new(b"read".to_vec())),
            ..AdminSettings::default()
        };
        let ask = |token: Option<&str>, need| {
            let mut list = vec![("host", "localhost")];
            list.extend(token.map(|token| ("authorization", token)));
            admit(&settings, &headers(&list), need)
        };
        assert_eq!(ask(None, Need::Nothing), Ok(()));
        assert_eq!(ask(None, Need::Read), Err(Refusal::Token));
        assert_eq!(ask(Some("Bearer read"), Need::Read), Ok(()));
        assert_eq!(ask(Some("Bearer read"), Need::Change), Err(Refusal::ReadOnly));
        assert_eq!(ask(Some("Bearer all"), Need::Change), Ok(()));
        for wrong in ["Bearer al", "Bearer alll", "all", "Basic all", "Bearer "] {
            assert_eq!(ask(Some(wrong), Need::Read), Err(Refusal::Token), "{wrong}");
        }
    }
}
