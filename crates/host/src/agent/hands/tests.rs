use super::*;
use crate::fixtures::{allocation, partition, wanted_run};
use crate::guard::record::Boottime;
use crate::vmm::{Accelerator, Birth, BootFiles, MachineSpec, Moment, SimulatedVmm};
use std::path::PathBuf;
use sublet_model::units::GiB;

const S: i64 = 1_000_000;

struct Direct(Store);

impl Disk for Direct {
    async fn db<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        work(&self.0)
    }
}

/// Partition 1, ready at 10 s of the boot `boot`.
struct Bench {
    _dir: tempfile::TempDir,
    disk: Direct,
    vmm: SimulatedVmm,
    key: SecretKey,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state")).unwrap();
        let has = allocation(1, 0, 1000);
        store.apply(partition(1), &has).unwrap();
        store.begin(partition(1), 1, &wanted_run(1, &has), Uuid::from_u128(9)).unwrap();
        let bench =
            Self { _dir: dir, disk: Direct(store), vmm: SimulatedVmm::default(), key: SecretKey::from_seed(&[5; 32]) };
        bench.disk.0.starting(&bench.run(), "boot", 8 * S, 8 * S).unwrap();
        let machine = bench.hands().machine(&bench.run()).await.unwrap();
        let spec = MachineSpec {
            partition: partition(1),
            generation: 1,
            uuid: machine.uuid,
            vcpus: 1,
            cpu: has.resources.cpu,
            memory: has.resources.memory,
            disk: GiB(0),
            boot: BootFiles::Direct { kernel: PathBuf::from("kernel"), initrd: None, root: None },
            command_line: String::new(),
            guest_channel: "guest".into(),
            run_dir: machine.run_dir,
            uid: 61_000,
            gid: 61_000,
            accelerator: Accelerator::Kvm,
            birth: Birth::Cold,
        };
        bench.vmm.prepare(&spec).await.unwrap();
        bench.vmm.start(&spec, Boottime(i64::MAX)).await.unwrap();
        bench.disk.0.ready(&bench.run(), 10 * S, 10 * S).unwrap();
        bench
    }

    fn run(&self) -> Run {
        self.disk.0.live_run(partition(1)).unwrap().unwrap()
    }

    fn hands(&self) -> Hands<'_, Direct, SimulatedVmm> {
        Hands { disk: &self.disk, vmm: &self.vmm, key: &self.key, state: self.disk.0.state(), first_uid: 61_000 }
    }

    /// At so many seconds of the boot.
    fn at(&self, second: i64) -> Reading<'static> {
        let (mono_us, boot_us) = (second * S, second * S);
        self.vmm.set_now(Moment { mono_us, boot_us, boot_id: "boot".into() });
        Reading { now: Now { mono_us, boot_us }, boot_id: "boot", over: Over::new() }
    }

    fn receipted(&self) -> Option<Seconds> {
        self.disk.0.chain_end(self.run().lease()).unwrap().map(|end| end.seconds)
    }
}

#[tokio::test]
async fn only_what_is_seen_to_run_is_metered_and_receipted() {
    type End = fn(&SimulatedVmm);
    let ends: [(&str, End); 4] = [
        ("its guard stopped it", |vmm| vmm.tick(Boottime(i64::MAX))),
        ("it was killed", |vmm| vmm.kill(partition(1))),
        ("the guest panicked", |vmm| vmm.panic(partition(1))),
        ("the guest shut down", |vmm| vmm.shut_down(partition(1))),
    ];
    for (how, end) in ends {
        let bench = Bench::new().await;
        let due = bench.hands().keep_meters(&bench.at(30)).await.unwrap();
        assert_eq!((due.len(), bench.run().metered), (1, Seconds(20)), "{how}: it runs, and a receipt is due");
        bench.at(40);
        end(&bench.vmm);
        // Nobody looked for a minute: neither the meter nor a new session counts what nobody could use.
        let late = bench.at(100);
        assert!(bench.hands().keep_meters(&late).await.unwrap().is_empty(), "{how}");
        bench.hands().receipt_session_change(&late).await.unwrap();
        assert_eq!((bench.run().metered, bench.receipted()), (Seconds(20), None), "{how}");
        // The market asks for the stop before the agent looks: little more than was seen.
        let stop = Step::Stop { partition: partition(1), reason: None };
        take(&bench.disk.0, &stop, "boot", &late.now, Uuid::nil()).unwrap();
        assert_eq!(bench.run().metered, Seconds(25), "{how}");
    }
}

#[tokio::test]
async fn a_session_is_receipted_while_it_runs_and_what_is_over_is_not() {
    let bench = Bench::new().await;
    bench.hands().receipt_session_change(&bench.at(24)).await.unwrap();
    assert_eq!(bench.receipted(), None, "14 seconds are hardly anything");
    let over = Reading { over: Over::from([(partition(1), 1)]), ..bench.at(40) };
    bench.hands().receipt_session_change(&over).await.unwrap();
    assert_eq!(bench.receipted(), None, "it was stopped, though that could not be recorded");
    bench.hands().receipt_session_change(&bench.at(40)).await.unwrap();
    assert_eq!(bench.receipted(), Some(Seconds(30)));
}
