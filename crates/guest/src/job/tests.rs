use super::*;
use rustix::pipe::PipeFlags;
use sublet_guest::messages::Command;

fn pipe() -> (OwnedFd, OwnedFd) {
    let ends = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    let _ = rustix::pipe::fcntl_setpipe_size(&ends.0, WINDOW_BYTES as usize);
    ends
}

/// A detached job that runs, and the end of its pipe that its process writes to.
fn detached() -> (Job, OwnedFd) {
    let exec = Exec {
        job: "detached_1".into(),
        command: Command::Line(b"true".to_vec()),
        env: Vec::new(),
        cwd: None,
        user: String::new(),
        pty: None,
        keep: true,
    };
    let ((stdout, writer), (_, stdin), (failure, _)) = (pipe(), pipe(), pipe());
    let started = Started { pid: i32::MAX, stdin, outputs: [Some(stdout), None], failure };
    let mut job = Job::new(&exec, 7, started, None);
    (job.failure, job.record) = (None, Some(Record::default()));
    (job, writer)
}

#[test]
fn the_last_words_of_a_detached_job_outlive_the_hosts_leaving() {
    let (mut job, writer) = detached();
    let mut outbox = Outbox::default();
    // It said more than a window, and ended; the host takes nothing.
    let mut said = 0;
    while let Ok(count) = rustix::io::write(&writer, &[b'x'; 4096]) {
        said += count;
        while job.wants_output(0, &outbox) {
            let before = job.record.as_ref().unwrap().bytes.len();
            job.pump_output(0, &mut outbox);
            if job.record.as_ref().unwrap().bytes.len() == before {
                break;
            }
        }
    }
    drop(writer);
    assert!(said > WINDOW_BYTES as usize && !job.wants_output(0, &outbox), "record and pipe are full: {said}");
    job.end(Status::Code(0), &mut outbox);
    job.detach(false);
    while job.wants_output(0, &outbox) {
        job.pump_output(0, &mut outbox);
    }
    assert!(job.is_silent() && !job.over(), "it is kept for whoever asks");
    assert_eq!(job.record.as_ref().unwrap().bytes.len(), said, "all that it said");
}

#[test]
fn what_is_scarce_is_no_reason_to_give_a_job_up() {
    use crate::spawn::refusal_of;
    for number in [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::ETXTBSY] {
        assert_eq!(refusal_of(number), Refusal::TooMany);
    }
    assert_eq!(refusal_of(libc::ENOENT), Refusal::NotFound);
    assert_eq!([libc::EACCES, libc::ENOEXEC].map(refusal_of), [Refusal::Failed; 2]);
}
