//! Against a real HTTP server on loopback that can be made to lie.

use super::*;
use crate::vmm::BootFiles;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use sublet_model::image::{Blob, Boot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// How the depot treats one blob.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    Honest,
    /// Whole, but with one byte flipped.
    Flipped,
    /// Breaks off after so many bytes of each answer.
    BreaksOff(usize),
    /// Sends on for ever.
    Endless,
    /// Knows no ranges, and breaks off the first time.
    NoRanges,
    /// Not there.
    Missing,
}

struct Depot {
    address: String,
    asked: Arc<AtomicUsize>,
}

/// A depot with blobs by their digest.
async fn depot(blobs: &[(&[u8], Manner)]) -> Depot {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let blobs: BTreeMap<String, (Vec<u8>, Manner)> =
        blobs.iter().map(|(bytes, manner)| (Sha256Digest::of(bytes).to_string(), (bytes.to_vec(), *manner))).collect();
    let (blobs, asked) = (Arc::new(blobs), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&asked);
    let broken = Arc::new(Mutex::new(false));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (blobs, counter, broken) = (Arc::clone(&blobs), Arc::clone(&counter), Arc::clone(&broken));
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    match socket.read_u8().await {
                        Ok(byte) => request.push(byte),
                        Err(_) => return,
                    }
                }
                counter.fetch_add(1, Ordering::SeqCst);
                let answer = answer(&String::from_utf8(request).unwrap(), &blobs, &broken);
                let _ = socket.write_all(&answer.0).await;
                while answer.1 && socket.write_all(&[0; 65536]).await.is_ok() {}
                let _ = socket.shutdown().await;
            });
        }
    });
    Depot { address, asked }
}

/// The bytes to send, and whether to send zeros for ever after them.
fn answer(request: &str, blobs: &BTreeMap<String, (Vec<u8>, Manner)>, broken: &Mutex<bool>) -> (Vec<u8>, bool) {
    let path = request.split(' ').nth(1).unwrap();
    let from = request
        .to_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    let Some((bytes, manner)) = path.strip_prefix("/v1/blobs/sha256/").and_then(|digest| blobs.get(digest)) else {
        return (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(), false);
    };
    let mut bytes = bytes.clone();
    let mut from: usize = from.unwrap_or(0);
    match manner {
        Manner::Missing => {
            return (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(), false);
        }
        Manner::Flipped => bytes[5] ^= 1,
        Manner::NoRanges => from = 0,
        _ => {}
    }
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    if *manner == Manner::Endless {
        return (format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n").into_bytes(), true);
    }
    let rest = &bytes[from.min(bytes.len())..];
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", rest.len());
    let sent = match manner {
        Manner::BreaksOff(after) => &rest[..rest.len().min(*after)],
        Manner::NoRanges if !std::mem::replace(&mut *broken.lock().unwrap(), true) => &rest[..rest.len() / 2],
        _ => rest,
    };
    ([head.as_bytes(), sent].concat(), false)
}

fn blob(bytes: &[u8]) -> Blob {
    Blob { sha256: Sha256Digest::of(bytes), bytes: bytes.len() as u64 }
}

fn boot(kernel: &[u8]) -> Boot {
    Boot::Direct { kernel: blob(kernel), initrd: None, root: None }
}

fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

fn cache(limit: u64) -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), limit).unwrap();
    (dir, cache)
}

fn files(cache: &Cache) -> usize {
    let parent = cache.path(Sha256Digest::of(b"")).parent().unwrap().to_owned();
    let parts = parent.parent().unwrap().join("part");
    std::fs::read_dir(parent).unwrap().count() + std::fs::read_dir(parts).unwrap().count()
}

/// The kernel and the root.
fn parts(fetched: &BootFiles) -> (PathBuf, Option<PathBuf>) {
    match fetched {
        BootFiles::Direct { kernel, root, .. } => (kernel.clone(), root.clone()),
        BootFiles::Disk { .. } => unreachable!("these boot a kernel"),
    }
}

#[tokio::test]
async fn whole_images_arrive_once_and_are_readable_by_a_partitions_user() {
    use std::os::unix::fs::MetadataExt;
    let (kernel, root) = (bytes(1, 300_000), bytes(2, 2_000_000));
    let depot = depot(&[(&kernel, Manner::Honest), (&root, Manner::Honest)]).await;
    let (_dir, cache) = cache(1 << 30);
    let boot = Boot::Direct { kernel: blob(&kernel), initrd: None, root: Some(blob(&root)) };
    // Two partitions want it at once; then once more.
    let (a, b) = tokio::join!(cache.fetch(&boot, &depot.address), cache.fetch(&boot, &depot.address));
    let fetched = a.unwrap();
    assert_eq!(fetched, b.unwrap());
    assert_eq!(fetched, cache.fetch(&boot, &depot.address).await.unwrap());
    assert_eq!(depot.asked.load(Ordering::SeqCst), 2, "each blob is fetched once");
    assert_eq!(std::fs::read(parts(&fetched).1.unwrap()).unwrap(), root);
    assert_eq!(std::fs::metadata(parts(&fetched).0).unwrap().mode() & 0o777, 0o644);
    assert_eq!(cache.done(&boot), 2_300_000);
}

#[tokio::test]
async fn wrong_bytes_are_refused_with_words_and_never_kept() {
    let kernel = bytes(1, 300_000);
    for (manner, word) in [
        (Manner::Flipped, "is not what was signed"),
        (Manner::Endless, "has more than the 300000 bytes"),
        (Manner::Missing, "status 404"),
    ] {
        let depot = depot(&[(&kernel, manner)]).await;
        let (_dir, cache) = cache(1 << 30);
        let error = cache.fetch(&boot(&kernel), &depot.address).await.unwrap_err().to_string();
        assert!(error.contains(word), "{manner:?}: {error}");
        let kept = std::fs::read_dir(cache.path(Sha256Digest::of(b"")).parent().unwrap()).unwrap().count();
        assert_eq!(kept, 0, "{manner:?}");
        if manner != Manner::Missing {
            assert_eq!(files(&cache), 0, "{manner:?}: not even a part");
        }
    }
}

#[tokio::test]
async fn a_transfer_that_breaks_off_is_continued_not_begun_anew() {
    let kernel = bytes(1, 300_000);
    let depot = depot(&[(&kernel, Manner::BreaksOff(100_000))]).await;
    let (_dir, cache) = cache(1 << 30);
    let fetched = cache.fetch(&boot(&kernel), &depot.address).await.unwrap();
    assert_eq!(std::fs::read(parts(&fetched).0).unwrap(), kernel);
    assert_eq!(depot.asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_depot_without_ranges_begins_anew() {
    let kernel = bytes(1, 300_000);
    let depot = depot(&[(&kernel, Manner::NoRanges)]).await;
    let (_dir, cache) = cache(1 << 30);
    let fetched = cache.fetch(&boot(&kernel), &depot.address).await.unwrap();
    assert_eq!(std::fs::read(parts(&fetched).0).unwrap(), kernel);
}

#[tokio::test]
async fn what_a_dead_agent_left_half_is_continued_and_what_it_left_wrong_is_found() {
    let kernel = bytes(1, 300_000);
    let depot = depot(&[(&kernel, Manner::Honest)]).await;
    let (dir, cache) = cache(1 << 30);
    let part = dir.path().join("part").join(Sha256Digest::of(&kernel).to_string());
    std::fs::write(&part, &kernel[..200_000]).unwrap();
    cache.fetch(&boot(&kernel), &depot.address).await.unwrap();

    let (dir, cache) = self::cache(1 << 30);
    let part = dir.path().join("part").join(Sha256Digest::of(&kernel).to_string());
    std::fs::write(&part, bytes(9, 200_000)).unwrap();
    let fetched = cache.fetch(&boot(&kernel), &depot.address).await.unwrap();
    assert_eq!(std::fs::read(parts(&fetched).0).unwrap(), kernel, "a part that went bad is fetched anew");
}

#[tokio::test]
async fn a_byte_flipped_on_the_disk_is_found_and_mended() {
    let kernel = bytes(1, 300_000);
    let depot = depot(&[(&kernel, Manner::Honest)]).await;
    let (dir, cache) = cache(1 << 30);
    let path = parts(&cache.fetch(&boot(&kernel), &depot.address).await.unwrap()).0;
    let flip = || {
        let mut bad = kernel.clone();
        bad[9] ^= 1;
        std::fs::write(&path, bad).unwrap();
    };
    flip();
    cache.fetch(&boot(&kernel), &depot.address).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), kernel, "under a running agent");
    flip();
    let next = Cache::open(dir.path(), 1 << 30).unwrap();
    next.fetch(&boot(&kernel), &depot.address).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), kernel, "between two agents");
    assert_eq!(depot.asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn the_cache_is_bounded_and_what_was_not_used_longest_goes_first() {
    let all: Vec<Vec<u8>> = (0..4).map(|seed| bytes(seed, 100_000)).collect();
    let depot = depot(&all.iter().map(|b| (b.as_slice(), Manner::Honest)).collect::<Vec<_>>()).await;
    let (_dir, cache) = cache(250_000);
    let have = |at: usize| cache.path(Sha256Digest::of(&all[at])).exists();
    for at in [0, 1] {
        cache.fetch(&boot(&all[at]), &depot.address).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The first is used again, so the second goes.
    cache.fetch(&boot(&all[0]), &depot.address).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    cache.fetch(&boot(&all[2]), &depot.address).await.unwrap();
    assert_eq!([have(0), have(1), have(2)], [true, false, true]);
    let large = bytes(7, 250_001);
    let error = cache.fetch(&boot(&large), &depot.address).await.unwrap_err();
    assert!(error.to_string().contains("raise its limit"), "{error}");
}

#[tokio::test]
async fn a_depot_off_this_computer_without_tls_is_not_asked() {
    let (_dir, cache) = cache(1 << 30);
    for address in ["http://192.0.2.1:80", "file:///etc", "not an address", "ftp://127.0.0.1/"] {
        let error = cache.fetch(&boot(b"kernel"), address).await.unwrap_err();
        assert!(matches!(error, ImageError::Depot(_)), "{address}: {error}");
    }
}
