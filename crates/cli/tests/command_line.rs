//! The program as a person at a shell meets it: words, exit codes, files. No market runs here.

use assert_cmd::Command;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn sublet(home: &Path) -> Command {
    let mut command = Command::cargo_bin("sublet").unwrap();
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SUBLET_")) {
        command.env_remove(name);
    }
    command
        .env("SUBLET_CONFIG", home)
        .env("NO_COLOR", "1")
        .env_remove("COLUMNS")
        .timeout(std::time::Duration::from_secs(60));
    command
}

/// Exit code and stderr of a call.
fn fails(home: &Path, arguments: &[&str]) -> (i32, String) {
    let out = sublet(home).args(arguments).output().unwrap();
    assert!(out.stdout.is_empty(), "{arguments:?}: no data comes with a failure");
    (out.status.code().unwrap(), String::from_utf8(out.stderr).unwrap())
}

#[test]
fn help_of_the_whole_reads_well() {
    let temp = tempfile::tempdir().unwrap();
    let out = sublet(temp.path()).arg("--help").output().unwrap();
    insta::assert_snapshot!(String::from_utf8(out.stdout).unwrap());
}

#[test]
fn every_command_explains_itself() {
    let temp = tempfile::tempdir().unwrap();
    for command in [
        "search",
        "run",
        "rent",
        "ssh",
        "job submit",
        "job list",
        "job show",
        "job logs",
        "job wait",
        "job fetch",
        "job cancel",
        "lease list",
        "lease show",
        "extend",
        "release",
        "statement",
        "verify",
        "login",
        "context list",
        "context use",
        "context remove",
        "whoami",
        "image list",
        "image build",
        "image add",
        "image publish",
        "host check",
        "host join",
        "host lend",
        "host divide",
        "host own list",
        "host own start",
        "host own stop",
        "host own remove",
        "host enter",
        "host ssh-config",
        "host unlist",
        "host take-back",
        "host run",
        "host status",
        "host token",
        "host list",
        "host show",
        "depot serve",
        "depot verify",
        "market init",
        "market serve",
        "account create",
        "account list",
        "account deposit",
        "account refund",
        "account pays",
        "account limit",
        "balance",
        "alerts",
        "dispute open",
        "dispute list",
        "lease explain",
        "host earnings",
        "market audit",
        "market keys",
        "market rotate-keys",
        "admin ledger",
        "admin fee",
        "admin dispute list",
        "admin dispute resolve",
        "user add",
        "token create",
        "token revoke",
        "admin audit",
        "admin host reset",
        "admin host suspend",
        "admin host forget",
        "completions",
    ] {
        let out = sublet(temp.path()).args(command.split(' ')).arg("--help").output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(out.status.success() && text.contains("Usage: sublet"), "{command}: {text}");
        assert!(text.lines().next().is_some_and(|line| line.len() > 10), "{command}: {text}");
    }
}

#[test]
fn what_makes_no_sense_exits_2() {
    let temp = tempfile::tempdir().unwrap();
    for arguments in [
        &["frobnicate"][..],
        &["search", "--cpu", "many"],
        &["search", "--memory", "8GB"],
        &["rent", "--for", "soon"],
        &["rent", "--price-at-most", "-1"],
        &["rent", "--name", "No Name"],
        &["run"],
        &["run", "--lease", "../etc", "--", "id"],
        &["extend", "box", "1500ms"],
        &["job", "logs", "a b/1"],
        &["job", "submit", "box", "--out", "../up", "--", "true"],
        &["job", "submit", "box", "--env", "=x", "--", "true"],
        &["run", "--lease", "box", "--in", ".", "--", "true"],
        &["login", "http://127.0.0.1:1"],
        &["host", "lend", "--keep", "2GB"],
        &["host", "lend", "--keep", "1cpu,1GiB", "--when", "sometimes"],
        &["search", "--order", "beauty"],
        &["host", "take-back"],
        &["host", "divide"],
        &["host", "divide", "--own", "debian"],
        &["host", "divide", "--own", "debian:1cpu,1GiB,disk:20GiB"],
        &["depot", "serve", "x", "--listen", "0.0.0.0:7402"],
    ] {
        let (code, said) = fails(temp.path(), arguments);
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(said.starts_with("error: "), "{arguments:?}: {said}");
    }
}

#[test]
fn what_is_wrong_in_a_need_is_pointed_at() {
    let temp = tempfile::tempdir().unwrap();
    let advice = "what to do: `sublet search --help` shows the flags, the guide to requirements the words\n";
    for (arguments, said) in [
        (
            &["search", "memroy>=4GiB"][..],
            "error: can't read what you need: column 1: no such property memroy: did you mean memory?\n\
             \x20 memroy>=4GiB\n\
             \x20 ^^^^^^\n",
        ),
        (
            &["rent", "cpu>=4", "memory>=8GB"],
            "error: can't read what you need: column 16: \"8GB\" is not memory such as 512MiB or 8GiB: did you mean 8GiB?\n\
             \x20 cpu>=4 memory>=8GB\n\
             \x20                ^^^\n",
        ),
        (
            &["run", "host=größe avx2 cpu>=4 cpu<=2", "--", "id"],
            "error: can't read what you need: column 24: no amount is left for cpu after what was said before\n\
             \x20 host=größe avx2 cpu>=4 cpu<=2\n\
             \x20                        ^^^^^^\n",
        ),
        (
            &["search", "os=ubuntu", "--os", "debian"],
            "error: the flags contradict what stands before: column 11: os was said before: say it once, such as os in [a,b]\n\
             \x20 os=ubuntu os=debian\n\
             \x20           ^^^^^^^^^\n",
        ),
    ] {
        assert_eq!(fails(temp.path(), arguments), (2, format!("{said}{advice}")), "{arguments:?}");
    }
}

#[test]
fn text_and_flags_add_up_before_a_market_is_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    for arguments in [
        &["search", "cpu>=2 memory=1GiB..4GiB", "os=debian", "--cpu", "4", "--order", "-memory,price"][..],
        &["rent", "--os", "debian", "--label", "region=eu", "region in [eu,us]"],
        &["run", "emulated", "--emulated", "--", "id"],
    ] {
        let (code, said) = fails(temp.path(), arguments);
        assert_eq!((code, said.contains("no market is known yet")), (4, true), "{arguments:?}: {said}");
    }
}

#[test]
fn without_a_market_it_says_how_to_log_in() {
    let temp = tempfile::tempdir().unwrap();
    let (code, said) = fails(temp.path(), &["search"]);
    assert_eq!(code, 4);
    assert_eq!(
        said,
        "error: no market is known yet\nwhat to do: run `sublet login URL` with the token you were given\n"
    );
}

#[test]
fn a_market_that_does_not_answer_is_named() {
    let temp = tempfile::tempdir().unwrap();
    // Bound and dropped: nobody listens there now.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    let out = sublet(temp.path()).args(["--market", &url, "whoami"]).env("SUBLET_TOKEN", "x").output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("failed to reach {url}: ")) && said.contains("what to do: "), "{said}");
    let (code, said) = fails(temp.path(), &["--context", "lab", "whoami"]);
    assert_eq!((code, said.contains("there is no context \"lab\"")), (3, true), "{said}");
}

#[test]
fn plain_http_to_another_computer_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let out = sublet(temp.path()).args(["login", "http://192.0.2.1"]).env("SUBLET_TOKEN", "x").output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success() && said.contains("use https"), "{said}");
}

#[test]
fn completions_are_made_for_each_shell() {
    let temp = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let out = sublet(temp.path()).args(["completions", shell]).output().unwrap();
        assert!(out.status.success() && String::from_utf8(out.stdout).unwrap().contains("take-back"), "{shell}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let temp = tempfile::tempdir().unwrap();
    let program = assert_cmd::cargo::cargo_bin("sublet");
    let line = format!("{} completions bash | head -c 1 > /dev/null; echo ${{PIPESTATUS[0]}}", program.display());
    let out =
        std::process::Command::new("bash").args(["-c", &line]).env("SUBLET_CONFIG", temp.path()).output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap().trim(), "0");
    assert_eq!(String::from_utf8(out.stderr).unwrap(), "");
}

#[test]
fn a_recipe_is_built_added_and_listed() {
    let temp = tempfile::tempdir().unwrap();
    let recipe = temp.path().join("recipe");
    let (depot, guest) = (temp.path().join("depot"), temp.path().join("guest"));
    std::fs::create_dir(&recipe).unwrap();
    std::fs::write(&guest, "a guest").unwrap();
    let program = recipe.join("build");
    std::fs::write(&program, "#!/bin/sh\necho working >&2\n[ -z \"$FAIL\" ] || { echo broken >&2; exit 3; }\ncp \"$2\" \"$1/vmlinux\"\ncp \"$0.toml\" \"$1/image.toml\"\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(
        recipe.join("build.toml"),
        "name = \"tiny\"\nos = \"tiny\"\nversion = \"1\"\narch = \"x86_64\"\nlogin_user = \"root\"\n\
         guest_channel = \"c\"\ncommand_line = \"\"\n[minimum]\nmemory_mib = 64\nvcpus = 1\n\
         [boot]\nkind = \"direct\"\nkernel = \"vmlinux\"\n",
    )
    .unwrap();
    let build = || {
        let mut command = sublet(temp.path());
        command.args(["image", "build"]).arg(&recipe).arg("--depot").arg(&depot).arg("--guest").arg(&guest);
        command
    };
    let out = build().output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "tiny@1\n", "{}", String::from_utf8_lossy(&out.stderr));
    let out = build().env("FAIL", "1").output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.code() == Some(1) && said.contains("broken") && said.contains("failed"), "{said}");

    let out = sublet(temp.path()).args(["-o", "json", "image", "list", "--depot"]).arg(&depot).output().unwrap();
    let list: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(list[0]["payload"].as_str().unwrap().contains("tiny"), "{list}");
    sublet(temp.path()).args(["depot", "verify"]).arg(&depot).assert().success();
    let left: Vec<_> = std::fs::read_dir(&depot).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".building")), "{left:?}");

    let blob = std::fs::read_dir(depot.join("blobs/sha256")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(blob, "another").unwrap();
    let out = sublet(temp.path()).args(["depot", "verify"]).arg(&depot).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8(out.stdout).unwrap().contains("damaged"));
}
