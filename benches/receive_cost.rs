//! Processor time for each received trap, of whole programs side by side: a bare `recvmmsg` loop, Nereus with and
//! without storage, and snmptrapd that writes lines to a file.
//!
//! Each program gets the same traps from `nereus send` at the same rate, one program after the other; what it used is
//! the run time of its threads (`/proc/PID/task/*/schedstat`), what it received is its own count. Kernel work for the
//! sender's side of loopback is the sender's. For an otherwise idle machine:
//!
//! `cargo bench --bench receive_cost -- --rate 50000 --seconds 10 [--mibs DIR]`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a table is what it is for")]
#![allow(unsafe_code, reason = "the bare loop calls recvmmsg itself")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything but the sending may take.
const PATIENCE: Duration = Duration::from_secs(120);

struct Arguments {
    rate: u64,
    seconds: u64,
    mibs: Option<String>,
}

/// A receiver that runs.
struct Running {
    child: Child,
    /// Where traps go.
    traps: SocketAddr,
    /// How many it has received and is done with.
    count: Box<dyn Fn() -> u64>,
    // Whoever closes it ends a program that still writes.
    _stderr: Option<BufReader<ChildStderr>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let mut arguments = Arguments { rate: 20_000, seconds: 3, mibs: None };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bare" => bare_loop(),
            "--rate" => arguments.rate = number(words.next()),
            "--seconds" => arguments.seconds = number(words.next()),
            "--mibs" => arguments.mibs = words.next(),
            // What cargo and criterion's users say to every bench.
            _ => {}
        }
    }
    // `cargo test --benches` asks whether it starts.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    let folder = std::env::temp_dir().join(format!("nereus-receive-cost-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    println!(
        "{:<44} {:>10} {:>10} {:>8} {:>12} {:>7}",
        "", "sent", "received", "lost", "us CPU/trap", "x bare"
    );
    let mut bare = None;
    let kinds: [(&str, &dyn Fn() -> Option<Running>); 5] = [
        ("bare recvmmsg loop", &bare_program),
        ("Nereus, dropped by a rule", &|| {
            let rules = "rules: [{name: all, match: {trap: IF-MIB::linkDown}, drop: true}]\n";
            Some(nereus(&folder, "dropped", rules, &arguments))
        }),
        ("Nereus, repeats counted (history: first)", &|| {
            let rules = "rules: [{name: all, match: {trap: IF-MIB::linkDown}, alert: Down, severity: major, \
                         key: [source, ifIndex], deduplicate: 1h, history: first}]\n";
            Some(nereus(&folder, "first", rules, &arguments))
        }),
        ("Nereus, every trap stored", &|| Some(nereus(&folder, "stored", "", &arguments))),
        ("snmptrapd, a line each to a file", &|| snmptrapd(&folder, &arguments)),
    ];
    for (name, start) in kinds {
        let Some(running) = start() else {
            println!("{name:<44} not installed");
            continue;
        };
        let (sent, received, cost) = measure(&running, &arguments);
        if bare.is_none() {
            bare = Some(cost);
        }
        let times = bare.map_or(f64::NAN, |bare| cost / bare);
        println!(
            "{name:<44} {sent:>10} {received:>10} {:>8} {cost:>12.2} {times:>7.1}",
            sent.saturating_sub(received)
        );
    }
    let _ = std::fs::remove_dir_all(&folder);
}

fn number(word: Option<String>) -> u64 {
    word.and_then(|word| word.parse().ok()).expect("a number behind the option")
}

/// Sent, received, and microseconds of processor time for each received.
fn measure(running: &Running, arguments: &Arguments) -> (u64, u64, f64) {
    // Tables and buffers grow first.
    send(running.traps, arguments.rate.min(20_000), 1);
    settle(running);
    let (before, used) = ((running.count)(), run_time(running.child.id()));
    let sent = send(running.traps, arguments.rate, arguments.seconds);
    settle(running);
    let received = (running.count)() - before;
    let used = run_time(running.child.id()) - used;
    (sent, received, used as f64 / 1e3 / received.max(1) as f64)
}

/// Waits until the program is done with all that it has received.
fn settle(running: &Running) {
    let begun = Instant::now();
    let (mut last, mut same) = (u64::MAX, 0);
    while same < 8 && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(250));
        let now = (running.count)();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
}

/// What all threads of a process ran, in nanoseconds.
fn run_time(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    tasks.filter_map(of).sum()
}

/// Sends with the project's own generator; gives how many the kernel took.
fn send(to: SocketAddr, rate: u64, seconds: u64) -> u64 {
    let output = Command::new(env!("CARGO_BIN_EXE_nereus"))
        .args(["send", "--to", &to.to_string(), "--json", "--sources", "50", "--vary", "ifIndex=1..20"])
        .args(["--rate", &rate.to_string(), "--duration", &format!("{seconds}s")])
        .args(["linkDown", "ifIndex.1=1", "ifAdminStatus.1=up", "ifOperStatus.1=down"])
        .stdin(Stdio::null())
        .output()
        .expect("nereus send");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let field = text.split("\"sent\":").nth(1).expect("a report");
    field.split([',', '}']).next().and_then(|number| number.parse().ok()).expect("a number")
}

/// The loop that is compared with: this program, which reads batches and counts.
fn bare_program() -> Option<Running> {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .arg("--bare")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program again");
    let mut answers = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    answers.read_line(&mut line).expect("its address");
    let traps = line.trim().parse().expect("an address");
    let talk = std::cell::RefCell::new((child.stdin.take().expect("piped"), answers));
    let count = move || {
        let (ask, answers) = &mut *talk.borrow_mut();
        ask.write_all(b"\n").expect("it runs");
        let mut line = String::new();
        answers.read_line(&mut line).expect("it answers");
        line.trim().parse().expect("a number")
    };
    Some(Running { child, traps, count: Box::new(count), _stderr: None })
}

/// Reads batches as Nereus does and counts; tells the count for each line on standard input.
fn bare_loop() -> ! {
    use std::sync::atomic::{AtomicU64, Ordering};
    const SLOTS: usize = 64;
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let wanted: libc::c_int = 32 << 20;
    for option in [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF] {
        // SAFETY: the pointer is to an integer that is alive for the call, with its size.
        let done = unsafe {
            let value: *const libc::c_int = &raw const wanted;
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value.cast(), 4)
        };
        if done == 0 {
            break;
        }
    }
    println!("{}", socket.local_addr().expect("an address"));
    std::thread::spawn(|| {
        for _ in std::io::stdin().lines() {
            println!("{}", COUNT.load(Ordering::Relaxed));
        }
        std::process::exit(0);
    });
    let mut octets = vec![[0u8; 2048]; SLOTS];
    loop {
        let mut vectors: Vec<libc::iovec> = octets
            .iter_mut()
            .map(|slot| libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() })
            .collect();
        // SAFETY: all zeroes is a valid header.
        let mut headers: [libc::mmsghdr; SLOTS] = unsafe { std::mem::zeroed() };
        for (header, vector) in headers.iter_mut().zip(&mut vectors) {
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every header points at a vector over a slot, all alive for the call.
        let read = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                SLOTS as libc::c_uint,
                libc::MSG_WAITFORONE as _,
                std::ptr::null_mut(),
            )
        };
        COUNT.fetch_add(u64::try_from(read).unwrap_or(0), Ordering::Relaxed);
    }
}

fn nereus(folder: &Path, name: &str, rules: &str, arguments: &Arguments) -> Running {
    let own = folder.join(name);
    std::fs::create_dir_all(&own).expect("a folder");
    let mibs =
        arguments.mibs.as_ref().map_or(String::new(), |mibs| format!("mib: {{directories: ['{mibs}']}}\n"));
    let text = format!(
        "listener: [{{address: '127.0.0.1:0', receivers: 1}}]\nadmin: {{address: '127.0.0.1:0'}}\nstorage: {{path: '{}'}}\n{mibs}{rules}",
        own.join("data").display()
    );
    let file = own.join("nereus.yaml");
    std::fs::write(&file, text).expect("written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_nereus"))
        .args(["run", "-c"])
        .arg(&file)
        .current_dir(&own)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nereus");
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("Nereus is ready") {
        line.clear();
        assert!(log.read_line(&mut line).expect("its log") > 0, "it did not start");
    }
    let address = |field: &str| -> SocketAddr {
        let rest = line.split(&format!("\"{field}\":\"")).nth(1).expect(field);
        rest.split(['"', ',']).next().and_then(|text| text.parse().ok()).expect(field)
    };
    let (traps, admin) = (address("listeners"), address("admin"));
    // Done with is what was stored, counted as a repeat, or dropped.
    let count = move || {
        let mut stream = TcpStream::connect(admin).expect("its admin address");
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let sum = |name: &str| -> u64 {
            let of = |line: &str| {
                let rest = line.strip_prefix(name)?;
                (rest.starts_with([' ', '{'])).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
            };
            text.lines().filter_map(of).sum::<f64>() as u64
        };
        sum("nereus_events_stored_total")
            + sum("nereus_events_deduplicated_total")
            + sum("nereus_traps_dropped_total")
    };
    Running { child, traps, count: Box::new(count), _stderr: Some(log) }
}

fn snmptrapd(folder: &Path, arguments: &Arguments) -> Option<Running> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let program: PathBuf = folders.map(|folder| folder.join("snmptrapd")).find(|file| file.is_file())?;
    let own = folder.join("snmptrapd");
    std::fs::create_dir_all(&own).ok()?;
    let lines = own.join("lines");
    let traps = UdpSocket::bind("127.0.0.1:0").ok()?.local_addr().ok()?;
    let mibs = arguments.mibs.as_deref();
    let child = Command::new(program)
        .args(["-f", "-n", "-C", "--disableAuthorization=yes", "-F", "%B %W %v\n", "-Lf"])
        .arg(&lines)
        .args(["-m", if mibs.is_some() { "ALL" } else { "" }, "-M", mibs.unwrap_or("")])
        .arg(format!("-p{}", own.join("pid").display()))
        .arg(format!("udp:{traps}"))
        .env("SNMP_PERSISTENT_DIR", &own)
        .env("SNMPCONFPATH", &own)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let file = lines.clone();
    let count = move || {
        let text = std::fs::read(&file).unwrap_or_default();
        text.split(|&octet| octet == b'\n').filter(|line| line.starts_with(b"UDP: ")).count() as u64
    };
    let begun = Instant::now();
    while !lines.exists() || std::fs::metadata(&lines).map_or(0, |file| file.len()) == 0 {
        if begun.elapsed() > PATIENCE {
            eprintln!("snmptrapd does not start");
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Some(Running { child, traps, count: Box::new(count), _stderr: None })
}
