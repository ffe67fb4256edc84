//! The program as its user meets it: arguments, exit codes, what it prints, what it sends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use nereus::value::Value;
use nereus::version::Version;
use nereus::wire::{CommunityMessage, Message, decode};

/// For what must come soon and is only slow when it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

fn nereus(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nereus"));
    command
        .args(arguments)
        .env_remove("NEREUS_ADMIN_TOKEN")
        .env_remove("NEREUS_COMMUNITY")
        .stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    nereus(arguments).output().unwrap()
}

#[track_caller]
fn check(output: &Output, code: i32) -> (String, String) {
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout: {out}\nstderr: {err}");
    (out, err)
}

fn receiver() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_535];
    let (len, _) = socket.recv_from(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

fn community(datagram: &[u8]) -> CommunityMessage<'_> {
    match decode(datagram).unwrap() {
        Message::Community(message) => message,
        other => panic!("{other:?}"),
    }
}

fn names(message: &CommunityMessage<'_>) -> Vec<String> {
    message.notification.varbinds.iter().map(|varbind| varbind.name.to_string()).collect()
}

#[test]
fn exit_codes_tell_wrong_usage_from_a_bad_answer() {
    let (out, _) = check(&run(&["--version"]), 0);
    assert_eq!(out, format!("nereus {}\n", env!("CARGO_PKG_VERSION")));
    check(&run(&["--help"]), 0);
    for wrong in [
        &["nonsense"][..],
        &["mib"],
        &["mib", "lookup"],
        &["send", "linkDown"],
        &["send", "--to", "127.0.0.1:1", "--v1", "--v2c", "linkDown"],
        &["send", "--to", "127.0.0.1:1", "--rate", "5", "linkDown"],
        &["send", "--to", "127.0.0.1:1", "--count", "5", "linkDown"],
        &["send", "--to", "127.0.0.1:1", "--rate", "5", "--duration", "soon", "linkDown"],
        &["send", "--to", "192.0.2.1:1", "--rate", "5", "--count", "1", "--sources", "2", "linkDown"],
        &["send", "--to", "127.0.0.1:x", "linkDown"],
        &["events", "--severity", "awful"],
        &["events", "--since", "yesterday"],
        &["status", "--admin", "ftp://127.0.0.1"],
    ] {
        let (out, err) = check(&run(wrong), 2);
        assert!(out.is_empty() && !err.is_empty(), "{wrong:?}: {out}{err}");
    }
    for wrong in [
        &["send", "--to", "127.0.0.1:1", "--inform", "--v1", "linkDown"][..],
        &["send", "--to", "127.0.0.1:1", "--inform", "--rate", "1", "--count", "1", "linkDown"],
        &["send", "--to", "127.0.0.1:1", "--retries", "1", "linkDown"],
    ] {
        check(&run(wrong), 2);
    }
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let inform = ["send", "--to", &closed, "--inform", "--timeout", "50ms", "--retries", "1", "coldStart"];
    let (_, err) = check(&run(&inform), 3);
    assert!(err.contains("did not answer") && err.contains("tries: 2"), "{err}");
}

#[test]
fn lookup_answers_each_question_in_order() {
    let (out, _) =
        check(&run(&["mib", "lookup", "--json", "linkDown", "1.3.6.1.2.1.2.2.1.2.3", "ifDescr.3"]), 0);
    let answers: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers[0]["text"], "IF-MIB::linkDown");
    assert_eq!(answers[0]["kind"], "notification");
    assert_eq!(answers[0]["oid"], "1.3.6.1.6.3.1.1.5.3");
    for (answer, query) in answers[1..].iter().zip(["1.3.6.1.2.1.2.2.1.2.3", "ifDescr.3"]) {
        assert_eq!(answer["query"], query);
        assert_eq!(answer["text"], "IF-MIB::ifDescr.3");
        assert_eq!(answer["module"], "IF-MIB");
        assert_eq!(answer["name"], "ifDescr");
        assert_eq!(answer["oid"], "1.3.6.1.2.1.2.2.1.2.3");
    }
    let (out, err) = check(&run(&["mib", "lookup", "linkDwon", "linkUp"]), 1);
    assert!(err.contains("did you mean") && err.contains("linkDown"), "{err}");
    assert!(out.contains("IF-MIB::linkUp"), "{out}");
    assert!(!out.contains('\x1b'), "colours into a pipe");
}

#[test]
fn lookup_answers_before_the_next_question_is_asked() {
    let mut child = nereus(&["mib", "lookup", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut questions = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    for (question, field, expected) in [
        ("linkUp\n", "text", "IF-MIB::linkUp"),
        ("\x1b[2J\n", "query", "\x1b[2J"),
        ("sysName.0\r\n", "oid", "1.3.6.1.2.1.1.5.0"),
    ] {
        questions.write_all(question.as_bytes()).unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer[field], expected);
    }
    drop(questions);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn lookup_reads_folders() {
    let folder = tempfile::tempdir().unwrap();
    let text = "ACME-MIB DEFINITIONS ::= BEGIN\nIMPORTS enterprises FROM SNMPv2-SMI;\n\
                acme OBJECT IDENTIFIER ::= { enterprises 55555 }\nEND\n";
    std::fs::write(folder.path().join("ACME-MIB.txt"), text).unwrap();
    let path = folder.path().to_str().unwrap();
    let (out, _) = check(&run(&["mib", "lookup", "--mibs", path, "--json", "1.3.6.1.4.1.55555.1"]), 0);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["text"], "ACME-MIB::acme.1");
    assert_eq!(answer["line"], 3);
    assert!(answer["file"].as_str().unwrap().ends_with("ACME-MIB.txt"), "{out}");
    let (_, err) = check(&run(&["mib", "lookup", "--mibs", "/nonexistent/mibs", "linkUp"]), 3);
    assert!(err.contains("/nonexistent/mibs"), "{err}");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let mut child =
        nereus(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(err, "");
}

#[test]
fn completions_are_not_empty() {
    for shell in ["bash", "zsh", "fish"] {
        let (out, _) = check(&run(&["completions", shell]), 0);
        assert!(out.contains("lookup") && out.contains("vary"), "{shell}");
    }
}

#[test]
fn a_v2c_trap_by_names() {
    let (socket, address) = receiver();
    let (out, err) = check(
        &run(&[
            "send",
            "--to",
            &address,
            "--community",
            "s3cret",
            "IF-MIB::linkDown",
            "ifIndex.3=3",
            "ifAdminStatus.3=up",
            "ifOperStatus.3=lowerLayerDown",
            "ifDescr.3=Gi0/3",
            "sysObjectID=enterprises.9.1.5",
            "1.3.6.1.4.1.5.1.0:C=18446744073709551615",
        ]),
        0,
    );
    assert!(out.contains("IF-MIB::linkDown") && !out.contains("s3cret"), "{out}");
    assert_eq!(err, "");
    let datagram = receive(&socket);
    let message = community(&datagram);
    assert_eq!(message.version, Version::V2c);
    assert_eq!(message.community, b"s3cret");
    assert_eq!(message.notification.trap_oid.to_string(), "1.3.6.1.6.3.1.1.5.3");
    assert!(message.notification.uptime.is_some());
    assert_eq!(
        names(&message),
        [
            "1.3.6.1.2.1.2.2.1.1.3",
            "1.3.6.1.2.1.2.2.1.7.3",
            "1.3.6.1.2.1.2.2.1.8.3",
            "1.3.6.1.2.1.2.2.1.2.3",
            "1.3.6.1.2.1.1.2.0",
            "1.3.6.1.4.1.5.1.0"
        ]
    );
    let values: Vec<Value<'_>> = message.notification.varbinds.iter().map(|varbind| varbind.value).collect();
    assert_eq!(
        values[..4],
        [Value::Integer(3), Value::Integer(1), Value::Integer(7), Value::Octets(b"Gi0/3")]
    );
    assert!(matches!(values[4], Value::Oid(oid) if oid.to_string() == "1.3.6.1.4.1.9.1.5"));
    assert_eq!(values[5], Value::Counter64(u64::MAX));
}

#[test]
fn a_v1_trap_by_the_reverse_mapping() {
    let (socket, address) = receiver();
    check(&run(&["send", "--to", &address, "--v1", "linkDown", "ifIndex.1=1", "sysUpTime.0=4711"]), 0);
    let datagram = receive(&socket);
    let message = community(&datagram);
    assert_eq!(message.version, Version::V1);
    assert_eq!(message.community, b"public");
    let notification = message.notification;
    assert_eq!(notification.trap_oid.to_string(), "1.3.6.1.6.3.1.1.5.3");
    assert_eq!(notification.enterprise.unwrap().to_string(), "1.3.6.1.6.3.1.1.5");
    assert_eq!(notification.agent_addr, Some([127, 0, 0, 1]));
    assert_eq!(notification.uptime, Some(4711));

    let specific =
        ["--v1", "--agent-addr", "192.0.2.7", "1.3.6.1.4.1.9.9.43.2.0.1", "1.3.6.1.4.1.9.9.43.1.0:i=-5"];
    check(&run(&[&["send", "--to", &address], &specific[..]].concat()), 0);
    let datagram = receive(&socket);
    let notification = community(&datagram).notification;
    assert_eq!(notification.trap_oid.to_string(), "1.3.6.1.4.1.9.9.43.2.0.1");
    assert_eq!(notification.enterprise.unwrap().to_string(), "1.3.6.1.4.1.9.9.43.2");
    assert_eq!(notification.agent_addr, Some([192, 0, 2, 7]));
    assert_eq!(notification.varbinds.iter().next().unwrap().value, Value::Integer(-5));

    let (_, err) = check(&run(&["send", "--to", &address, "--v1", "linkDown", "ifHCInOctets.1=1"]), 2);
    assert!(err.contains("Counter64"), "{err}");
}

#[test]
fn bad_names_and_values_are_all_told_and_nothing_is_sent() {
    let (socket, address) = receiver();
    let (_, err) = check(&run(&["send", "--to", &address, "linkDwon"]), 2);
    assert!(err.contains("did you mean") && err.contains("linkDown"), "{err}");
    let (_, err) = check(
        &run(&["send", "--to", &address, "linkDown", "ifIndx.1=1", "ifAdminStatus.1=sideways", "ifIndex=1"]),
        2,
    );
    for hint in ["ifIndex", "up, down, testing", "add the row"] {
        assert!(err.contains(hint), "{err}");
    }
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 16]).is_err());
}

#[test]
fn a_missing_object_is_only_noted() {
    let (socket, address) = receiver();
    let (_, err) = check(&run(&["send", "--to", &address, "linkDown", "ifIndex.1=1"]), 0);
    assert!(err.contains("ifAdminStatus, ifOperStatus"), "{err}");
    receive(&socket);
}

#[test]
fn a_closed_port_is_told() {
    let (socket, address) = receiver();
    drop(socket);
    let (_, err) = check(&run(&["send", "--to", &address, "coldStart"]), 3);
    assert!(err.contains(&address) && err.contains("listens"), "{err}");
}

/// What arrives until no more comes: the request-id, ifIndex and its row, and the sender's port of each datagram.
fn collect(socket: UdpSocket, expected: usize) -> JoinHandle<Vec<(i32, i32, u32, std::net::IpAddr)>> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        let mut seen = Vec::new();
        while seen.len() < expected {
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            let notification = community(&buffer[..len]).notification;
            let first = notification.varbinds.iter().next().unwrap();
            let Value::Integer(index) = first.value else {
                panic!("{:?}", first.value);
            };
            seen.push((notification.request_id, index, first.name.arcs().last().unwrap(), from.ip()));
        }
        seen
    })
}

#[test]
fn a_rate_sends_exactly_so_many() {
    const COUNT: usize = 500;
    let (socket, address) = receiver();
    let seen = collect(socket.try_clone().unwrap(), COUNT);
    let (out, _) = check(
        &run(&[
            "send",
            "--to",
            &address,
            "--rate",
            "5000",
            "--count",
            "500",
            "--vary",
            "ifIndex=1..100",
            "--sources",
            "3",
            "--json",
            "linkDown",
        ]),
        0,
    );
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["sent"], COUNT);
    assert_eq!((&report["refused"], &report["errors"]), (&0.into(), &0.into()));
    let (rate, seconds) = (report["rate"].as_f64().unwrap(), report["seconds"].as_f64().unwrap());
    assert!(rate <= 5_100.0 && seconds >= 0.098, "{out}");
    let seen = seen.join().unwrap();
    for (at, (request_id, index, row, from)) in seen.iter().enumerate() {
        assert_eq!(*index as usize, at % 100 + 1);
        assert_eq!(*row as usize, at % 100 + 1);
        assert_eq!(request_id.wrapping_sub(seen[0].0) as usize, at);
        assert_eq!(from.to_string(), format!("127.0.0.{}", at % 3 + 1));
    }
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 16]).is_err(), "one more than asked for");
}

#[test]
fn a_duration_ends_and_refusals_do_not_count_as_sent_twice() {
    let (socket, address) = receiver();
    let seen = collect(socket, 50);
    let arguments = [
        "send",
        "--to",
        &address,
        "--rate",
        "100",
        "--duration",
        "500ms",
        "--json",
        "linkDown",
        "ifIndex.7=9",
    ];
    let (out, _) = check(&run(&arguments), 0);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["sent"], 50);
    assert_eq!(seen.join().unwrap().len(), 50);

    let (socket, address) = receiver();
    drop(socket);
    let arguments = ["send", "--to", &address, "--rate", "1000", "--count", "20", "--json", "coldStart"];
    let (out, err) = check(&run(&arguments), 3);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["sent"], 20, "each was taken by the kernel once: {out}");
    assert!(report["refused"].as_u64().unwrap() >= 1, "{out}");
    assert!(err.contains("listens"), "{err}");
}

/// Answers one request with `status` and `body`; gives the request's head.
fn admin(status: &'static str, body: &'static str) -> (String, JoinHandle<String>) {
    let (address, served) = admin_pages(status, vec![body]);
    (address, std::thread::spawn(move || served.join().unwrap().remove(0)))
}

/// Answers a request with each of `bodies`; gives the requests' heads.
fn admin_pages(status: &'static str, bodies: Vec<&'static str>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = move |body: &&str| {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = String::new();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(lines.read_line(&mut head).unwrap(), 0, "{head}");
        }
        let len = body.len();
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{body}")
            .unwrap();
        head
    };
    (address, std::thread::spawn(move || bodies.iter().map(serve).collect()))
}

#[test]
fn events_pass_their_filters_and_no_control_characters() {
    let body = r#"{"events":[{"id":17,"time":"2026-01-31T12:00:00Z","source":"192.0.2.1","trap_name":"IF-MIB::linkDown",
        "severity":"major","alert":"InterfaceDown","varbinds":[{"name":"IF-MIB::ifDescr","index":"3","text":"Gi\u001b[2J"}]}]}"#;
    let arguments = [
        "--severity",
        "major",
        "--trap",
        "IF-MIB::linkDown",
        "--since",
        "2026-01-31T00:00:00Z",
        "--limit",
        "5",
    ];
    let (address, served) = admin("200 OK", body);
    let (out, _) = check(&run(&[&["events", "--admin", &address], &arguments[..]].concat()), 0);
    let head = served.join().unwrap();
    let expected =
        "GET /api/v1/events?since=2026-01-31T00%3A00%3A00Z&trap=IF-MIB%3A%3AlinkDown&severity=major&limit=5 ";
    assert!(head.starts_with(expected), "{head}");
    assert!(out.contains("InterfaceDown") && out.contains("ifDescr.3=Gi\\u{1b}[2J"), "{out}");
    assert!(!out.contains('\x1b'), "{out:?}");

    let (address, served) = admin("200 OK", body);
    let (out, _) = check(&run(&["events", "--admin", &address, "--json"]), 0);
    served.join().unwrap();
    let event: serde_json::Value = serde_json::from_str(out.trim_end()).unwrap();
    assert_eq!(event["id"], 17);
    assert_eq!(out.lines().count(), 1);
}

#[test]
fn events_come_page_by_page() {
    // The second page is empty: the server's time was up before it found anything.
    let pages = vec![
        r#"{"events":[{"id":9}],"next":9,"damaged":0}"#,
        r#"{"events":[],"next":5,"damaged":2}"#,
        r#"{"events":[{"id":4},{"id":3}],"next":3,"damaged":0}"#,
    ];
    let (address, served) = admin_pages("200 OK", pages);
    let (out, err) = check(&run(&["events", "--json", "--limit", "3", "--admin", &address]), 0);
    assert_eq!(out, "{\"id\":9}\n{\"id\":4}\n{\"id\":3}\n");
    assert!(err.contains("2 events are damaged") && err.contains("--limit asks for more"), "{err}");
    let paths: Vec<String> =
        served.join().unwrap().iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect();
    let expected = ["limit=3", "limit=2&before=9", "limit=2&before=5"];
    assert_eq!(paths, expected.map(|query| format!("/api/v1/events?{query}")));
}

#[test]
fn a_configuration_names_address_token_and_folders() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("token"), "from-the-configuration").unwrap();
    std::fs::create_dir(path("mibs")).unwrap();
    let text = "ACME-MIB DEFINITIONS ::= BEGIN\nIMPORTS enterprises FROM SNMPv2-SMI;\n\
                acme OBJECT IDENTIFIER ::= { enterprises 55555 }\nEND\n";
    std::fs::write(path("mibs/ACME-MIB"), text).unwrap();
    let (address, served) = admin("200 OK", r#"{"alerts":[]}"#);
    let token = path("token");
    let mibs = path("mibs");
    let text = format!(
        "admin: {{address: \"{address}\", token: {{file: {token}}}}}\nmib: {{directories: [{mibs}]}}\n"
    );
    std::fs::write(path("nereus.yaml"), text).unwrap();
    let (_, err) = check(&run(&["alerts", "-c", &path("nereus.yaml")]), 0);
    assert!(err.contains("no alerts"), "{err}");
    assert!(served.join().unwrap().contains("authorization: Bearer from-the-configuration\r\n"));
    let (out, _) = check(&run(&["mib", "lookup", "-c", &path("nereus.yaml"), "acme"]), 0);
    assert!(out.contains("1.3.6.1.4.1.55555"), "{out}");
    // A file that was broken since the start still names where its Nereus is asked.
    let (address, served) = admin("200 OK", r#"{"alerts":[]}"#);
    std::fs::write(path("nereus.yaml"), format!("admin: {{address: \"{address}\"}}\nrulez: []\n")).unwrap();
    let (_, err) = check(&run(&["alerts", "-c", &path("nereus.yaml")]), 0);
    assert!(err.contains("has errors") && err.contains("no alerts"), "{err}");
    served.join().unwrap();
    std::fs::write(path("nereus.yaml"), "admin: {address: [\n").unwrap();
    let (_, err) = check(&run(&["alerts", "-c", &path("nereus.yaml")]), 3);
    assert!(err.contains("nereus.yaml:"), "{err}");
}

#[test]
fn alerts_and_status_read_as_tables_and_as_json() {
    let body = r#"{"alerts":[{"id":1,"alert":"InterfaceDown","severity":"major","state":"firing","count":3,
        "labels":{"alertname":"InterfaceDown","severity":"major","source":"192.0.2.1"},"annotations":{"summary":"core is down"}}]}"#;
    let (address, served) = admin("200 OK", body);
    let (out, _) = check(&run(&["alerts", "--all", "--admin", &address]), 0);
    assert!(served.join().unwrap().starts_with("GET /api/v1/alerts?limit=10000&all=true "));
    assert!(out.contains("core is down") && out.contains("  source=192.0.2.1  "), "{out}");

    let (address, served) = admin("200 OK", r#"{"generation":4,"mib":{"modules":7}}"#);
    let (out, _) = check(&run(&["status", "--admin", &address]), 0);
    served.join().unwrap();
    assert!(out.contains("mib.modules  7") && out.contains("generation"), "{out}");
}

#[test]
fn the_token_goes_along_and_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "from-the-file\n").unwrap();
    let (address, served) = admin("401 Unauthorized", r#"{"error":"wrong token"}"#);
    let output = nereus(&["status", "--admin", &address, "--token-file", file.to_str().unwrap()])
        .env("NEREUS_ADMIN_TOKEN", "from-the-environment")
        .output()
        .unwrap();
    let (out, err) = check(&output, 3);
    assert!(served.join().unwrap().contains("authorization: Bearer from-the-file\r\n"));
    assert!(err.contains("wrong token") && err.contains("--token-file"), "{err}");
    assert!(!out.contains("from-the") && !err.contains("from-the"), "{out}{err}");

    let (address, served) = admin("200 OK", r#"{"alerts":[]}"#);
    let output = nereus(&["alerts", "--admin", &address])
        .env("NEREUS_ADMIN_TOKEN", "from-the-environment")
        .output()
        .unwrap();
    check(&output, 0);
    assert!(served.join().unwrap().contains("authorization: Bearer from-the-environment\r\n"));
}

#[test]
fn a_failed_question_names_the_address_and_the_remedy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (_, err) = check(&run(&["alerts", "--admin", &address]), 3);
    assert!(err.contains(&address) && err.contains("is Nereus running"), "{err}");
    for (status, body, code, hint) in [
        ("400 Bad Request", r#"{"error":"no such source"}"#, 2, "no such source"),
        ("404 Not Found", "", 3, "of this version"),
        ("200 OK", "<html>", 3, "no JSON"),
        ("200 OK", r#"{"nothing":1}"#, 3, "no alerts"),
        ("302 Found", "", 3, "302"),
    ] {
        let (address, served) = admin(status, body);
        let (_, err) = check(&run(&["alerts", "--admin", &address]), code);
        served.join().unwrap();
        assert!(err.contains(hint), "{status}: {err}");
    }
}
