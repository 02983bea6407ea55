//! QEMU's switches. Nothing else in the house knows one.
//!
//! What QEMU opens is handed to it already open (see [`crate::guard`]), so no path stands here;
//! the few names that do are checked, for a comma starts the next option of a switch.

use crate::guard::record::{Handed, RunDir};
use crate::scratch;
use crate::system_disk;
use crate::vmm::{Accelerator, Birth, BootFiles, MachineSpec, TemplateFiles};
use serde_json::json;
use std::path::{Path, PathBuf};
use sublet_model::image::DiskFormat;
use sublet_model::units::{GiB, MiB};

/// Descriptors QEMU finds open.
const QMP_FD: i32 = 100;
const GUEST_FD: i32 = 101;
const KERNEL_FD: i32 = 102;
const INITRD_FD: i32 = 103;
const ROOT_FD: i32 = 104;
const MEMORY_FD: i32 = 105;
const DEVICES_FD: i32 = 106;
const SCRATCH_FD: i32 = 107;
const SECRET_FD: i32 = 108;
const OVERLAY_FD: i32 = 109;
const SEED_FD: i32 = 110;

/// A disk of the owner's that fails is told to the guest, which is not stopped for it.
const DISK_DEVICE: &str = "virtio-blk-pci,werror=report,rerror=report";

/// Opens what is encrypted of a life.
const SECRET: &str = "disk-secret";

/// How a guest knows its scratch disk.
const SCRATCH_SERIAL: &str = "sublet-scratch";

/// The name of the scratch disk in the monitor's words.
pub const SCRATCH_NODE: &str = "scratch";

/// What a guest writes to its console is kept here and never grows. A power of two.
pub const CONSOLE_BYTES: u32 = 64 * 1024;

/// Translated code kept by TCG. Measured: a Debian guest boots no slower than with more.
pub const TCG_CACHE_MIB: u32 = 64;

/// Without the fast string moves, which are the slow ones when emulated: measured, a guest copies
/// twice as much per second of processor time.
const TCG_CPU: &str = "max,erms=off,fsrm=off";

/// The kernel's own limit, less what the driver adds.
const MAX_COMMAND_LINE: usize = 1900;

/// q35 without what no guest of ours needs: each costs time when it is looked for.
const MACHINE: &str =
    "q35,hpet=off,smm=off,sata=off,smbus=off,vmport=off,i8042=off,usb=off,graphics=off,dump-guest-core=off";

/// Everything is denied that QEMU can deny itself.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The state of a template's devices: measured 0.4 MB.
const MAX_DEVICES_BYTES: u64 = 64 << 20;

/// A guest that ends, restarts or panics stays where it is until it was seen.
const ACTIONS: &str = "reboot=shutdown,shutdown=pause,panic=pause";

/// Arguments, and the descriptors they refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// What follows the program's name.
    pub arguments: Vec<String>,
    /// The sockets it answers on.
    pub listen: Vec<Handed>,
    /// The files it reads, and a template's.
    pub open: Vec<Handed>,
    /// No file it writes to may become larger.
    pub largest_file_bytes: u64,
    /// The number at which it finds what opens its encrypted disks.
    pub secret: Option<i32>,
}

/// Writes the command line for `spec`, or says what in it cannot be run. `kernel_options` are
/// what was measured on this host and helps any Linux guest.
pub fn command_line(spec: &MachineSpec, kernel_options: &str) -> Result<CommandLine, String> {
    let run_dir = RunDir::new(&spec.run_dir);
    let mut line = CommandLine::default();
    for switch in ["-nodefaults", "-no-user-config"] {
        line.switch(switch);
    }
    line.option("-name", format!("guest={}", name(&spec.partition.to_string(), "partition")?));
    line.option("-uuid", spec.uuid.to_string());
    line.machine(spec)?;
    line.accelerator(spec.accelerator);
    line.option("-smp", processors(spec.vcpus)?);
    line.option("-m", format!("size={}M", memory(spec.memory)?));
    line.option("-display", "none");
    line.option("-sandbox", SANDBOX);
    line.option("-action", ACTIONS);
    line.option("-device", "pvpanic-pci");

    line.socket("qmp", QMP_FD, run_dir.qmp_socket());
    line.option("-mon", "chardev=qmp,mode=control");
    line.option("-chardev", format!("ringbuf,id=console,size={CONSOLE_BYTES}"));
    line.option("-serial", "chardev:console");
    line.option("-device", "virtio-serial-pci,max_ports=2");
    line.socket("guest", GUEST_FD, run_dir.guest_socket());
    let channel = name(&spec.guest_channel, "guest channel")?;
    line.option("-device", format!("virtserialport,chardev=guest,name={channel}"));
    line.option("-object", "rng-builtin,id=rng");
    line.option("-device", "virtio-rng-pci,rng=rng");

    match (&spec.boot, &spec.birth) {
        (BootFiles::Direct { root, .. }, birth) => {
            match birth {
                // Its kernel runs already.
                Birth::Clone(_) => {
                    line.option("-incoming", "defer");
                    line.switch("-S");
                }
                Birth::Cold | Birth::Template(_) => line.kernel(spec, kernel_options)?,
            }
            root.iter().for_each(|root| line.root(root));
        }
        (BootFiles::Disk { format, disk, .. }, Birth::Cold) => line.system_disk(*format, disk, &run_dir)?,
        (BootFiles::Disk { .. }, _) => return Err("a disk of its own has no template".into()),
    }
    if spec.disk > GiB(0) {
        line.scratch(run_dir.path().join(scratch::FILE), spec.disk);
    }
    Ok(line)
}

/// What of a machine is the same for all partitions: clones and their template must be equal in it.
pub fn fingerprint(accelerator: Accelerator) -> String {
    let mut line = CommandLine::default();
    line.accelerator(accelerator);
    format!("{MACHINE} {}", line.arguments.join(" "))
}

/// The arguments of a machine that does one small piece of work and ends: see
/// [`super::payload::Payload::Work`].
pub fn probe_arguments(accelerator: Accelerator, kernel: &Path) -> Vec<std::ffi::OsString> {
    let mut line = CommandLine::default();
    for switch in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        line.switch(switch);
    }
    line.option("-machine", MACHINE);
    line.accelerator(accelerator);
    line.option("-m", "64");
    line.option("-display", "none");
    line.option("-sandbox", SANDBOX);
    let port = super::payload::EXIT_PORT;
    line.option("-device", format!("isa-debug-exit,iobase={port:#x},iosize=4"));
    let mut arguments: Vec<std::ffi::OsString> = line.arguments.into_iter().map(Into::into).collect();
    arguments.extend(["-kernel".into(), kernel.into()]);
    arguments
}

impl CommandLine {
    fn switch(&mut self, switch: &str) {
        self.arguments.push(switch.to_owned());
    }

    fn option(&mut self, switch: &str, value: impl Into<String>) {
        self.arguments.extend([switch.to_owned(), value.into()]);
    }

    fn accelerator(&mut self, accelerator: Accelerator) {
        let (accelerator, cpu) = match accelerator {
            Accelerator::Tcg => (format!("tcg,thread=multi,tb-size={TCG_CACHE_MIB}"), TCG_CPU),
            Accelerator::Kvm => ("kvm".to_owned(), "host"),
        };
        self.option("-accel", accelerator);
        self.option("-cpu", cpu);
    }

    /// The machine and its memory.
    fn machine(&mut self, spec: &MachineSpec) -> Result<(), String> {
        let (files, how, write) = match &spec.birth {
            Birth::Cold => {
                self.option("-machine", MACHINE);
                return Ok(());
            }
            Birth::Template(files) => (files, "share=on", true),
            Birth::Clone(files) => (files, "share=off,readonly=on,rom=off", false),
        };
        let (TemplateFiles { memory: path, devices }, size) = (files, memory(spec.memory)?);
        self.option("-machine", format!("{MACHINE},memory-backend=memory"));
        let object = format!("memory-backend-file,id=memory,size={size}M,mem-path={},{how}", at(MEMORY_FD));
        self.option("-object", object);
        self.open.push(Handed { path: path.to_owned(), fd: MEMORY_FD, write });
        self.open.push(Handed { path: devices.to_owned(), fd: DEVICES_FD, write });
        // The memory is written through a mapping, which no limit concerns, and does not grow.
        self.largest_file_bytes = if write { MAX_DEVICES_BYTES } else { 0 };
        Ok(())
    }

    fn kernel(&mut self, spec: &MachineSpec, kernel_options: &str) -> Result<(), String> {
        let BootFiles::Direct { kernel, initrd, .. } = &spec.boot else { return Ok(()) };
        self.file("-kernel", KERNEL_FD, kernel);
        if let Some(initrd) = initrd {
            self.file("-initrd", INITRD_FD, initrd);
        }
        self.option("-append", kernel_command_line(&spec.command_line, kernel_options)?);
        Ok(())
    }

    fn socket(&mut self, id: &str, fd: i32, path: std::path::PathBuf) {
        self.option("-chardev", format!("socket,id={id},fd={fd},server=on,wait=off"));
        self.listen.push(Handed { path, fd, write: true });
    }

    fn file(&mut self, switch: &str, fd: i32, path: &Path) {
        self.option(switch, at(fd));
        self.open.push(Handed { path: path.to_owned(), fd, write: false });
    }

    fn root(&mut self, path: &Path) {
        self.option("-add-fd", format!("fd={ROOT_FD},set=1"));
        self.option("-blockdev", "driver=file,node-name=root,filename=/dev/fdset/1,read-only=on,locking=off");
        self.option("-device", "virtio-blk-pci,drive=root");
        self.open.push(Handed { path: path.to_owned(), fd: ROOT_FD, write: false });
    }

    /// After the root: guests that know nothing of a scratch disk take the first disk for theirs.
    fn scratch(&mut self, path: PathBuf, size: GiB) {
        self.secret();
        self.option("-add-fd", format!("fd={SCRATCH_FD},set=2"));
        self.option(
            "-blockdev",
            format!(
                "driver=luks,node-name={SCRATCH_NODE},key-secret={SECRET},file.driver=file,\
                 file.filename=/dev/fdset/2,file.locking=off"
            ),
        );
        self.option("-device", format!("{DISK_DEVICE},drive={SCRATCH_NODE},serial={SCRATCH_SERIAL}"));
        self.open.push(Handed { path, fd: SCRATCH_FD, write: true });
        self.largest_file_bytes = self.largest_file_bytes.max(scratch::file_bytes(size));
    }

    /// The first disk, which the firmware starts, and the seed.
    ///
    /// Each layer is named with its driver and its file. What a file says of another is not
    /// followed: the disk below is told to have none, and the overlay to have this one.
    fn system_disk(&mut self, format: DiskFormat, disk: &Path, run_dir: &RunDir) -> Result<(), String> {
        let bytes = system_disk::disk_bytes(disk, format).map_err(|error| error.to_string())?;
        self.secret();
        let file = |set: u32, read_only: bool| json!({ "driver": "file", "filename": format!("/dev/fdset/{set}"), "read-only": read_only, "locking": "off" });
        let below = match format {
            DiskFormat::Raw => {
                json!({ "driver": "raw", "node-name": "base", "read-only": true, "file": file(1, true) })
            }
            DiskFormat::Qcow2 => json!({
                "driver": "qcow2", "node-name": "base", "read-only": true, "backing": null, "file": file(1, true)
            }),
        };
        let encrypted = json!({ "driver": "luks", "key-secret": SECRET, "file": file(3, false) });
        let over = json!({ "driver": "qcow2", "node-name": "disk", "backing": "base", "file": encrypted });
        let mut seed = file(4, true);
        seed["node-name"] = "seed".into();
        for (fd, set) in [(ROOT_FD, 1), (OVERLAY_FD, 3), (SEED_FD, 4)] {
            self.option("-add-fd", format!("fd={fd},set={set}"));
        }
        for node in [below, over, seed] {
            self.option("-blockdev", node.to_string());
        }
        self.option("-device", format!("{DISK_DEVICE},drive=disk,bootindex=0"));
        self.option("-device", "virtio-blk-pci,drive=seed");
        let overlay = run_dir.path().join(system_disk::OVERLAY);
        let seed = run_dir.path().join(system_disk::SEED);
        self.open.push(Handed { path: disk.to_owned(), fd: ROOT_FD, write: false });
        self.open.push(Handed { path: overlay, fd: OVERLAY_FD, write: true });
        self.open.push(Handed { path: seed, fd: SEED_FD, write: false });
        self.largest_file_bytes = system_disk::overlay_bytes(bytes);
        Ok(())
    }

    /// What opens the encrypted disks of this life: read from a descriptor, so it is said once.
    fn secret(&mut self) {
        if self.secret.replace(SECRET_FD).is_none() {
            self.option("-object", format!("secret,id={SECRET},file={}", at(SECRET_FD)));
        }
    }
}

/// Where a handed file is opened again: only the file's own mode counts there, not its directories'.
fn at(fd: i32) -> String {
    format!("/proc/self/fd/{fd}")
}

/// Where the monitor of a template writes the state of its devices, and a clone reads it.
pub fn devices_uri() -> String {
    format!("file:{}", at(DEVICES_FD))
}

/// Whether what was handed over is for writing a template.
pub fn writes_a_template(open: &[Handed]) -> bool {
    open.iter().any(|handed| handed.fd == DEVICES_FD && handed.write)
}

fn processors(vcpus: u16) -> Result<String, String> {
    match vcpus {
        1..=255 => Ok(format!("cpus={vcpus},sockets=1,cores={vcpus},threads=1")),
        _ => Err(format!("{vcpus} processors cannot be had: choose 1 to 255")),
    }
}

fn memory(memory: MiB) -> Result<i64, String> {
    match memory.0 {
        16.. if memory <= MiB::MAX => Ok(memory.0),
        _ => Err(format!("{memory} of memory cannot be had: choose at least 16MiB")),
    }
}

/// A name that stands between commas in a switch.
fn name<'a>(text: &'a str, what: &str) -> Result<&'a str, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > 64 || !text.chars().all(is_plain) {
        return Err(format!("the {what} {text:?} must be 1 to 64 letters, digits, dots, dashes"));
    }
    Ok(text)
}

fn kernel_command_line(own: &str, host: &str) -> Result<String, String> {
    if own.len() > MAX_COMMAND_LINE || own.chars().any(|c| c.is_control()) {
        return Err(format!("the kernel's command line must be one line of at most {MAX_COMMAND_LINE} bytes"));
    }
    // What the image says comes last: the last one wins.
    Ok([host, own].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sublet_model::units::Millicores;
    use uuid::Uuid;

    fn direct(initrd: Option<&str>, root: Option<&str>) -> BootFiles {
        let [initrd, root] = [initrd, root].map(|path| path.map(Into::into));
        BootFiles::Direct { kernel: "/blobs/k,e=r\nnel".into(), initrd, root }
    }

    fn spec() -> MachineSpec {
        MachineSpec {
            partition: Uuid::from_u128(7).into(),
            generation: 3,
            uuid: Uuid::from_u128(9),
            vcpus: 2,
            cpu: Millicores(1500),
            memory: MiB(256),
            disk: GiB(0),
            boot: direct(None, None),
            command_line: "console=ttyS0 a=b,c".into(),
            guest_channel: "org.sublet.guest.0".into(),
            run_dir: "/run/p".into(),
            uid: 1000,
            gid: 1000,
            accelerator: Accelerator::Tcg,
            birth: Birth::Cold,
        }
    }

    fn value_of(line: &CommandLine, switch: &str) -> Vec<String> {
        let pairs = line.arguments.windows(2);
        pairs.filter(|pair| pair[0] == switch).map(|pair| pair[1].clone()).collect()
    }

    #[test]
    fn each_wish_has_its_switch() {
        type Change = fn(&mut MachineSpec);
        let table: [(Change, &str, &[&str]); 11] = [
            (|_| (), "-name", &["guest=part_00000000000000000000000007"]),
            (|_| (), "-uuid", &["00000000-0000-0000-0000-000000000009"]),
            (|s| s.vcpus = 4, "-smp", &["cpus=4,sockets=1,cores=4,threads=1"]),
            (|s| s.memory = MiB(1024), "-m", &["size=1024M"]),
            (|_| (), "-accel", &["tcg,thread=multi,tb-size=64"]),
            (|s| s.accelerator = Accelerator::Kvm, "-accel", &["kvm"]),
            (|s| s.accelerator = Accelerator::Kvm, "-cpu", &["host"]),
            (|_| (), "-kernel", &["/proc/self/fd/102"]),
            (|_| (), "-initrd", &[]),
            (|s| s.boot = direct(Some("/i"), None), "-initrd", &["/proc/self/fd/103"]),
            (|_| (), "-append", &["quiet console=ttyS0 a=b,c"]),
        ];
        for (change, switch, expected) in table {
            let mut spec = spec();
            change(&mut spec);
            assert_eq!(value_of(&command_line(&spec, "quiet").unwrap(), switch), expected, "{switch}");
        }
    }

    #[test]
    fn a_root_is_read_only_and_handed_over() {
        let with = MachineSpec { boot: direct(None, Some("/blobs/root, file=x")), ..spec() };
        let line = command_line(&with, "").unwrap();
        let drive = value_of(&line, "-blockdev");
        assert_eq!(drive, ["driver=file,node-name=root,filename=/dev/fdset/1,read-only=on,locking=off"]);
        assert!(line.open.contains(&Handed { path: "/blobs/root, file=x".into(), fd: ROOT_FD, write: false }));
        assert!(line.arguments.iter().all(|argument| !argument.contains("blobs")), "no path reaches a switch");
    }

    #[test]
    fn a_clone_reads_what_its_template_wrote() {
        let files = TemplateFiles { memory: "/t/memory".into(), devices: "/t/devices".into() };
        let lines = [Birth::Cold, Birth::Template(files.clone()), Birth::Clone(files)]
            .map(|birth| command_line(&MachineSpec { birth, ..spec() }, "").unwrap());
        let [cold, template, clone] = &lines;
        let object = |how| format!("memory-backend-file,id=memory,size=256M,mem-path=/proc/self/fd/105,{how}");
        assert!(value_of(template, "-object").contains(&object("share=on")));
        assert!(value_of(clone, "-object").contains(&object("share=off,readonly=on,rom=off")));
        assert_eq!(value_of(template, "-machine"), value_of(clone, "-machine"), "the same machine");
        let handed = |line: &CommandLine, write| line.open.iter().filter(|h| h.write == write).count();
        assert_eq!([handed(cold, true), handed(template, true), handed(clone, true)], [0, 2, 0]);
        assert_eq!([cold, template, clone].map(|l| l.largest_file_bytes), [0, MAX_DEVICES_BYTES, 0]);
        let leased = command_line(&MachineSpec { disk: GiB(1), ..spec() }, "").unwrap();
        let lines = [cold, template, clone, &leased].map(|line| writes_a_template(&line.open));
        assert_eq!(lines, [false, true, false, false]);
        assert!(value_of(clone, "-kernel").is_empty() && clone.arguments.contains(&"-S".to_owned()));
    }

    #[test]
    fn a_scratch_disk_is_handed_over_with_what_opens_it() {
        let line =
            command_line(&MachineSpec { disk: GiB(3), boot: direct(None, Some("/root")), ..spec() }, "").unwrap();
        let drives = value_of(&line, "-blockdev");
        assert!(drives[0].contains("node-name=root") && drives[1].starts_with("driver=luks,node-name=scratch"));
        assert!(line.open.contains(&Handed { path: "/run/p/scratch".into(), fd: SCRATCH_FD, write: true }));
        assert_eq!((line.secret, line.largest_file_bytes), (Some(SECRET_FD), scratch::file_bytes(GiB(3))));
        assert!(line.arguments.iter().all(|argument| !argument.contains("/run/p")), "no path reaches a switch");
        let without = command_line(&spec(), "").unwrap();
        assert_eq!((without.secret, without.largest_file_bytes), (None, 0));
    }

    #[test]
    fn a_disk_is_told_what_lies_below_it_and_follows_no_name() {
        let temp = tempfile::tempdir().unwrap();
        let disk = temp.path().join("disk, file=x");
        std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
        let boot = |format| BootFiles::Disk { format, disk: disk.clone(), guest: "/guest".into() };
        let with = MachineSpec { boot: boot(DiskFormat::Raw), disk: GiB(1), ..spec() };
        let line = command_line(&with, "quiet").unwrap();
        let nodes: Vec<serde_json::Value> =
            value_of(&line, "-blockdev")[..3].iter().map(|node| serde_json::from_str(node).unwrap()).collect();
        assert_eq!((&nodes[0]["driver"], &nodes[0]["read-only"]), (&json!("raw"), &json!(true)));
        assert_eq!((&nodes[1]["backing"], &nodes[1]["file"]["driver"]), (&json!("base"), &json!("luks")));
        assert_eq!(nodes[2]["read-only"], json!(true));
        assert!(line.arguments.iter().all(|argument| !argument.contains("disk, file") && !argument.contains("/run/p")));
        assert!(value_of(&line, "-kernel").is_empty() && value_of(&line, "-append").is_empty());
        let secrets = value_of(&line, "-object").iter().filter(|object| object.starts_with("secret")).count();
        assert_eq!((secrets, line.secret), (1, Some(SECRET_FD)), "one secret opens both disks");
        let written: Vec<&Handed> = line.open.iter().filter(|handed| handed.write).collect();
        assert_eq!([written[0].fd, written[1].fd], [OVERLAY_FD, SCRATCH_FD], "never the image's disk");
        assert!(line.largest_file_bytes >= scratch::file_bytes(GiB(1)));

        let error = command_line(&MachineSpec { boot: boot(DiskFormat::Qcow2), ..spec() }, "").unwrap_err();
        assert!(error.contains("not a qcow2 file"), "{error}");
        let files = TemplateFiles { memory: "/t/memory".into(), devices: "/t/devices".into() };
        for birth in [Birth::Template(files.clone()), Birth::Clone(files)] {
            assert!(command_line(&MachineSpec { birth, ..with.clone() }, "").unwrap_err().contains("template"));
        }
    }

    #[test]
    fn there_is_no_network_and_everything_is_denied() {
        let line = command_line(&spec(), "").unwrap();
        assert_eq!(value_of(&line, "-sandbox"), [SANDBOX]);
        assert!(line.arguments.iter().all(|a| !a.contains("netdev") && !a.contains("-nic") && !a.contains("tcp")));
        assert!(line.arguments.iter().any(|a| a == "-nodefaults"));
        assert_eq!(line.listen.len(), 2);
    }

    #[test]
    fn what_would_mean_something_else_to_qemu_is_refused() {
        type Change = fn(&mut MachineSpec);
        let table: [(Change, &str); 12] = [
            (|s| s.guest_channel = "a,chardev=qmp".into(), "guest channel"),
            (|s| s.guest_channel = "file=/etc/passwd".into(), "guest channel"),
            (|s| s.guest_channel = "a\nb".into(), "guest channel"),
            (|s| s.guest_channel = String::new(), "guest channel"),
            (|s| s.guest_channel = "x".repeat(65), "guest channel"),
            (|s| s.command_line = "a\nb".into(), "command line"),
            (|s| s.command_line = "a\0b".into(), "command line"),
            (|s| s.command_line = "x".repeat(1901), "command line"),
            (|s| s.vcpus = 0, "processors"),
            (|s| s.vcpus = u16::MAX, "processors"),
            (|s| s.memory = MiB(-1), "memory"),
            (|s| s.memory = MiB(i64::MAX), "memory"),
        ];
        for (change, expected) in table {
            let mut spec = spec();
            change(&mut spec);
            let error = command_line(&spec, "").unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
