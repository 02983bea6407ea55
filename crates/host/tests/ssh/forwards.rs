//! Ports and connections forwarded, as `ssh -L`, `-D`, `-R` and `-W` do. Here the guest program
//! runs on this machine, so its loopback is ours.

use crate::rehearsal;
use crate::setup::{House, sha256};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

/// Sends back what comes, and a word once the other end says no more.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.write_all(b"bye").await;
            });
        }
    });
    port
}

/// A port that is free a moment later.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

async fn reach(port: u16) -> TcpStream {
    let deadline = rehearsal::soon();
    loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "port {port}: {error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// What comes back for what is sent, both ways at once.
async fn talk(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let (mut from, mut to) = stream.split();
    let send = async {
        to.write_all(bytes).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (_, read) = tokio::join!(send, timeout(Duration::from_secs(60), from.read_to_end(&mut back)));
    read.expect("it ends").unwrap();
    back
}

/// The port that the client says was given for `-R 0:…`.
async fn allocated(client: &mut Child) -> u16 {
    let mut lines = BufReader::new(client.stderr.take().unwrap()).lines();
    let find = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(rest) = line.strip_prefix("Allocated port ") {
                return rest.split(' ').next().unwrap().parse().unwrap();
            }
        }
        panic!("no port was allocated");
    };
    timeout(Duration::from_secs(20), find).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_port_leads_into_the_partition() {
    let house = House::open().await;
    let (there, here) = (echo().await, free_port().await);
    let _client = house.forwarding(&["-L", &format!("{here}:localhost:{there}")]);
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
    let back = talk(reach(here).await, &bytes).await;
    assert_eq!(sha256(&back), sha256(&[&bytes[..], b"bye"].concat()));
    // Many at once, each its own.
    let many = (0..20u8).map(|n| async move {
        let word = vec![n; 1000];
        assert_eq!(talk(reach(here).await, &word).await, [&word[..], b"bye"].concat());
    });
    futures_util::future::join_all(many).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_refused_and_the_client_goes_on() {
    let house = House::open().await;
    let nobody = free_port().await;
    for to in [format!("localhost:{nobody}"), "no-such-host.invalid:80".into()] {
        let done = timeout(Duration::from_secs(30), house.ssh(&["-W", &to], &[], b"")).await.unwrap();
        assert!(done.code() != 0 && done.err().contains("open failed"), "{to}: {}", done.err());
    }
    let done = house.ssh(&["-W", &format!("127.0.0.1:{}", echo().await)], &[], b"through").await;
    assert_eq!(done.out(), "throughbye", "{}", done.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_and_socks() {
    let house = House::open().await;
    let path = house.path("echo.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (mut from, mut to) = socket.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    let (here, socks) = (free_port().await, free_port().await);
    let local = format!("{here}:{}", path.display());
    let _client = house.forwarding(&["-L", &local, "-D", &socks.to_string()]);
    assert_eq!(talk(reach(here).await, b"over a socket").await, b"over a socket");

    let there = echo().await;
    let mut stream = reach(socks).await;
    stream.write_all(&[5, 1, 0]).await.unwrap();
    stream.read_exact(&mut [0; 2]).await.unwrap();
    let [high, low] = there.to_be_bytes();
    stream.write_all(&[&[5, 1, 0, 3, 9][..], b"localhost", &[high, low]].concat()).await.unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[1], 0, "{answer:?}");
    assert_eq!(talk(stream, b"socks").await, b"socksbye");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_the_partition_leads_to_the_client() {
    let house = House::open().await;
    let ours = echo().await;
    let mut client = house.forwarding(&["-R", &format!("0:127.0.0.1:{ours}")]);
    let there = allocated(&mut client).await;
    let bytes = vec![b'r'; 2_000_000];
    assert_eq!(sha256(&talk(reach(there).await, &bytes).await), sha256(&[&bytes[..], b"bye"].concat()));
    let many = (0..20u8).map(|n| async move {
        let word = vec![n; 1000];
        assert_eq!(talk(reach(there).await, &word).await, [&word[..], b"bye"].concat());
    });
    futures_util::future::join_all(many).await;
    // The port goes with its client.
    client.kill().await.unwrap();
    let deadline = rehearsal::soon();
    while TcpStream::connect(("127.0.0.1", there)).await.is_ok() {
        assert!(Instant::now() < deadline, "still listening");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_refused() {
    let house = House::open().await;
    let taken = echo().await;
    let done = timeout(
        Duration::from_secs(20),
        house.ssh(&["-N", "-o", "ExitOnForwardFailure=yes", "-R", &format!("127.0.0.1:{taken}:127.0.0.1:1")], &[], b""),
    )
    .await
    .expect("it ends");
    assert!(done.err().contains("remote port forwarding failed"), "{}", done.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn forwards_end_with_the_lease_and_are_counted() {
    let house = House::open().await;
    let (there, here) = (echo().await, free_port().await);
    let _client = house.forwarding(&["-L", &format!("{here}:127.0.0.1:{there}")]);
    let mut open = vec![reach(here).await];
    for _ in 1..70 {
        open.push(TcpStream::connect(("127.0.0.1", here)).await.unwrap());
    }
    // 64 are served, the others closed at once; which is which depends on who came first.
    let mut served = 0;
    for stream in &mut open {
        stream.write_all(b"hi").await.unwrap();
        let mut back = [0; 2];
        served += u32::from(timeout(Duration::from_secs(20), stream.read_exact(&mut back)).await.unwrap().is_ok());
    }
    assert_eq!(served, 64);
    house.end_lease("the owner wants it back");
    let ended = Instant::now();
    for stream in &mut open {
        let mut rest = Vec::new();
        let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.expect("it ends");
    }
    assert!(ended.elapsed() < Duration::from_secs(5), "{:?}", ended.elapsed());
}
