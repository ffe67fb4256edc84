//! Nereus as a service: sockets that were bound for it, what it may do afterwards, what the service manager hears.
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

#[path = "common/peers.rs"]
mod peers;
#[path = "common/nereus.rs"]
mod program;
#[path = "common/trap.rs"]
mod trap;

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use program::{Nereus, PATIENCE, signal};

fn stored(nereus: &Nereus, number: usize) {
    nereus.wait("they are stored", |nereus| {
        let events = nereus.json("/api/v1/events?limit=1000")["events"].as_array().unwrap().len();
        (events == number).then_some(())
    });
}

#[test]
fn capabilities_are_given_up_by_every_thread() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), "");
    let mut threads = 0;
    for task in fs::read_dir(format!("/proc/{}/task", nereus.pid())).unwrap() {
        let Ok(status) = fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        // CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, which root keeps for its files.
        for set in ["CapEff:", "CapPrm:", "CapAmb:"] {
            assert_eq!(field(set) & !0b110, 0, "{set} of\n{status}");
        }
        assert_eq!((field("CapInh:"), field("NoNewPrivs:")), (0, 1), "{status}");
        threads += 1;
    }
    assert!(threads >= 5, "{threads}");
    assert!(nereus.stop().success());
}

/// `systemd-socket-activate`, which binds, waits for traffic, and becomes the program that it was told.
fn activate(folder: &Path, kind: &[&str], address: SocketAddr, settings: &str) -> Option<Command> {
    let activator = peers::find_tool(&["systemd-socket-activate"])?;
    let file = Nereus::configure(folder, settings);
    let mut command = Command::new(activator);
    command.args(kind).arg("-l").arg(address.to_string()).arg(env!("CARGO_BIN_EXE_nereus"));
    command.args(["run", "-c"]).arg(file);
    Some(command)
}

#[test]
fn a_udp_socket_that_was_bound_for_it_is_taken_with_what_waits_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = format!("listener: [{{address: '{address}'}}]\nunmatched: store\n");
    let Some(command) = activate(folder.path(), &["--datagram"], address, &settings) else { return };
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let waker = sender.try_clone().unwrap();
    // It starts the program once something has come, which then waits in the socket.
    let waking = std::thread::spawn(move || {
        for interface in 1..=50 {
            let _ = waker.send_to(&trap::link_down(interface, "public"), address);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    let nereus = Nereus::run_command(folder.path(), command);
    waking.join().unwrap();
    assert_eq!(nereus.traps, address);
    sender.send_to(&trap::link_down(51, "public"), address).unwrap();
    // The first ones may have come before there was a socket.
    let interfaces = nereus.wait("the last is stored", |nereus| {
        let events = nereus.json("/api/v1/events?limit=1000")["events"].as_array().unwrap().clone();
        let numbers: Vec<u64> = events
            .iter()
            .map(|event| event["varbinds"][0]["index"].as_str().unwrap().parse().unwrap())
            .collect();
        numbers.contains(&51).then_some(numbers)
    });
    let first = *interfaces.iter().min().unwrap();
    assert_eq!(interfaces.len() as u64, 51 - first + 1, "none between the first and the last is missing");
    assert_eq!(nereus.json("/api/v1/status")["kernel_drops"][address.to_string()], 0);
    // An inform is answered from it.
    let inform = trap::inform(60, "public");
    sender.send_to(&inform, address).unwrap();
    sender.set_read_timeout(Some(PATIENCE)).unwrap();
    let (_, from) = sender.recv_from(&mut [0; 500]).unwrap();
    assert_eq!(from, address);
    assert!(nereus.stop().success());
}

#[test]
fn a_tcp_socket_that_was_bound_for_it_is_taken() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = format!(
        "listener: [{{address: '127.0.0.1:0', receivers: 1}}, {{address: 'tcp://{address}'}}]\nunmatched: store\n"
    );
    let Some(command) = activate(folder.path(), &[], address, &settings) else { return };
    let sending = std::thread::spawn(move || {
        let begun = std::time::Instant::now();
        loop {
            if let Ok(mut stream) = std::net::TcpStream::connect(address) {
                stream.write_all(&trap::link_down(1, "public")).unwrap();
                return stream;
            }
            assert!(begun.elapsed() < PATIENCE);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    let nereus = Nereus::run_command(folder.path(), command);
    let _stream = sending.join().unwrap();
    stored(&nereus, 1);
    assert!(nereus.stop().success());
}

#[test]
fn the_service_manager_hears_of_readiness_reloads_and_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hears = || {
        let mut buffer = [0; 1000];
        let length = manager.recv(&mut buffer).expect("a word");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let file = Nereus::configure(folder.path(), "");
    let mut command = Command::new(env!("CARGO_BIN_EXE_nereus"));
    command.args(["run", "-c"]).arg(&file).env("NOTIFY_SOCKET", &path);
    let nereus = Nereus::run_command(folder.path(), command);
    let ready = hears();
    assert!(ready.contains("READY=1") && ready.contains("STATUS=generation 1"), "{ready}");
    for (settings, status) in
        [("unmatched: store\n", "STATUS=generation 2"), ("nonsense: 1\n", "STATUS=reload failed")]
    {
        Nereus::configure(folder.path(), settings);
        signal(nereus.pid(), "HUP");
        let reloading = hears();
        assert!(reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
        let ready = hears();
        assert!(ready.contains("READY=1") && ready.contains(status), "{ready}");
    }
    assert!(nereus.stop().success());
    assert_eq!(hears().trim(), "STOPPING=1");
}

#[test]
fn the_units_are_what_systemd_understands() {
    let Some(analyze) = peers::find_tool(&["systemd-analyze"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd");
    // It looks whether the program is there.
    let service = fs::read_to_string(units.join("nereus.service")).unwrap();
    assert!(service.contains("ExecStart=/usr/bin/nereus run"));
    let service = service.replace("/usr/bin/nereus", env!("CARGO_BIN_EXE_nereus"));
    fs::write(folder.path().join("nereus.service"), service).unwrap();
    fs::copy(units.join("nereus.socket"), folder.path().join("nereus.socket")).unwrap();
    let output = Command::new(analyze)
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(["nereus.service", "nereus.socket"].map(|name| folder.path().join(name)))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(!told.contains("nereus."), "{told}");
}
