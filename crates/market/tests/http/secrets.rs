//! Secrets are shown once and written nowhere: not into the log, not into the market's folder.

use crate::world::{Answer, World, http};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use sublet_model::account::Role;
use sublet_wire::api::{NewJoinToken, NewToken, TokenSecret};
use tracing_subscriber::EnvFilter;

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn contains(hay: &[u8], needle: &str) -> bool {
    hay.windows(needle.len()).any(|w| w == needle.as_bytes())
}

fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_or_stored() {
    let log = Kept::default();
    let writer = log.clone();
    // Other tests of this program log here too: what is sought are secrets of this one.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("info,sublet_market=trace,sublet_wire=trace"))
        .with_writer(move || writer.clone());
    subscriber.try_init().unwrap();

    let world = World::new().await;
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    world.image().await;
    let new = NewToken { member: None, name: "x".into(), expires_in: None, roles: None };
    let token: TokenSecret = person.client.post("/v1/tokens", &new).await.unwrap();
    let join: TokenSecret =
        person.client.post("/v1/join-tokens", &NewJoinToken { uses: None, expires_in: None }).await.unwrap();
    let mut host = world.host(&person, "desk", &[1]).await;
    let granted = person.rent("box").await;
    host.settle().await;
    // Refused ones are logged with their reason: not with the secret.
    let spoilt = format!("{}A", token.secret);
    for secret in [&spoilt, &join.secret] {
        let sent = http().get(format!("{}/v1/whoami", world.base)).bearer_auth(secret).send().await.unwrap();
        Answer::of(sent).await.problem();
    }

    let mut secrets = vec![("the operator's token", world.operator.token.clone()), ("a token", token.secret.clone())];
    secrets.push(("a join token", join.secret.clone()));
    secrets.push(("a certificate", granted.access.certificate.clone()));
    let logged = log.0.lock().unwrap().clone();
    assert!(contains(&logged, "refused"), "something was logged at all");
    for (what, secret) in &secrets {
        // The prefix is no secret.
        let body = &secret[secret.len() - 40..];
        assert!(!contains(&logged, body), "{what} is in the log");
        for (path, bytes) in files(&world.dir()) {
            assert!(!contains(&bytes, body), "{what} is in {path:?}");
        }
    }
    let seed = std::fs::read_to_string(world.dir().join("keys/market.key")).unwrap();
    assert!(!contains(&logged, seed.trim()), "the market's key is in the log");
    for (path, bytes) in files(&world.dir()).into_iter().filter(|(path, _)| !path.ends_with("keys/market.key")) {
        assert!(!contains(&bytes, seed.trim()), "the market's key is in {path:?}");
    }
}
