//! The depot from a recipe's output to bytes on the wire, over real HTTP.

use reqwest::{Client, StatusCode};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use sublet_depot::{Added, Depot, DepotError, Server};
use sublet_model::identity::{Sha256Digest, Signed};
use sublet_model::image::ImageManifest;
use tokio_util::sync::CancellationToken;

const IMAGE_TOML: &str = r#"
name = "tiny"
os = "tiny-linux"
version = "1.0-1"
arch = "x86_64"
licence = "none"
login_user = "root"
guest_channel = "org.sublet.guest.0"
command_line = "quiet panic=-1"
[minimum]
memory_mib = 64
vcpus = 1
[boot]
kind = "direct"
kernel = "vmlinux"
initrd = "initrd.cpio"
"#;

fn recipe_output(dir: &Path, kernel: &[u8]) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("image.toml"), IMAGE_TOML).unwrap();
    fs::write(dir.join("vmlinux"), kernel).unwrap();
    fs::write(dir.join("initrd.cpio"), b"the first file system").unwrap();
}

struct Fixture {
    temp: tempfile::TempDir,
    depot: Depot,
    added: Added,
}

fn fixture() -> Fixture {
    let temp = tempfile::tempdir().unwrap();
    recipe_output(&temp.path().join("out"), &kernel());
    let depot = Depot::create(temp.path().join("depot")).unwrap();
    let added = depot.add(&temp.path().join("out"), &mut |_| {}).unwrap();
    Fixture { temp, depot, added }
}

/// Three chunks and a bit, no two stretches alike.
fn kernel() -> Vec<u8> {
    (0..3_200_000u32).flat_map(u32::to_le_bytes).take(3_200_001).collect()
}

struct Running {
    base: String,
    cancellation: CancellationToken,
    http: Client,
}

impl Running {
    async fn start(depot: &Depot) -> Self {
        sublet_wire::tls::install_provider();
        let server = Server::bind(depot.clone(), "127.0.0.1:0".parse().unwrap()).unwrap();
        let base = format!("http://{}", server.local_addr().unwrap());
        let cancellation = CancellationToken::new();
        tokio::spawn(server.run(cancellation.clone()));
        Self { base, cancellation, http: Client::builder().no_proxy().build().unwrap() }
    }

    fn blob(&self, digest: impl std::fmt::Display) -> reqwest::RequestBuilder {
        self.http.get(format!("{}/v1/blobs/sha256/{digest}", self.base))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancellation.cancel();
    }
}

fn kernel_digest(f: &Fixture) -> Sha256Digest {
    f.added.manifest.boot.blobs()[0].1.sha256
}

#[tokio::test]
async fn what_was_added_comes_back_whole_and_in_ranges() {
    let f = fixture();
    let running = Running::start(&f.depot).await;
    let list: Vec<Signed<ImageManifest>> =
        running.http.get(format!("{}/v1/images", running.base)).send().await.unwrap().json().await.unwrap();
    let manifest = list[0].verify(&f.depot.public_key()).unwrap();
    assert_eq!((list.len(), manifest.reference().as_str()), (1, "tiny@1.0-1"));

    let digest = kernel_digest(&f);
    let whole = running.blob(digest).send().await.unwrap();
    assert_eq!(whole.status(), StatusCode::OK);
    assert_eq!(whole.headers()["etag"], format!("\"{digest}\"").as_str());
    let whole = whole.bytes().await.unwrap();
    assert_eq!(Sha256Digest::of(&whole), digest);

    let part = running.blob(digest).header("range", "bytes=1000000-").send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], "bytes 1000000-3200000/3200001");
    assert_eq!(part.bytes().await.unwrap(), whole.slice(1_000_000..));

    let beyond = running.blob(digest).header("range", "bytes=9999999-").send().await.unwrap();
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    let known = running.blob(digest).header("if-none-match", format!("\"{digest}\"")).send().await.unwrap();
    assert_eq!((known.status(), known.bytes().await.unwrap().len()), (StatusCode::NOT_MODIFIED, 0));
    let head = running.http.head(format!("{}/v1/blobs/sha256/{digest}", running.base)).send().await.unwrap();
    assert_eq!((head.status(), &head.headers()["content-length"]), (StatusCode::OK, &"3200001".parse().unwrap()));
}

#[tokio::test]
async fn no_address_leads_out_of_the_folder() {
    let f = fixture();
    let running = Running::start(&f.depot).await;
    let absent = Sha256Digest::of(b"never added").to_string();
    for path in [
        "/v1/blobs/sha256/..%2F..%2Fkeys%2Fimage-signing.key",
        "/v1/blobs/sha256/%2e%2e%2f%2e%2e%2fkeys%2fimage-signing.key",
        "/v1/blobs/sha256/..",
        "/v1/blobs/sha256/.incoming-x",
        "/keys/image-signing.key",
        "/v1/blobs/sha256/",
        &format!("/v1/blobs/sha256/{}", absent.to_uppercase()),
        &format!("/v1/blobs/sha256/{absent}"),
        &format!("/v1/blobs/sha256/{absent}0"),
    ] {
        let answer = running.http.get(format!("{}{path}", running.base)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
        assert!(answer.text().await.unwrap().contains("urn:sublet:problem:not_found"), "{path}");
    }
    let written = running.http.post(format!("{}/v1/images", running.base)).body("x").send().await.unwrap();
    assert_eq!(written.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_damaged_blob_is_never_served_and_adding_again_heals_it() {
    let f = fixture();
    let path = f.depot.blob_path(kernel_digest(&f));
    let mut bytes = kernel();
    bytes[2_000_000] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let findings = f.depot.verify(&mut |_| {}).unwrap();
    assert_eq!(findings.len(), 1);
    assert!(findings[0].problem.contains("damaged"), "{findings:?}");
    let running = Running::start(&f.depot).await;
    let refused = running.blob(kernel_digest(&f)).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(refused.text().await.unwrap().contains("damaged"));

    assert!(f.depot.add(&f.temp.path().join("out"), &mut |_| {}).unwrap().known);
    assert_eq!(f.depot.verify(&mut |_| {}).unwrap(), []);
    assert_eq!(running.blob(kernel_digest(&f)).send().await.unwrap().status(), StatusCode::OK);

    // Damage while it is served shows too.
    fs::write(&path, &bytes).unwrap();
    assert_eq!(running.blob(kernel_digest(&f)).send().await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    fs::remove_file(&path).unwrap();
    assert_eq!(running.blob(kernel_digest(&f)).send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[test]
fn the_same_output_again_changes_nothing_and_another_one_is_newer() {
    let f = fixture();
    let again = f.depot.add(&f.temp.path().join("out"), &mut |_| {}).unwrap();
    assert!(again.known);
    assert_eq!(again.signed, f.added.signed);

    recipe_output(&f.temp.path().join("out"), b"another kernel");
    let newer = f.depot.add(&f.temp.path().join("out"), &mut |_| {}).unwrap();
    assert!(!newer.known && newer.manifest.created_at > f.added.manifest.created_at);
    assert_eq!(newer.manifest.reference(), "tiny@1.0-1+2", "a version never means two things");
    assert!(f.depot.add(&f.temp.path().join("out"), &mut |_| {}).unwrap().known);
    recipe_output(&f.temp.path().join("out"), b"a third");
    let third = f.depot.add(&f.temp.path().join("out"), &mut |_| {}).unwrap();
    assert_eq!(third.manifest.version, "1.0-1+3");
    recipe_output(&f.temp.path().join("out"), &kernel());
    assert_eq!(f.depot.add(&f.temp.path().join("out"), &mut |_| {}).unwrap().signed, f.added.signed);
    let list: Vec<_> = f.depot.list().unwrap().iter().map(|signed| signed.read().unwrap().version).collect();
    assert_eq!(list, ["1.0-1+2", "1.0-1+3", "1.0-1"]);
    assert!(f.depot.blob_path(kernel_digest(&f)).is_file(), "a lease may still need the older blob");
}

#[test]
fn what_is_no_image_is_refused_and_leaves_nothing() {
    let f = fixture();
    let out = f.temp.path().join("bad");
    recipe_output(&out, b"kernel");
    for (what, toml) in [
        ("path", IMAGE_TOML.replace("\"vmlinux\"", "\"../vmlinux\"")),
        ("absolute", IMAGE_TOML.replace("\"vmlinux\"", "\"/etc/passwd\"")),
        ("missing", IMAGE_TOML.replace("\"vmlinux\"", "\"absent\"")),
        ("unknown field", IMAGE_TOML.replace("[minimum]", "surprise = 1\n[minimum]")),
        ("name", IMAGE_TOML.replace("\"tiny\"", "\"../tiny\"")),
        ("boot kind", IMAGE_TOML.replace("\"direct\"", "\"magic\"")),
        ("no toml", "][".into()),
    ] {
        fs::write(out.join("image.toml"), toml).unwrap();
        let refused = f.depot.add(&out, &mut |_| {}).unwrap_err();
        assert!(matches!(refused, DepotError::BadRecipe { .. } | DepotError::MissingFile { .. }), "{what}: {refused}");
    }
    fs::write(out.join("image.toml"), IMAGE_TOML).unwrap();
    fs::write(out.join("initrd.cpio"), b"").unwrap();
    assert!(f.depot.add(&out, &mut |_| {}).is_err(), "an empty blob");
    assert_eq!(f.depot.list().unwrap(), [f.added.signed]);
}

#[test]
fn a_manifest_that_this_depot_did_not_sign_is_left_out() {
    let f = fixture();
    let path = f.depot.dir().join("manifests/tiny@1.0-1.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("quiet", "quiEt")).unwrap();
    assert_eq!(f.depot.list().unwrap(), []);
    let findings = f.depot.verify(&mut |_| {}).unwrap();
    assert!(findings[0].problem.contains("believed"), "{findings:?}");
}

#[test]
fn the_key_is_its_owners_alone_and_stays() {
    let f = fixture();
    let key = f.depot.dir().join("keys/image-signing.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Depot::open(f.depot.dir()).unwrap().public_key(), f.depot.public_key());
    assert!(matches!(Depot::open(f.temp.path()), Err(DepotError::NotADepot(_))));
    fs::write(&key, "short").unwrap();
    assert!(matches!(Depot::create(f.depot.dir()), Err(DepotError::BadKey(_))), "a bad key is never replaced");
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let f = fixture();
    let running = Running::start(&f.depot).await;
    let many = (0..100).fold(running.http.get(format!("{}/v1/health", running.base)), |request, n| {
        request.header(format!("x-{n}"), "1")
    });
    assert_eq!(many.send().await.unwrap().status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(running.http.get(format!("{}/v1/health", running.base)).send().await.unwrap().status(), StatusCode::OK);
}
