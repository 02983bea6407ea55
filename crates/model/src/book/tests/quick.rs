//! Which clauses are looked at, and in which order.

use crate::book::Broken;
use crate::book::Unfit::{self, *};
use crate::requirements::Requirements;
use crate::resources::Dimension::{Cpu, Disk, Memory};

fn quick(asked: &str) -> Vec<Unfit> {
    let (needs, _) = asked.parse::<Requirements>().unwrap().resolve().unwrap();
    Unfit::quick(&needs)
}

#[test]
fn what_nothing_was_asked_of_is_not_looked_at() {
    let always = [
        Busy,
        Vcpus,
        TooSmall(Cpu),
        TooSmall(Memory),
        TooSmall(Disk),
        Audience,
        Unconfined,
        Emulated,
        EmulatedToStrangers,
        Term,
        Window,
        Boots,
    ];
    assert_eq!(quick(""), always);
    let without_emulated: Vec<Unfit> = always.into_iter().filter(|clause| *clause != Emulated).collect();
    assert_eq!(quick("emulated=yes"), without_emulated);
}

#[test]
fn what_costs_least_to_ask_is_asked_first() {
    let all = "cpu=1..2 memory=1GiB..2GiB disk=1GiB..2GiB vcpus=1..2 os=debian image=debian-12 arch=x86_64 \
               cpu_model=epyc host=alpha region=eu avx2 !sgx tier=kvm emulated=no speed>=1 reliability>=1% \
               price<=1 total<=1";
    let expected: [&[Unfit]; 7] = [
        &[Busy],
        &[Vcpus, TooManyVcpus, TooSmall(Cpu), TooSmall(Memory), TooSmall(Disk)],
        &[TooLarge(Cpu), TooLarge(Memory), TooLarge(Disk)],
        &[Audience, Unconfined, Emulated, EmulatedToStrangers, Tier, Term, Speed, Reliability],
        &[Host, Arch, Label(0)],
        &[Window, Trait(0), Trait(1), Price, Total],
        &[CpuModel, Boots],
    ];
    assert_eq!(quick(all), expected.concat());
}

#[test]
fn a_clause_that_is_broken_twice_is_broken() {
    let once: Broken = [Busy, Term].into_iter().collect();
    assert_eq!(once.with(Busy), once);
    assert!(once.with(Busy).has(Busy) && once.count() == 2);
}
