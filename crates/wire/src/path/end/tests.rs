use super::*;
use crate::path::Route;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn here() -> Bound {
    Bound::At(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// Answers each stream with what came in on it, backwards.
async fn echo(host: End) {
    while let Some(knock) = host.knock().await {
        let Ok(way) = knock.enter().await else { continue };
        tokio::spawn(async move {
            while let Ok(mut stream) = way.accept().await {
                let mut said = Vec::new();
                stream.read_to_end(&mut said).await.unwrap();
                said.reverse();
                stream.write_all(&said).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
    }
}

fn reach(end: &End) -> Reach {
    Reach { quic: Some(end.addresses()), ..Reach::default() }
}

#[tokio::test]
async fn a_host_is_found_by_its_key_and_streams_go_both_ways() {
    let host = End::host(&key(1), here()).await.unwrap();
    let reach = reach(&host);
    tokio::spawn(echo(host));
    let client = End::client(true).await.unwrap();
    let way = client.dial(&key(1).public(), &reach, None).await.unwrap();
    for words in [&b"stressed"[..], &[7; 300_000]] {
        let mut stream = way.open().await.unwrap();
        let mut heard = Vec::new();
        stream.write_all(words).await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut heard).await.unwrap();
        assert!(heard.iter().eq(words.iter().rev()), "{} bytes", heard.len());
    }
    assert!(matches!(way.route(), Route::Direct(at) if at.ip().is_loopback()), "{}", way.route());
    client.close().await;
}

#[tokio::test]
async fn nobody_else_is_taken_for_the_host() {
    let impostor = End::host(&key(2), here()).await.unwrap();
    let reach = reach(&impostor);
    tokio::spawn(echo(impostor));
    let client = End::client(true).await.unwrap();
    let dialled = tokio::time::timeout(Duration::from_secs(20), client.dial(&key(1).public(), &reach, None)).await;
    let error = dialled.unwrap().unwrap_err().to_string();
    assert!(error.contains("failed to reach the host over QUIC, directly at 127.0.0.1"), "{error}");
}
