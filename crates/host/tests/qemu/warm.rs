//! Templates and their clones, of a kernel that only halts.

use crate::fixture::{Fixture, UID, driver, in_seconds};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use sublet_host::qemu::payload::Payload;
use sublet_host::vmm::{Birth, ExitCause, MachineSpec, Observed, TemplateFiles, Vmm, VmmError};
use uuid::Uuid;

/// Files as the shelf makes them for a template of 64 MiB.
fn files(dir: &Path) -> TemplateFiles {
    let files = TemplateFiles { memory: dir.join("memory"), devices: dir.join("devices") };
    fs::File::create(&files.memory).unwrap().set_len(64 << 20).unwrap();
    fs::File::create(&files.devices).unwrap();
    for path in [&files.memory, &files.devices] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(path, Some(UID), Some(UID)).unwrap();
    }
    files
}

/// What the shelf does to them once they are whole.
fn seal(files: &TemplateFiles) {
    for path in [&files.memory, &files.devices] {
        chown(path, Some(0), Some(0)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
    }
}

/// A template as the shelf keeps it, and the stopped machine that it was made from.
async fn made(dir: &Path) -> (Fixture, TemplateFiles) {
    let mut template = Fixture::new(Payload::Halt);
    let files = files(dir);
    template.spec.birth = Birth::Template(files.clone());
    template.start(in_seconds(600)).await;
    template.vmm.freeze(&template.machine).await.unwrap();
    template.vmm.stop(&template.machine).await.unwrap();
    seal(&files);
    (template, files)
}

/// Another partition, of another user, on the same template.
fn clone_spec(of: &MachineSpec, dir: &Path, files: &TemplateFiles, number: u32) -> MachineSpec {
    MachineSpec {
        partition: Uuid::now_v7().into(),
        uuid: Uuid::now_v7(),
        run_dir: dir.join(format!("run{number}")),
        uid: UID + number,
        gid: UID + number,
        birth: Birth::Clone(files.clone()),
        ..of.clone()
    }
}

#[tokio::test]
async fn clones_of_other_users_go_on_where_the_template_stood_still_and_change_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (template, files) = made(dir.path()).await;
    let (before, size) = (fs::read(&files.memory).unwrap(), fs::metadata(&files.devices).unwrap().size());
    assert!(size > 10_000 && before.iter().any(|byte| *byte != 0), "{size} bytes of devices");

    let clones = [1, 2].map(|number| clone_spec(&template.spec, dir.path(), &files, number));
    for spec in &clones {
        template.vmm.prepare(spec).await.unwrap();
        template.vmm.start(spec, in_seconds(600)).await.unwrap();
    }
    for spec in &clones {
        let seen = template.vmm.observe(&spec.machine()).await;
        let Observed::Running { uuid, vcpus, memory, .. } = seen else { panic!("{seen:?}") };
        assert_eq!((uuid, vcpus, memory), (spec.uuid, spec.vcpus, spec.memory), "its own figures");
        let error = template.vmm.freeze(&spec.machine()).await.unwrap_err();
        assert!(error.to_string().contains("not born as a template"), "{error}");
        template.vmm.stop(&spec.machine()).await.unwrap();
        template.vmm.wipe(&spec.machine()).await.unwrap();
    }
    assert!(fs::read(&files.memory).unwrap() == before, "no clone changed it");
}

#[tokio::test]
async fn a_machine_that_serves_is_never_frozen() {
    let fixture = Fixture::started(Payload::Halt).await;
    let error = fixture.vmm.freeze(&fixture.machine).await.unwrap_err();
    assert!(error.to_string().contains("not born as a template"), "{error}");
    assert!(matches!(fixture.vmm.observe(&fixture.machine).await, Observed::Running { .. }), "it runs on");
}

#[tokio::test]
async fn a_damaged_template_wakes_nothing_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (template, files) = made(dir.path()).await;
    let devices = fs::File::options().write(true).open(&files.devices).unwrap();
    devices.write_all_at(&[0; 64], 0).unwrap();

    let spec = clone_spec(&template.spec, dir.path(), &files, 1);
    template.vmm.prepare(&spec).await.unwrap();
    let error = template.vmm.start(&spec, in_seconds(600)).await.unwrap_err();
    assert!(matches!(error, VmmError::Start { .. }), "{error}");
    let seen = template.vmm.observe(&spec.machine()).await;
    assert!(matches!(&seen, Observed::Exited(exit) if exit.cause != ExitCause::Deadline), "{seen:?}");
    template.vmm.wipe(&spec.machine()).await.unwrap();
    // The same life then begins cold.
    let cold = MachineSpec { birth: Birth::Cold, ..spec };
    template.vmm.prepare(&cold).await.unwrap();
    template.vmm.start(&cold, in_seconds(600)).await.unwrap();
    template.vmm.stop(&cold.machine()).await.unwrap();
    template.vmm.wipe(&cold.machine()).await.unwrap();
}

#[tokio::test]
async fn a_template_its_agent_left_behind_is_ended_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut template = Fixture::new(Payload::Halt);
    template.spec.birth = Birth::Template(files(dir.path()));
    template.start(in_seconds(600)).await;
    let (guard, monitor) = template.pids();
    let next = driver("next");
    let unknown = sublet_host::vmm::Machine { generation: 0, uuid: Uuid::nil(), ..template.machine.clone() };
    assert_eq!(next.observe(&unknown).await, Observed::NotRunning);
    assert!(!guard.is_alive() && !monitor.is_alive());
}
