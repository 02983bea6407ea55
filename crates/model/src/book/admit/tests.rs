use super::*;
use crate::billing::PriceList;
use crate::book::tests::plain::inventory;
use crate::identity::Sha256Digest;
use crate::image::{Blob, Boot};
use crate::offer::{Conditions, Windows};
use crate::units::{GiB, MiB, Millicores, Seconds};

/// Everything that a case is made of, so that a test changes one thing.
struct Scene {
    inventory: Inventory,
    conditions: Conditions,
    reach: Option<Resources>,
    least: Resources,
    reliability_permille: u16,
    images: Vec<ImageManifest>,
    asked: Requirements,
    own: bool,
}

const NOON: Timestamp = Timestamp(1_782_993_600_000_000); // Thursday 2026-07-02 12:00 UTC

fn image(name: &str, os: &str, memory: i64, created_at: i64) -> ImageManifest {
    let kernel = Blob { sha256: Sha256Digest::of(name.as_bytes()), bytes: 1 };
    ImageManifest {
        name: name.into(),
        os: os.into(),
        version: "1".into(),
        arch: "x86_64".into(),
        boot: Boot::Direct { kernel, initrd: None, root: None },
        command_line: String::new(),
        guest_channel: "c".into(),
        login_user: "root".into(),
        minimum_memory: MiB(memory),
        minimum_vcpus: 1,
        licence: String::new(),
        created_at,
    }
}

fn r(cpu: i64, memory: i64, disk: i64) -> Resources {
    Resources { cpu: Millicores(cpu), memory: MiB(memory), disk: GiB(disk) }
}

/// A free, roomy partition of a good host, and a client who asks for little.
fn scene() -> Scene {
    let prices = PriceList { cpu: MicrosPerHour(10_000), setup: Micros(5), ..PriceList::default() };
    let mut conditions = Conditions { prices, ..Conditions::free() };
    conditions.labels = [("region".to_owned(), "eu".to_owned())].into();
    Scene {
        inventory: Inventory { cpu_flags: vec!["avx2".into(), "sgx".into()], ..inventory() },
        conditions,
        reach: Some(r(4000, 8192, 50)),
        least: r(100, 64, 0),
        reliability_permille: 990,
        images: vec![
            image("debian-12", "debian", 256, 1),
            image("debian-13", "debian", 512, 2),
            image("alpine", "alpine", 64, 3),
        ],
        asked: Requirements::default(),
        own: false,
    }
}

impl Scene {
    fn with_case<T>(&self, look: impl Fn(&Listing<'_>, &Resolved, AccountId, &[&ImageManifest]) -> T) -> T {
        let id = |n: u128| AccountId::from(uuid::Uuid::from_u128(n));
        let offer = Offer {
            id: crate::ids::OfferId::from(uuid::Uuid::from_u128(7)),
            version: 1,
            account: id(1),
            conditions: self.conditions.clone(),
        };
        let listing = Listing {
            partition: PartitionId::from(uuid::Uuid::from_u128(9)),
            host_name: "alpha",
            inventory: &self.inventory,
            offer: &offer,
            reach: self.reach,
            least: self.least,
            reliability_permille: self.reliability_permille,
            listed_at: Timestamp(0),
        };
        let (needs, _) = self.asked.resolve().unwrap();
        let images: Vec<&ImageManifest> = self.images.iter().collect();
        look(&listing, &needs, id(if self.own { 1 } else { 2 }), &images)
    }

    fn broken(&self) -> Vec<String> {
        let broken = self.with_case(|l, n, c, i| broken(l, n, c, i, NOON));
        let admitted = self.with_case(|l, n, c, i| admit(l, n, c, i, NOON));
        let all: Vec<Unfit> = Unfit::all(&self.asked).filter(|clause| broken.has(*clause)).collect();
        let quick = self.with_case(|l, n, c, i| fit(l, n, c, i, NOON));
        assert_eq!(quick, admitted.clone().ok(), "the order of looking changes nothing");
        assert_eq!(admitted.err(), all.first().copied(), "admitting stops at the first that is broken");
        assert_eq!(all.len() as u32, broken.count());
        all.into_iter().map(|clause| format!("{clause:?}")).collect()
    }

    fn admitted(&self) -> Match {
        self.with_case(|l, n, c, i| admit(l, n, c, i, NOON)).unwrap()
    }
}

#[track_caller]
fn check(text: &str, edit: impl Fn(&mut Scene), expected: &[&str]) {
    let mut scene = scene();
    scene.asked = text.parse().unwrap();
    edit(&mut scene);
    assert_eq!(scene.broken(), expected, "{text}");
}

fn as_is(_: &mut Scene) {}

#[test]
fn each_clause_of_the_client_breaks_alone() {
    check("", as_is, &[]);
    check("host=alpha arch=x86_64 cpu_model=epyc region=eu avx2 speed>=1000 reliability>=99%", as_is, &[]);
    check("host!=alpha", as_is, &["Host"]);
    check("arch in [aarch64,riscv64]", as_is, &["Arch"]);
    check("cpu_model=xeon", as_is, &["CpuModel"]);
    check("cpu_model!=Epyc", as_is, &["CpuModel"]);
    check("region=us", as_is, &["Label(0)"]);
    check("label.rack=7 region in [eu,us]", as_is, &["Label(0)"]);
    check("label.rack!=7", as_is, &[]);
    check("avx512f avx2", as_is, &["Trait(1)"]);
    check("avx2 !sgx", as_is, &["Trait(1)"]);
    check("confined !avx512f", as_is, &[]);
    check("speed>1000", as_is, &["Speed"]);
    check("reliability>99%", as_is, &["Reliability"]);
    check("tier=emulated", as_is, &["Tier"]);
    check("emulated", as_is, &[]);
    check("vcpus=9", as_is, &["Vcpus"]);
    check("cpu>=4001m", as_is, &["TooSmall(Cpu)"]);
    check("memory>=8193MiB", as_is, &["TooSmall(Memory)"]);
    check("disk>=51GiB", as_is, &["TooSmall(Disk)"]);
    check("cpu=4 memory=8GiB disk=50GiB", as_is, &[]);
    check("os=ubuntu", as_is, &["Os"]);
    check("os notin [debian,alpine]", as_is, &["Os"]);
    check("image=debian-14", as_is, &["Image"]);
    check("os=alpine image=debian-12", as_is, &["Boots"]);
    check("term=8d", as_is, &["Term"]);
    check("price<0.01/h", as_is, &["Price"]);
    check("price<=0.01/h total<=0.010005", as_is, &[]);
    check("total<0.010005", as_is, &["Total"]);
}

#[test]
fn upper_bounds_look_at_what_would_really_be_allocated() {
    let large = |s: &mut Scene| s.least = r(3000, 1024, 10);
    check("cpu<=2", large, &["TooLarge(Cpu)"]);
    check("cpu=1..3 memory=512MiB..1GiB disk<=10GiB", large, &[]);
    check("memory<1GiB", large, &["TooLarge(Memory)"]);
    check("disk<=9GiB", large, &["TooLarge(Disk)"]);
    // The shape grows with the processor time that can't be less.
    check("vcpus<=2", large, &["TooManyVcpus"]);
    check("vcpus=1..3", large, &[]);
    let mut scene = scene();
    large(&mut scene);
    let hit = scene.admitted();
    assert_eq!((hit.resources, hit.vcpus, hit.hourly), (r(3000, 1024, 10), 3, MicrosPerHour(30_000)));
}

#[test]
fn the_lender_asks_too() {
    let emulated = |s: &mut Scene| s.inventory.tier = Tier::Emulated;
    check("", emulated, &["Emulated", "EmulatedToStrangers"]);
    check("emulated", emulated, &["EmulatedToStrangers"]);
    let willing = |s: &mut Scene| (s.inventory.tier, s.conditions.emulated_to_strangers) = (Tier::Emulated, true);
    check("", willing, &["Emulated"]);
    check("emulated", willing, &[]);
    check("tier=emulated", willing, &[]);
    check("kvm", willing, &["Emulated", "Tier"]);
    check("emulated", |s| (s.inventory.tier, s.own) = (Tier::Emulated, true), &[]);
    check("", |s| s.inventory.confined = false, &["Unconfined"]);
    check("", |s| (s.inventory.confined, s.own) = (false, true), &[]);
    check("!confined", |s| (s.inventory.confined, s.own) = (false, true), &[]);
    check("", |s| s.conditions.audience = Audience::Own, &["Audience"]);
    check("", |s| (s.conditions.audience, s.own) = (Audience::Own, true), &[]);
    let friend = AccountId::from(uuid::Uuid::from_u128(2));
    check("", |s| s.conditions.audience = Audience::Accounts(vec![friend]), &[]);
    check("", |s| s.conditions.audience = Audience::Accounts(Vec::new()), &["Audience"]);
    check("term=59s", as_is, &["Term"]);
    check("", |s| s.conditions.images = vec!["alpine".into()], &[]);
    check("os=debian", |s| s.conditions.images = vec!["alpine".into()], &["Os"]);
    check("", |s| s.inventory.arch = "aarch64".into(), &["Boots"]);
    check("", |s| s.images.clear(), &["Boots"]);
}

#[test]
fn the_whole_term_must_fit_into_the_windows() {
    let days = |s: &mut Scene| {
        let weekly = vec!["weekdays 08:00-17:00".parse().unwrap()];
        s.conditions.windows = Some(Windows { time_zone: "UTC".into(), weekly });
    };
    check("term=5h", days, &[]);
    check("term=5h1s", days, &["Window"]);
    let nights = |s: &mut Scene| {
        let weekly = vec!["daily 19:00-07:00".parse().unwrap()];
        s.conditions.windows = Some(Windows { time_zone: "UTC".into(), weekly });
    };
    check("term=1m", nights, &["Window"]);
    let mut scene = scene();
    assert_eq!(scene.admitted().until, None);
    days(&mut scene);
    assert_eq!(scene.admitted().until, Some(NOON.after(Seconds(5 * 3600))));
}

#[test]
fn a_busy_partition_breaks_no_clause_of_size() {
    check("cpu>=5 memory>=1TiB price<=0.01/h", |s| s.reach = None, &["Busy", "Price"]);
    check("cpu<=50 disk<=1GiB", |s| (s.reach, s.least) = (None, r(100, 64, 2)), &["Busy", "TooLarge(Disk)"]);
}

#[test]
fn everything_that_is_broken_is_said_in_the_fixed_order() {
    check(
        "total<=0 price<=0/h os=ubuntu cpu>=5 vcpus=9 speed>=1001 !avx2 region=us host=beta term=9d",
        |s| s.conditions.audience = Audience::Own,
        &[
            "Host",
            "Audience",
            "Term",
            "Label(0)",
            "Trait(0)",
            "Speed",
            "Vcpus",
            "TooSmall(Cpu)",
            "Os",
            "Price",
            "Total",
        ],
    );
}

#[test]
fn the_newest_image_that_comes_up_is_booted() {
    let boots = |text: &str| {
        let mut scene = scene();
        scene.asked = text.parse().unwrap();
        scene.images[scene.admitted().image].name.clone()
    };
    assert_eq!(boots("memory>=512MiB os=debian"), "debian-13");
    assert_eq!(boots("memory>=511MiB os=debian"), "debian-12", "the newer one needs more memory");
    assert_eq!(boots("os in [debian,alpine]"), "alpine");
    assert_eq!(boots("image!=alpine"), "debian-13");
    assert_eq!(boots("image=debian-12@1"), "debian-12");
    check("memory>=255MiB os=debian", as_is, &["Boots"]);
    // Where a partition can't be less, that is what the image comes up in.
    check("memory>=255MiB os=debian", |s| s.least.memory = MiB(256), &[]);
}
