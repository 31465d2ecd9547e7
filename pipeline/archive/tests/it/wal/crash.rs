//! Real crashes and real write errors: this test binary runs itself as the process that suffers them.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use tracescale_archive::wal::{Appended, Durability, Lsn, Options, Reader, Wal};

use super::{Random, all, entry, open, options};

/// Says to the helpers below where the log is; without it they have nothing to do.
const DIR: &str = "TRACESCALE_TEST_WAL";
const ROUNDS: u64 = 20;

/// This binary, to run the test `name` alone on the log in `dir`; what it prints is piped here.
fn helper(name: &str, dir: &Path, limit: Option<u64>) -> Child {
    let limit = limit.map_or(String::new(), |kilobytes| format!("trap '' XFSZ; ulimit -f {kilobytes}; "));
    Command::new("bash")
        .args(["-c", &format!("{limit}exec \"$0\" \"$@\"")])
        .arg(env::current_exe().unwrap())
        .args(["--exact", &format!("wal::crash::{name}"), "--nocapture", "--test-threads", "1"])
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the helper acknowledged, as long as it prints: numbers and their bodies.
fn acknowledged(output: ChildStdout) -> impl Iterator<Item = (u64, String)> {
    BufReader::new(output).lines().map_while(Result::ok).filter_map(|line| {
        let (lsn, body) = line.split_once("acknowledged ")?.1.split_once(' ')?;
        // The last line may have been cut by the kill.
        Some((lsn.parse().ok()?, body.strip_suffix('.')?.to_owned()))
    })
}

fn acknowledge(wal: &mut Wal, bodies: &[String]) -> Result<(), tracescale_archive::wal::WalError> {
    let entries: Vec<_> = bodies.iter().map(|body| entry(body.clone())).collect();
    let appended = wal.append(&entries)?;
    let mut output = std::io::stdout().lock();
    for (appended, body) in appended.into_iter().zip(bodies) {
        let Appended::New(lsn) = appended else { panic!("{body} is no duplicate") };
        writeln!(output, "acknowledged {lsn} {body}.").unwrap();
    }
    output.flush().unwrap();
    Ok(())
}

/// The process that gets killed: appends groups until then.
#[test]
fn helper_appends_until_killed() {
    let Some(dir) = env::var_os(DIR) else { return };
    let (mut wal, _) = Wal::open(Path::new(&dir), Options { durability: Durability::Fsync, segment_bytes: 8_000, ..options() }).unwrap();
    let mut random = Random(wal.next().0);
    for group in 0.. {
        let filler = "x".repeat(usize::try_from(random.below(300)).unwrap());
        let bodies: Vec<_> = (0..=random.below(4)).map(|place| format!("{}-{group}-{place}-{filler}", wal.next())).collect();
        acknowledge(&mut wal, &bodies).unwrap();
    }
}

/// Guarantees: whenever the process is killed, everything that it acknowledged is there, once, with its body; and its successor
/// can go on.
#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(42);
    let mut promised = BTreeMap::new();
    let mut observer = None;
    for round in 0..ROUNDS {
        let mut child = helper("helper_appends_until_killed", dir.path(), None);
        let mut lines = acknowledged(child.stdout.take().unwrap());
        promised.extend(lines.next());
        thread::sleep(Duration::from_micros(random.below(8_000)));
        // Somebody else looks at the log while it is written.
        let observer = observer.get_or_insert_with(|| Reader::open(dir.path()).unwrap());
        observer.read(Lsn(1), 1_000_000).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        promised.extend(lines);

        let (wal, recovery) = Wal::open(dir.path(), options()).unwrap();
        assert_eq!(recovery.quarantined, [], "round {round}: {recovery}");
        let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for record in super::follow(&mut wal.reader(), Lsn(1)) {
            found.entry(record.lsn.0).or_default().push(String::from_utf8(record.entry.body.to_vec()).unwrap());
        }
        for (lsn, body) in &promised {
            assert_eq!(found.get(lsn), Some(&vec![body.clone()]), "round {round}, record {lsn}: {recovery}");
        }
        assert_eq!(wal.next().0, found.len() as u64 + 1);
    }
    assert!(promised.len() as u64 > ROUNDS, "the helper got to write");
}

/// The process whose files cannot grow: appends until nothing more fits, first large groups, then small ones.
#[test]
fn helper_fills_the_file() {
    let Some(dir) = env::var_os(DIR) else { return };
    let (mut wal, _) = Wal::open(Path::new(&dir), options()).unwrap();
    let mut refused = 0;
    for (round, length) in [5_000, 1_000, 200, 20].into_iter().enumerate() {
        for group in 0.. {
            let bodies = ["a", "b"].map(|half| format!("{round}-{group}-{half}-{}", "y".repeat(length)));
            let (next, bytes) = (wal.next(), wal.bytes());
            let Err(error) = acknowledge(&mut wal, &bodies) else { continue };
            assert!(error.is_retryable(), "{error:?}");
            assert_eq!((wal.next(), wal.bytes(), wal.reader().durable()), (next, bytes, next));
            // The same again is no duplicate of what was refused.
            assert!(acknowledge(&mut wal, &bodies).unwrap_err().is_retryable());
            refused += 1;
            break;
        }
    }
    println!("refused {refused} at {}", wal.bytes());
}

/// Guarantees: when the system refuses to write on, the group is refused whole, smaller ones still fit, and afterwards the log
/// holds exactly what was acknowledged.
#[test]
fn a_file_that_cannot_grow_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = helper("helper_fills_the_file", dir.path(), Some(64));
    let promised: Vec<_> = acknowledged(child.stdout.take().unwrap()).collect();
    assert!(child.wait().unwrap().success());
    let wal = open(dir.path(), options());
    let found: Vec<_> = super::bodies(&all(dir.path()));
    assert!(found == promised, "{} records found, {} promised", found.len(), promised.len());
    assert_eq!(wal.next().0, promised.len() as u64 + 1);
    // It got as close to the limit as the smallest groups let it, so that larger ones were indeed refused.
    assert!((65_300..=65_536).contains(&wal.bytes()), "{}", wal.bytes());
    for round in 0..4 {
        assert!(promised.iter().any(|(_, body)| body.starts_with(&format!("{round}-"))), "round {round} got something written");
    }
}
