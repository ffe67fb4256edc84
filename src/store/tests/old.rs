//! Files of earlier versions: what they hold stays readable, and is brought to the newest format.

use rusqlite::Connection;

use super::*;
use crate::event::{DeadLetterDeed, DeadLetterRequest};
use crate::store::files::{OpenFailure, Shape, open_for_writing};

/// A data directory as format 1 left it after an orderly end: `tests/data/store-1` is what it held, as SQL.
fn format_1(directory: &Path) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store-1");
    fs::create_dir(directory).unwrap();
    for (name, file) in [("journal.sql", "events-00000001-20261126.db"), ("state.sql", "state.db")] {
        let connection = Connection::open(directory.join(file)).unwrap();
        connection.execute_batch(&fs::read_to_string(folder.join(name)).unwrap()).unwrap();
    }
}

fn long(directory: &Path) -> StorageSettings {
    let retention = Duration::from_secs(100 * 366 * 86_400);
    StorageSettings { retention, ..settings(directory) }
}

#[test]
fn what_format_1_held_is_read_and_goes_on() {
    for state_is_lost in [false, true] {
        let directory = TempDir::new().unwrap();
        let settings = long(directory.path());
        format_1(&settings.path);
        if state_is_lost {
            fs::remove_file(settings.path.join("state.db")).unwrap();
        }
        let opened = open(&settings);
        assert!(opened.notes.iter().all(|note| note.code != "storage-damaged"), "{:?}", opened.notes);
        assert_eq!((opened.last_event.0, opened.last_change), (1_795_667_733_234_456, 1_795_667_733_891_598));
        let [alert] = &opened.alerts[..] else { panic!("{:?}", opened.alerts) };
        assert_eq!((alert.count, alert.state, &*alert.rule), (2, AlertState::Acknowledged, "link"));
        // What format 1 did not know of is as if nothing of it had happened.
        assert_eq!((alert.muted, &alert.flap, alert.origin), (None, &None, AlertOrigin::Rule));
        let reader = opened.store.reader();
        let events = reader.events(&EventQuery::default()).unwrap().events;
        assert_eq!(events.len(), 4);
        assert_eq!(events[0].trap_name.as_deref(), Some("IF-MIB::linkUp"));
        assert!(events.iter().all(|event| crate::wire::decode_pdu(event.version, &event.pdu).is_ok()));
        let (alerts, _) = everything(&reader);
        assert_eq!((alerts.len(), reader.outbox("log", 0, 100).unwrap().len()), (2, 4));
        drop(opened);
        let running = Running::start(&settings);
        let number = 20_000_000;
        running.push(raise(number, number, number));
        running.flush();
        let (alerts, _) = everything(&running.reader);
        assert_eq!(alerts.len(), 3, "it goes on");
        running.stop();
    }
}

/// Which alert they are of stood in their record alone.
#[test]
fn dead_letters_of_format_1_are_sent_again() {
    let directory = TempDir::new().unwrap();
    let settings = long(directory.path());
    format_1(&settings.path);
    let state = settings.path.join("state.db");
    // One as it was written, and one that can no longer be read.
    let script = "INSERT INTO dead_letters (webhook, time, record, reason)
            SELECT 'log', queued, record, 'refused' FROM outbox ORDER BY id LIMIT 1;
        INSERT INTO dead_letters (webhook, time, record, reason) VALUES ('log', 1, '{', 'refused')";
    Connection::open(&state).unwrap().execute_batch(script).unwrap();
    let running = Running::start(&settings);
    let [letter] = &running.reader.dead_letters(None, None, 10).unwrap()[..] else {
        panic!("one is readable")
    };
    let (done, told) = sync_channel(1);
    running.push(Command::DeadLetters(DeadLetterRequest {
        deed: DeadLetterDeed::Resend,
        webhooks: vec!["log".into()],
        ids: None,
        limit: 10,
        done,
    }));
    assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok(2));
    let rows = running.reader.outbox("log", 0, 100).unwrap();
    assert_eq!((rows.len(), &rows[4].record), (5, &letter.record), "behind those that waited");
    let connection = Connection::open(&state).unwrap();
    let mut alerts = connection.prepare("SELECT alert FROM outbox ORDER BY id DESC LIMIT 2").unwrap();
    let alerts: Vec<i64> = alerts.query_map([], |found| found.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(alerts, [0, letter.record.id.0.cast_signed()]);
    running.stop();
}

const FIRST: &str = "CREATE TABLE things (id INTEGER PRIMARY KEY); INSERT INTO things VALUES (1), (2)";

fn shape(migrations: &'static [&'static str]) -> Shape {
    Shape { application_id: 0x4e72_5465, migrations, synchronous: "FULL", shrinks: false, table: "things" }
}

fn names(connection: &Connection) -> (i64, Vec<Option<String>>) {
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    let mut select = connection.prepare("SELECT name FROM things ORDER BY id").unwrap();
    let names = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    (version, names)
}

#[test]
fn an_older_file_is_brought_up_step_by_step_and_a_newer_one_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.db");
    drop(open_for_writing(&path, &shape(&[FIRST])).unwrap());
    let three: &[&str] = &[FIRST, "ALTER TABLE things ADD name TEXT", "UPDATE things SET name = 'n' || id"];
    let migrated = open_for_writing(&path, &shape(three)).unwrap();
    assert_eq!(names(&migrated), (3, vec![Some("n1".into()), Some("n2".into())]));
    drop(migrated);
    // Once more changes nothing; an earlier program leaves it as it is.
    assert_eq!(names(&open_for_writing(&path, &shape(three)).unwrap()).0, 3);
    let before = fs::read(&path).unwrap();
    let Err(OpenFailure::Refused(error)) = open_for_writing(&path, &shape(&[FIRST])) else {
        panic!("a newer file was opened");
    };
    assert_eq!(error.kind, StoreErrorKind::Newer);
    let text = error.to_string();
    assert!(text.contains("format is number 3") && text.contains("up to 1"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_step_that_fails_leaves_the_file_as_it_was() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.db");
    drop(open_for_writing(&path, &shape(&[FIRST])).unwrap());
    let broken: &[&str] = &[FIRST, "ALTER TABLE things ADD name TEXT; INSERT INTO things (id) VALUES (1)"];
    assert!(open_for_writing(&path, &shape(broken)).is_err());
    let mended: &[&str] = &[FIRST, "ALTER TABLE things ADD name TEXT; UPDATE things SET name = 'a'"];
    let migrated = open_for_writing(&path, &shape(mended)).unwrap();
    assert_eq!(names(&migrated), (2, vec![Some("a".into()), Some("a".into())]), "no half of a step was left");
}
