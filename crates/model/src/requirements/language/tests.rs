use super::*;
use crate::requirements::Bounds;
use crate::units::{MiB, Millicores};

/// A text and how it is printed; or what is said of it, with the place pointed out.
#[track_caller]
fn check(text: &str, expected: &str) {
    let said = match text.parse::<Requirements>() {
        Ok(asked) => asked.to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(said, expected, "{text}");
}

#[test]
fn the_example_means_what_it_says() {
    let asked: Requirements = "cpu>=4 memory=8GiB..32GiB os=debian price<=0.05/h region in [eu,us]".parse().unwrap();
    assert_eq!(asked.cpu, Some(Bounds::AtLeast(Millicores(4000))));
    assert_eq!(asked.memory, Some(Bounds::Between(MiB(8192), MiB(32_768))));
    assert_eq!(asked.os, Some("debian".into()));
    assert_eq!(asked.price_at_most.map(|p| p.0), Some(50_000));
    assert_eq!(asked.labels["region"].words().len(), 2);
}

#[test]
fn each_meaning_is_printed_in_one_way() {
    check("", "");
    check("  \n\t ", "");
    check("cpu >= 4", "cpu>=4");
    check("cpu==4", "cpu=4");
    check("cpu=4..8 vcpus in 4..8", "cpu=4..8 vcpus=4..8");
    check("cpu=0.5.. memory=..1GiB", "cpu>=500m memory<=1GiB");
    check("cpu>4 memory<8GiB price<0.05/h total<1", "cpu>=4001m memory<=8191MiB price<=0.049999/h total<=0.999999");
    check("cpu>=2 cpu<=8 cpu>=4", "cpu=4..8");
    check("memory=1.5GiB disk=2TiB", "memory=1536MiB disk=2048GiB");
    check("os=[ubuntu, debian ,debian]", "os in [debian,ubuntu]");
    check("os != debian host not   in [a,b] arch notin [arm64]", "os!=debian arch!=arm64 host notin [a,b]");
    check("region in [eu,us] region!=us label.rack=7", "label.rack=7 region=eu");
    check("label.\"top rack\"=\"a \\\"b\\\"\" os=\"any\"", "os=\"any\" label.\"top rack\"=\"a \\\"b\\\"\"");
    check("os=any cpu=any image=any price=any", "");
    check("avx2 !sgx confined trait=newflag trait!=oldflag", "avx2 confined trait=newflag trait!=oldflag !sgx");
    check("emulated", "emulated=yes");
    check("!emulated", "emulated=no");
    check("tier=any", "emulated=yes");
    check("tier in [kvm,emulated]", "emulated=yes");
    check("kvm", "tier=kvm");
    check("tier!=kvm", "tier=emulated");
    check("speed>1000 reliability>=99.5% term=2h30m count=3", "speed>=1001 reliability>=99.5% term=2h30m count=3");
    check("order=price", "order=price");
    check("order=[-memory, reliability]", "order=[-memory,reliability]");
    check("image in [debian-12@12.11-1,alpine]", "image in [alpine,debian-12@12.11-1]");
    check("cpu_model!=\"Xeon E5\"", "cpu_model!=\"Xeon E5\"");
    check("host=größe", "host=größe");
}

#[test]
fn a_slip_is_answered_with_the_nearest_name() {
    check("memroy>=4GiB", "column 1: no such property memroy: did you mean memory?");
    check("cpu>=4 ram>=4GiB", "column 8: no such property ram: did you mean memory?");
    check("cores>4", "column 1: no such property cores: did you mean cpu?");
    check("CPU>=4", "column 1: no such property CPU: did you mean cpu?");
    check("zone=a", "column 1: no such property zone: did you mean label.zone?");
    check("quux=a", "column 1: no such property quux; a label is written label.quux");
    check("avx3", "column 1: no such property or trait avx3: did you mean avx?");
    check("avx512_vnnl", "column 1: no such property or trait avx512_vnnl: did you mean avx512_vnni?");
    check("flurb", "column 1: no such property or trait flurb; a flag that is not known here is written trait=flurb");
    check(
        "order=prise",
        "column 7: prise is no order: total, price, reliability, age, cpu, memory, disk, speed, or one of them with - before it: did you mean price?",
    );
    check("memory>=8GB", "column 9: \"8GB\" is not memory such as 512MiB or 8GiB: did you mean 8GiB?");
}

#[test]
fn what_is_wrong_is_said_at_its_column() {
    check("cpu>=4 cpu<=2", "column 8: no amount is left for cpu after what was said before");
    check("os=debian os=ubuntu", "column 11: os was said before: say it once, such as os in [a,b]");
    check("region=eu region=us", "column 11: nothing is left for region after what was said before");
    check("term=1h term=2h", "column 9: term was said otherwise before");
    check("emulated tier=kvm", "column 15: tier says yes where the tier asked for is kvm: leave one of them out");
    check("avx2 !avx2", "column 6: avx2 avx2 is asked for and ruled out");
    check("cpu", "column 1: cpu needs an operator and a value, such as cpu>=4");
    check("label.rack", "column 1: label needs an operator and a value, such as label.rack=7");
    check("label=7", "column 1: label needs the label's name: label.rack=7");
    check("cpu.a=7", "column 1: cpu has no parts: only labels have a dot");
    check("cpu>=", "column 6: expected a value, or a set such as [a,b], but the text ends here");
    check("cpu>= >4", "column 7: expected a value, or a set such as [a,b], but > stands here");
    check("cpu>=4,memory>=1GiB", "column 7: expected a space before the next clause, but , stands here");
    check("cpu>=4 & avx2", "column 8: no such property or trait &; a flag that is not known here is written trait=&");
    check("cpu>=4 =3", "column 8: expected a property such as cpu>=4, or a trait such as avx2, but = stands here");
    check("region in [eu", "column 14: expected a comma and another word, or ], but the text ends here");
    check("region in [eu;us]", "column 14: expected a comma and another word, or ], but ; stands here");
    check("region in [eu,]", "column 15: expected a word, but ] stands here");
    check("region in []", "column 11: a set needs a word, such as [eu,us]");
    check("os=\"debian", "column 11: expected the closing quote, but the text ends here");
    check("label.", "column 7: expected the label's name behind the dot, such as label.rack, but the text ends here");
    check("!cpu>=4", "column 5: expected nothing behind a trait with !, but > stands here");
    check("cpu!=4", "column 4: cpu takes = < <= > >= or a range, such as cpu>=4");
    check("price>=1", "column 6: price takes <= or <, such as price<=0.05/h");
    check("price=1", "column 6: price takes <= or <, such as price<=0.05/h");
    check("os>=debian", "column 3: os takes = != in or notin, such as os=debian");
    check("cpu in [2,4]", "column 8: cpu takes one value, not a set");
    check("cpu=8..4", "column 5: 8..4 has no beginning: 8 is more than 4");
    check("cpu=..", "column 5: a range needs an end, such as 2..8");
    check("cpu=9999", "column 5: \"9999\" is not processor time such as 2, 0.5 or 500m");
    check("memory>=1MiB", "column 9: memory must be from 64MiB to 64TiB");
    check("vcpus=0", "column 7: vcpus must be from 1 to 4096");
    check("cpu=4 vcpus=2", "column 7: vcpus: 2 can't use 4 cpu: ask for 4");
    check("term=soon", "column 6: \"soon\" is not a span such as 90s, 30m or 2h30m");
    check("reliability>=0.99", "column 14: \"0.99\" is not a share such as 99% or 99.5%");
    check("tier=xen", "column 6: a tier is kvm or emulated");
    check("emulated=perhaps", "column 10: perhaps is not yes, no or any");
    check("count=65", "column 7: count must be from 1 to 64");
    check("cpu>=4\n  memroy>=4GiB", "line 2, column 3: no such property memroy: did you mean memory?");
}

#[test]
fn columns_are_characters_and_offsets_are_bytes() {
    let text = "host=größe memroy>=1GiB";
    let error = text.parse::<Requirements>().unwrap_err();
    assert_eq!((error.column, error.offset, error.end), (12, 13, 19));
    assert_eq!(error.pointed_out(text), "host=größe memroy>=1GiB\n           ^^^^^^");
    let text = "cpu>=4\n\tmemory>=8GB avx2";
    let error = text.parse::<Requirements>().unwrap_err();
    assert_eq!(error.pointed_out(text), "\tmemory>=8GB avx2\n\t        ^^^");
    let text = "cpu>=";
    assert_eq!(text.parse::<Requirements>().unwrap_err().pointed_out(text), "cpu>=\n     ^");
}

#[test]
fn what_would_harm_a_terminal_is_not_said_back() {
    let error = "\u{1b}[2Jevil\u{202e}=1".parse::<Requirements>().unwrap_err().to_string();
    assert!(!error.contains('\u{1b}') && !error.contains('\u{202e}'), "{error:?}");
    let error = format!("{}=1", "x".repeat(10_000)).parse::<Requirements>().unwrap_err().to_string();
    assert!(error.len() < 200, "{error}");
}

#[test]
fn there_are_limits() {
    let long = "avx2 ".repeat(20_000).parse::<Requirements>().unwrap_err();
    assert_eq!(long.problem, "longer than 65536 bytes");
    let many = "avx2 ".repeat(257).parse::<Requirements>().unwrap_err();
    assert_eq!((many.problem.as_str(), many.column), ("more than 256 clauses", 256 * 5 + 1));
    let labels: String = (0..33).map(|n| format!("label.l{n}=1 ")).collect();
    assert!(labels.parse::<Requirements>().unwrap_err().problem.contains("at most 32"));
    let words: String = (0..33).map(|n| format!("w{n},")).collect();
    assert!(format!("os in [{}a]", words).parse::<Requirements>().unwrap_err().problem.contains("1 to 32 words"));
}

#[test]
fn every_name_has_an_example_that_is_read() {
    for (property, name, example) in names::PROPERTIES {
        assert_eq!((property.name(), names::Property::named(name)), (name, Some(property)));
        example.parse::<Requirements>().unwrap_or_else(|e| panic!("{example}: {e}"));
        assert!(!names::is_known_trait(name) && name != "kvm");
    }
}

#[test]
fn a_body_may_hold_the_text() {
    let read = |json: &str| serde_json::from_str::<Requirements>(json).map_err(|e| e.to_string());
    assert_eq!(read("\"cpu>=4 os=debian\""), read(r#"{"cpu":4000,"os":"debian"}"#));
    assert!(read("\"memroy>=4GiB\"").unwrap_err().contains("column 1: no such property memroy: did you mean memory?"));
    assert!(read("5").unwrap_err().contains("expected an object, or a text such as"));
    assert!(read("null").is_err() && read("[]").is_err());
}
