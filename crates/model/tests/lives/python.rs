//! The other implementation, as a process that is asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub struct Verifier {
    process: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Verifier {
    pub fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/verify/sublet_verify.py");
        let mut process = Command::new("python3")
            .args([script, "--serve"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 with its package cryptography: scripts/setup installs both");
        let ask = process.stdin.take().expect("piped");
        let answer = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, ask, answer }
    }

    /// Its verdict, and the statement written anew if it holds.
    pub fn ask(&mut self, document: &[u8]) -> (String, String) {
        // It reads all before it answers, so neither waits for the other.
        self.ask.write_all(format!("{}\n", document.len()).as_bytes()).expect("it listens");
        self.ask.write_all(document).expect("it listens");
        self.ask.flush().expect("it listens");
        (self.read(), self.read())
    }

    fn read(&mut self) -> String {
        let mut length = String::new();
        self.answer.read_line(&mut length).expect("it answers");
        let length = length.trim().parse().expect("it answers with a length; what it says on stderr tells why not");
        let mut text = vec![0; length];
        self.answer.read_exact(&mut text).expect("it answers whole");
        String::from_utf8(text).expect("it answers text")
    }

    pub fn stop(self) {
        let Self { mut process, ask, .. } = self;
        drop(ask);
        assert!(process.wait().expect("it ends").success());
    }
}
