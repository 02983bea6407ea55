use super::*;
use std::path::PathBuf;
use tokio::net::UnixListener;

const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": []}}"#;
const READY: &str = r#"{"return": {}, "id": 1}"#;

struct Peer {
    _dir: tempfile::TempDir,
    socket: PathBuf,
}

/// A monitor that says `script` to whoever connects, in pieces of `piece` bytes, then closes
/// unless it is to stay. What follows a greeting is said when something was asked.
fn monitor(script: Vec<u8>, piece: usize, stay: bool) -> Peer {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("qmp.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut script = script.as_slice();
        let greeting = format!("{GREETING}\n");
        if let Some(rest) = script.strip_prefix(greeting.as_bytes()).filter(|rest| !rest.is_empty()) {
            script = rest;
            stream.write_all(greeting.as_bytes()).await.unwrap();
            tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap();
        }
        for piece in script.chunks(piece) {
            if stream.write_all(piece).await.is_err() {
                return;
            }
        }
        if stay {
            std::future::pending::<()>().await;
        }
    });
    Peer { _dir: dir, socket }
}

const SOON: Duration = Duration::from_secs(20);

async fn connect(script: impl Into<Vec<u8>>, stay: bool) -> Result<Qmp, QmpError> {
    let peer = monitor(script.into(), 4096, stay);
    let patience = if stay { Duration::from_millis(500) } else { SOON };
    Qmp::connect(&peer.socket, patience).await
}

#[tokio::test]
async fn a_bad_monitor_is_an_error_of_its_kind() {
    let deep = format!("{GREETING}\n{}", "[".repeat(100_000) + "\n");
    let long = format!("{GREETING}\n{{\"event\":\"{}\"}}\n", "x".repeat(MAX_LINE_BYTES));
    let table: Vec<(&str, Vec<u8>, bool, &str)> = vec![
        ("nothing", vec![], false, "Closed"),
        ("silence", vec![], true, "Deadline"),
        ("no greeting", b"{\"return\": {}, \"id\": 1}\n".to_vec(), false, "Nonsense"),
        ("an empty line", b"\n".to_vec(), false, "Nonsense"),
        ("not JSON", b"HTTP/1.1 200 OK\r\n".to_vec(), false, "Nonsense"),
        ("not UTF-8", b"{\"QMP\": \"\xff\xfe\"}\n".to_vec(), false, "Nonsense"),
        ("a list", b"[1]\n".to_vec(), false, "Nonsense"),
        ("cut off", b"{\"QMP\": {\"ver".to_vec(), false, "Truncated"),
        ("cut off later", format!("{GREETING}\n{{\"retu").into_bytes(), false, "Ended"),
        ("endless", vec![b' '; MAX_LINE_BYTES + 1], true, "TooLong"),
        ("too long later", long.into_bytes(), false, "Ended"),
        ("deep", deep.into_bytes(), false, "Ended"),
        ("two greetings", format!("{GREETING}\n{GREETING}\n").into_bytes(), false, "Ended"),
        ("never asked", format!("{GREETING}\n{{\"return\": {{}}, \"id\": 7}}\n").into_bytes(), false, "Ended"),
        ("no id", format!("{GREETING}\n{{\"return\": {{}}}}\n").into_bytes(), false, "Ended"),
        ("id of no number", format!("{GREETING}\n{{\"return\": {{}}, \"id\": -1}}\n").into_bytes(), false, "Ended"),
        (
            "refused",
            format!("{GREETING}\n{{\"error\": {{\"class\": \"X\"}}, \"id\": 1}}\n").into_bytes(),
            true,
            "Refused",
        ),
    ];
    for (what, script, stay, expected) in table {
        let error = connect(script, stay).await.expect_err(what);
        assert!(format!("{error:?}").starts_with(expected), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn answers_find_their_question_among_events() {
    let script = [
        GREETING,
        r#"{"event": "RTC_CHANGE", "data": {}}"#,
        READY,
        r#"{"event": "GUEST_PANICKED", "data": {"action": "pause"}}"#,
        r#"{"event": "STOP"}"#,
    ]
    .join("\n")
        + "\n";
    for piece in [1, 7, 4096] {
        let peer = monitor(script.clone().into_bytes(), piece, true);
        let qmp = Qmp::connect(&peer.socket, SOON).await.unwrap();
        let mut hints = qmp.hints();
        timeout(SOON, hints.wait_for(|hints| hints.changes == 2)).await.unwrap().unwrap();
        let none = qmp.execute("query-status", Value::Null, Duration::from_millis(50)).await;
        assert!(matches!(none, Err(QmpError::Deadline)));
    }
}

#[tokio::test]
async fn a_flood_of_events_is_counted_and_not_kept() {
    let flood = r#"{"event": "RESET", "data": {"guest": true}}"#.to_owned() + "\n";
    let script = format!("{GREETING}\n{READY}\n{}", flood.repeat(20_000));
    let peer = monitor(script.into_bytes(), 65_536, false);
    let qmp = Qmp::connect(&peer.socket, SOON).await.unwrap();
    let mut hints = qmp.hints();
    let ended = timeout(SOON, hints.wait_for(|hints| hints.ended.is_some())).await.unwrap().unwrap().clone();
    assert_eq!(ended.changes, 20_000);
}

#[tokio::test]
async fn a_missing_or_stale_socket_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let stale = dir.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    for socket in [dir.path().join("none.sock"), stale] {
        assert!(matches!(Qmp::connect(&socket, SOON).await, Err(QmpError::Io(_))));
    }
}
