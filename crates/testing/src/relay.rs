//! A stretch of network between a host and its market that a test can cut and mend.

use anyhow::Result;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Passes bytes on, until it is cut: then connections stay open and nothing comes through them,
/// as when a cable is pulled.
#[derive(Debug, Clone)]
pub struct Relay {
    address: String,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    /// Listens on a loopback port of its own for the market at `target`.
    pub fn start(target: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let relay = Self { address, cut: Arc::default(), open: Arc::default() };
        let (cut, open) = (relay.cut.clone(), relay.open.clone());
        // Ends with the test's process: a listener is all it holds.
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&target) else { continue };
                let (Ok(near_back), Ok(far_back)) = (near.try_clone(), far.try_clone()) else { continue };
                if let (Ok(mut open), Ok(a), Ok(b)) = (open.lock(), near.try_clone(), far.try_clone()) {
                    open.extend([a, b]);
                }
                let (up, down) = (cut.clone(), cut.clone());
                thread::spawn(move || pass(near, far, &up));
                thread::spawn(move || pass(far_back, near_back, &down));
            }
        });
        Ok(relay)
    }

    /// Where to reach the market through it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on nothing comes through, either way.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Works again. What was swallowed stays lost: connections of before are reset.
    pub fn mend(&self) {
        if let Ok(mut open) = self.open.lock() {
            for stream in open.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.cut.store(false, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || (!cut.load(Ordering::SeqCst) && to.write_all(&buffer[..count]).is_err()) {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
