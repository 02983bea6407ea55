use super::*;
use crate::config::{Config, Tls, loopback};
use crate::init::init;
use std::path::PathBuf;

fn market() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let market = dir.path().join("market");
    let (name, currency) = ("lab".into(), "EUR".into());
    let config = Config { name, currency, listen: loopback(), tls: Tls::Auto, relay: None, chunk_seconds: None };
    init(&market, &config, &["localhost".into()]).unwrap();
    (dir, market)
}

fn names(market: &Path) -> Vec<String> {
    let entries = fs::read_dir(market.join(FOLDER)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// All that the keys are, but for the secret halves, which the public ones follow from.
fn told(keys: &Keys) -> (String, String, usize, Option<String>, [u8; 32]) {
    let old = keys.old_ssh_ca.as_ref().map(|(key, _)| ssh_line(key));
    (keys.signing.public().to_string(), keys.ssh_ca_public(), keys.chain.changes().len(), old, keys.root)
}

#[test]
fn a_market_takes_other_keys_with_the_ones_before() {
    let (_dir, market) = market();
    let first = Keys::load(&market).unwrap();
    let change = rotate(&market).unwrap().change;
    let second = Keys::load(&market).unwrap();
    assert_eq!((change.old, change.new), (first.signing.public(), second.signing.public()));
    assert_eq!((change.old_ssh_ca.clone(), change.new_ssh_ca), (first.ssh_ca_public(), second.ssh_ca_public()));
    assert_eq!(change.ssh_until, change.at.after(OVERLAP));
    assert_eq!(second.root, first.root, "relay tokens and the secrets of repeated requests stay good");
    // The old key that signs is gone; the old authority stays as long as hosts accept it, for those that know no other.
    assert_eq!(names(&market), ["changes.json", "market-1.key", "secrets.seed", "ssh_ca", "ssh_ca-1"]);
    let by = |knows: bool, at: Timestamp| {
        let (key, until) = second.ssh_authority(knows, at);
        (ssh_line(key), until)
    };
    assert_eq!(by(false, change.at), (first.ssh_ca_public(), Some(change.ssh_until)));
    assert_eq!(by(true, change.at), (second.ssh_ca_public(), None));
    assert_eq!(by(false, change.ssh_until), (second.ssh_ca_public(), None));

    // And once more, within the overlap: later than the change before, though the clock may stand.
    let next = rotate(&market).unwrap().change;
    assert!(next.at > change.at && next.number == 2);
    assert_eq!(names(&market), ["changes.json", "market-2.key", "secrets.seed", "ssh_ca-1", "ssh_ca-2"]);
    let third = Keys::load(&market).unwrap();
    assert_eq!(third.chain.keys().collect::<Vec<_>>(), [change.old, change.new, next.new]);
    tidy(&market, &third.chain, next.ssh_until).unwrap();
    assert_eq!(names(&market), ["changes.json", "market-2.key", "secrets.seed", "ssh_ca-2"]);
    assert!(Keys::load(&market).unwrap().old_ssh_ca.is_none());
    let db = Sqlite::open(&market).unwrap();
    db.audit_keys(&third.chain).unwrap();
    assert_eq!(db.count("select count(*) from audit where action = 'market.keys.rotate'"), 2, "each once");
    let refused = rotate(&market).unwrap_err();
    assert!(matches!(refused, RotateError::Database(DbError::InUse(_))), "while it is served: {refused}");
    assert_eq!(Keys::load(&market).unwrap().chain, third.chain);
}

/// Killed between any two steps, and in the middle of every file: the old keys or the new ones, whole, and
/// the next change goes through.
#[test]
fn a_change_that_is_killed_anywhere_leaves_the_old_keys_or_the_new_ones() {
    for changed_before in [false, true] {
        let (_dir, original) = market();
        if changed_before {
            rotate(&original).unwrap();
        }
        let before = Keys::load(&original).unwrap();
        let at = MarketClock::new(Timestamp(0)).now();
        let (chain, steps) = plan(&before, Keys::generate(), at).unwrap();
        let put_in_place = steps.iter().position(|step| matches!(step, Step::Rename(..))).unwrap();
        let cuts = |step: &Step| if let Step::Write(_, content) = step { content.len() } else { 0 };
        for done in 0..=steps.len() {
            let of_next = steps.get(done).map_or(0, cuts);
            for cut in
                [None, Some(0), Some(of_next / 2), Some(of_next)].into_iter().filter(|c| c.is_none() || of_next > 0)
            {
                let (_dir, market) = (tempfile::tempdir().unwrap(), original.clone());
                let copy = _dir.path().join("market");
                copied(&market, &copy);
                let folder = copy.join(FOLDER);
                steps[..done].iter().for_each(|step| take(&folder, step).unwrap());
                if let (Some(cut), Some(Step::Write(name, content))) = (cut, steps.get(done)) {
                    private_file(&folder.join(name), &content[..cut]).unwrap();
                }
                let keys = Keys::load(&copy).unwrap_or_else(|e| panic!("killed after {done} steps: {e}"));
                let is_new = done > put_in_place;
                assert_eq!(keys.chain.changes().len(), before.chain.changes().len() + usize::from(is_new));
                assert_eq!(keys.root, before.root);
                if is_new {
                    assert_eq!(keys.chain, chain);
                    assert_eq!(keys.old_ssh_ca.map(|(key, _)| ssh_line(&key)), Some(before.ssh_ca_public()));
                } else {
                    assert_eq!(told(&keys).0, told(&before).0);
                }
                let next = rotate(&copy).unwrap().change;
                let now = Keys::load(&copy).unwrap();
                assert_eq!((next.new, next.number as usize), (now.signing.public(), now.chain.changes().len()));
                assert_eq!(names(&copy).len(), 5, "nothing is left behind: {:?}", names(&copy));
            }
        }
    }
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copied(&entry.path(), &to) } else { fs::copy(entry.path(), to).map(drop).unwrap() }
    }
}

/// An old copy of the folder, laid over the newest: what the change before made is not destroyed.
#[test]
fn an_older_folder_takes_no_other_keys() {
    let (dir, market) = market();
    let kept = dir.path().join("kept");
    copied(&market.join(FOLDER), &kept);
    rotate(&market).unwrap();
    fs::remove_file(market.join(FOLDER).join(CHANGES)).unwrap();
    copied(&kept, &market.join(FOLDER));
    let keys = Keys::load(&market).unwrap();
    assert!(matches!(rotate(&market), Err(RotateError::Older(_))));
    tidy(&market, &keys.chain, Timestamp(i64::MAX)).unwrap();
    assert!(names(&market).contains(&"market-1.key".to_string()), "{:?}", names(&market));
}

#[test]
fn keys_that_do_not_belong_together_are_refused() {
    let (_dir, market) = market();
    let folder = market.join(FOLDER);
    let old = fs::read(folder.join("market.key")).unwrap();
    rotate(&market).unwrap();
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let (key, ca, changes) = (read("market-1.key"), read("ssh_ca-1"), read("changes.json"));
    let refused = |name: &str, content: &[u8]| {
        let kept = read(name);
        fs::write(folder.join(name), content).unwrap();
        let error = Keys::load(&market).unwrap_err();
        fs::write(folder.join(name), kept).unwrap();
        error
    };
    assert!(matches!(refused("market-1.key", &old), KeysError::NotOfChanges(_)));
    assert!(matches!(refused("ssh_ca-1", &read("ssh_ca")), KeysError::NotOfChanges(_)));
    assert!(matches!(refused("ssh_ca", &ca), KeysError::NotOfChanges(_)));
    assert!(matches!(refused("changes.json", b"[]"), KeysError::Io { .. }), "the first key is gone");
    assert!(matches!(refused("changes.json", &changes[..changes.len() / 2]), KeysError::Unreadable(_)));
    let text = String::from_utf8(changes).unwrap();
    let altered = text.replacen("\\\"number\\\":1", "\\\"number\\\":2", 1);
    assert_ne!(altered, text);
    assert!(matches!(refused("changes.json", altered.as_bytes()), KeysError::Chain { .. }));
    assert_eq!(read("market-1.key"), key);
    Keys::load(&market).unwrap();
}
