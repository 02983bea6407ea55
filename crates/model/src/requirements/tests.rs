use super::*;

fn read(json: &str) -> Result<Requirements, serde_json::Error> {
    serde_json::from_str(json)
}

#[test]
fn defaults_are_filled_in_and_said() {
    let (resolved, assumed) = Requirements::default().resolve().unwrap();
    assert_eq!((resolved.resources.cpu, resolved.resources.memory, resolved.vcpus), (Millicores(1000), MiB(512), 1));
    assert!(!resolved.emulated);
    let said: Vec<String> = assumed.iter().map(|a| a.clause.clone()).collect();
    let again: Requirements = said.join(" ").parse().unwrap();
    assert!(again.resolve().unwrap().1.is_empty(), "with every default said, none is left");
    assert_eq!(said.join(" "), "cpu>=1 memory>=512MiB disk>=0GiB vcpus>=1 term=1h emulated=no count=1 order=total");
}

#[test]
fn amounts_beyond_reason_are_refused_by_field() {
    let base = Requirements::default;
    let bad = [
        ("cpu", Requirements { cpu: Some(Millicores(0).into()), ..base() }),
        ("cpu", Requirements { cpu: Some(Millicores(i64::MIN).into()), ..base() }),
        ("cpu", Requirements { cpu: Some(Bounds::AtMost(Millicores(99))), ..base() }),
        ("memory", Requirements { memory: Some(MiB(i64::MAX).into()), ..base() }),
        ("memory", Requirements { memory: Some(Bounds::Between(MiB(512), MiB(256))), ..base() }),
        ("disk", Requirements { disk: Some(GiB(-1).into()), ..base() }),
        ("vcpus", Requirements { vcpus: Some(0.into()), ..base() }),
        ("vcpus", Requirements { vcpus: Some(65_535.into()), ..base() }),
        ("vcpus", Requirements { cpu: Some(Millicores(1001).into()), vcpus: Some(1.into()), ..base() }),
        ("vcpus", Requirements { cpu: Some(Millicores(1001).into()), vcpus: Some(Bounds::AtMost(1)), ..base() }),
        ("term_seconds", Requirements { term_seconds: Some(Seconds(0)), ..base() }),
        ("term_seconds", Requirements { term_seconds: Some(Seconds(i64::MAX)), ..base() }),
        ("price_at_most", Requirements { price_at_most: Some(MicrosPerHour(-1)), ..base() }),
        ("total_at_most", Requirements { total_at_most: Some(Micros(-1)), ..base() }),
        ("os", Requirements { os: Some("a\0b".into()), ..base() }),
        ("image", Requirements { image: Some("".into()), ..base() }),
        ("host", Requirements { host: Some(Choice::NoneOf(BTreeSet::new())), ..base() }),
        ("arch", Requirements { arch: Some(Choice::one_of((0..33).map(|n| n.to_string()))), ..base() }),
        ("count", Requirements { count: Some(0), ..base() }),
        ("count", Requirements { count: Some(65), ..base() }),
        ("emulated", Requirements { tier: Some(Tier::Kvm), emulated: Some(true), ..base() }),
        ("traits", Requirements { traits: ["a".into()].into(), without_traits: ["a".into()].into(), ..base() }),
        ("order", Requirements { order: vec!["cpu".parse().unwrap(), "-cpu".parse().unwrap()], ..base() }),
    ];
    for (field, requirements) in bad {
        assert_eq!(requirements.resolve().unwrap_err().field, field, "{requirements:?}");
    }
}

#[test]
fn an_upper_bound_alone_bounds_the_default_too() {
    let asked = Requirements { memory: Some(Bounds::AtMost(MiB(256))), ..Requirements::default() };
    let (resolved, assumed) = asked.resolve().unwrap();
    assert_eq!((resolved.resources.memory, resolved.at_most.memory), (MiB(256), MiB(256)));
    assert!(assumed.iter().any(|a| a.field == "memory" && a.value == "256MiB"));
}

#[test]
fn bodies_of_before_are_still_read() {
    let old = r#"{"cpu":2000,"memory":1024,"disk":null,"vcpus":2,"os":"debian","image":null,"arch":"x86_64",
        "price_at_most":50000,"term_seconds":60,"emulated":true,"labels":{"region":"eu"},"host":"h1"}"#;
    let asked = read(old).unwrap();
    assert_eq!(asked.cpu, Some(Bounds::AtLeast(Millicores(2000))));
    assert_eq!(asked.labels["region"], Choice::from("eu"));
    let again = serde_json::to_string(&asked).unwrap();
    assert!(
        again.contains(r#""cpu":2000"#) && again.contains(r#""os":"debian""#),
        "an older market reads it too: {again}"
    );
    assert_eq!(read(&again).unwrap(), asked);
}

#[test]
fn bounds_and_choices_have_one_form_each() {
    let new = r#"{"cpu":{"at_least":1000,"at_most":2000},"memory":{"at_most":64},"os":["debian","ubuntu"],
        "labels":{"region":{"not_in":["us"]}},"traits":["avx2"],"tier":"kvm","count":3,"order":["-memory","price"]}"#;
    let asked = read(new).unwrap();
    assert_eq!(asked.cpu, Some(Bounds::Between(Millicores(1000), Millicores(2000))));
    assert_eq!(asked.memory, Some(Bounds::AtMost(MiB(64))));
    assert_eq!(asked.os, Some(Choice::one_of(["debian", "ubuntu"])));
    assert_eq!(asked.labels["region"], Choice::none_of(["us"]));
    assert_eq!(read(&serde_json::to_string(&asked).unwrap()).unwrap(), asked);
    for bad in [
        r#"{"cpu":{}}"#,
        r#"{"cpu":{"at_least":1,"at_mots":2}}"#,
        r#"{"cpu":1.5}"#,
        r#"{"vcpus":65536}"#,
        r#"{"os":{"in":["a"]}}"#,
        r#"{"os":7}"#,
        r#"{"order":["weight"]}"#,
        r#"{"memroy":1}"#,
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn choices_meet_in_what_will_do_for_both() {
    let one = |words: &[&str]| Choice::one_of(words.iter().copied());
    let none = |words: &[&str]| Choice::none_of(words.iter().copied());
    assert_eq!(one(&["a", "b"]).and(&one(&["b", "c"])), Some(one(&["b"])));
    assert_eq!(one(&["a", "b"]).and(&none(&["b", "c"])), Some(one(&["a"])));
    assert_eq!(none(&["a"]).and(&one(&["a"])), None);
    assert_eq!(none(&["a"]).and(&none(&["b"])), Some(none(&["a", "b"])));
    assert!(none(&["eu"]).accepts("us") && !none(&["eu"]).accepts("eu") && one(&["eu"]).accepts("eu"));
}
