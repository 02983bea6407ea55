//! What happens to jobs while their guest can be spoken to.
//!
//! Nothing is remembered from one link to the next: what is due follows from the job's record and from
//! what the guest says it runs.

use super::job::PREFIX;
use super::{Job, LeaseJobs};
use crate::guard::record::Boottime;
use crate::guest_link::{Exec, GuestLink, JobControl, LinkError, Refusal, Status};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use sublet_model::job::{JobEvent, JobState};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);
/// Between one KILL and the next, for processes that were being made meanwhile.
const AGAIN: Duration = Duration::from_secs(2);
/// How long output may go on after the job's own process ended: something it left behind may talk for ever.
const TRAILING: Duration = Duration::from_secs(10);
/// Between one try and the next.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause before a guest that was too busy is asked again; it doubles up to there.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// Pause after a record could not be written.
const DISK_PAUSE: Duration = Duration::from_secs(1);

const TERM: u8 = 15;
const KILL: u8 = 9;

/// Drives the jobs of a lease over one link, until dropped.
pub async fn serve(jobs: Arc<LeaseJobs>, user: String, link: GuestLink) {
    let mut submitted = jobs.watch();
    let Some(in_guest) = in_guest(&jobs, &link).await else { return std::future::pending().await };
    let mut driven = HashSet::new();
    let mut drives = JoinSet::new();
    loop {
        submitted.borrow_and_update();
        for job in jobs.all() {
            let record = job.record();
            if !record.state.is_over() && driven.insert(record.number) {
                let known = in_guest.contains(&record.guest_name());
                drives.spawn(drive(job, user.clone(), link.clone(), known));
            }
        }
        tokio::select! {
            changed = submitted.changed() => if changed.is_err() { return std::future::pending().await },
            Some(_) = drives.join_next() => {}
        }
    }
}

/// The tries that the guest knows; those that nobody asks for any more are forgotten.
async fn in_guest(jobs: &LeaseJobs, link: &GuestLink) -> Option<HashSet<String>> {
    let known = loop {
        match link.jobs().await {
            Ok(known) => break known,
            // It is very busy; what it runs must be known before anything else is started.
            Err(LinkError::Silent(_)) => {}
            Err(_) => return None,
        }
    };
    let wanted: HashSet<String> =
        jobs.all().iter().map(|job| job.record()).filter(|r| !r.state.is_over()).map(|r| r.guest_name()).collect();
    let known = known.into_iter().filter(|job| job.job.starts_with(PREFIX)).map(|job| job.job);
    let (wanted, over): (HashSet<String>, HashSet<String>) = known.partition(|name| wanted.contains(name));
    for name in over {
        // Ended and buried already, or not: either is well.
        let _ = link.forget(&name).await;
    }
    Some(wanted)
}

/// Drives one job until it is over or the link is.
async fn drive(job: Arc<Job>, user: String, link: GuestLink, mut known: bool) {
    let mut pause = RETRY_PAUSE;
    loop {
        let record = job.record();
        let name = record.guest_name();
        let begun = match (known, record.state) {
            (_, JobState::Ended { .. }) => return,
            (true, _) => link.attach(&name, job.taken()).await,
            (false, JobState::Waiting | JobState::Starting) => {
                if apply(&job, JobEvent::Told, None).await.is_over() {
                    return;
                }
                link.record(&record.request(&user)).await.map(|exec| (0, exec))
            }
            (false, JobState::Running | JobState::Stopping { .. }) => {
                let words = "the program in the partition was started anew and lost it";
                apply(&job, JobEvent::Unknown, Some(words.into())).await;
                continue;
            }
        };
        let event = match begun {
            Ok((from, exec)) => {
                pause = RETRY_PAUSE;
                apply(&job, JobEvent::Began, None).await;
                match run(&job, record.attempt, from, exec).await {
                    Some(Status::Code(code)) => (JobEvent::Exited(code), None),
                    Some(Status::Signal(signal)) => (JobEvent::Signalled(signal), None),
                    None => return,
                }
            }
            Err(LinkError::Refused { why: Refusal::NotFound, .. }) if known => (JobEvent::Unknown, None),
            Err(LinkError::Refused { why, words }) => (refusal(why), Some(words)),
            Err(error @ LinkError::TooLong(_)) => (JobEvent::Refused, Some(error.to_string())),
            Err(_) => return,
        };
        let next = apply(&job, event.0, event.1).await;
        let _ = link.forget(&name).await;
        known = false;
        if next == JobState::Waiting {
            sleep(pause).await;
        }
        if event.0 == JobEvent::Busy {
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// What a guest's refusal means for a job: one that has no room now may have some later.
fn refusal(why: Refusal) -> JobEvent {
    match why {
        Refusal::TooMany | Refusal::NoIdentity => JobEvent::Busy,
        Refusal::Begun => JobEvent::Lost,
        Refusal::OtherIdentity | Refusal::Protocol | Refusal::NotFound | Refusal::Failed | Refusal::Pointless => {
            JobEvent::Refused
        }
    }
}

/// Takes a job's output in and steers it until its process has ended; none if the link did.
async fn run(job: &Arc<Job>, attempt: u32, from: u64, exec: Exec) -> Option<Status> {
    let Exec { stdin: _, mut stdout, stderr: _, control } = exec;
    let output = async {
        let mut at = from;
        while let Ok(Some(bytes)) = stdout.next().await {
            let (job, count) = (Arc::clone(job), bytes.len() as u64);
            let kept = blocking(move || job.append(attempt, at, &bytes)).await;
            if let Err(error) = kept {
                tracing::warn!(%error, "output of a job could not be kept");
            }
            at += count;
        }
    };
    let (status, steering) = (control.wait(), steer(job, &control));
    tokio::pin!(output, status, steering);
    let mut drained = false;
    let status = loop {
        tokio::select! {
            status = &mut status => break status.ok()?,
            () = &mut output, if !drained => drained = true,
            () = &mut steering => return None,
        }
    };
    if !drained {
        let _ = timeout(TRAILING, output).await;
    }
    Some(status)
}

/// Signals a job whose time is over or that was cancelled. Never returns.
async fn steer(job: &Arc<Job>, control: &JobControl) {
    let mut changed = job.watch();
    loop {
        changed.borrow_and_update();
        if let JobState::Stopping { .. } = job.state() {
            let _ = control.signal(TERM).await;
            sleep(GRACE).await;
            loop {
                let _ = control.signal(KILL).await;
                sleep(AGAIN).await;
            }
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = time_over(job) => drop(apply(job, JobEvent::TimeOver, None).await),
        }
    }
}

/// Returns when this try has taken as long as it may.
async fn time_over(job: &Job) {
    let record = job.record();
    let (Some(started), Some(most)) = (record.started_boot_us, record.job.timeout_seconds) else {
        return std::future::pending().await;
    };
    let end = started.saturating_add(most.0.saturating_mul(1_000_000));
    let left = end.saturating_sub(Boottime::now().0).max(0).unsigned_abs();
    sleep(Duration::from_micros(left)).await;
}

/// Records what happened; tried until it can be.
async fn apply(job: &Arc<Job>, event: JobEvent, detail: Option<String>) -> JobState {
    loop {
        let (shared, detail) = (Arc::clone(job), detail.clone());
        match blocking(move || shared.apply(event, detail)).await {
            Ok(state) => return state,
            Err(error) => tracing::error!(%error, "what became of a job could not be recorded; it is tried again"),
        }
        sleep(DISK_PAUSE).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_is_busy_is_asked_again_and_one_that_can_not_is_believed() {
        assert_eq!(refusal(Refusal::TooMany), JobEvent::Busy);
        assert_eq!(refusal(Refusal::Begun), JobEvent::Lost);
        for why in [Refusal::NotFound, Refusal::Failed, Refusal::Protocol] {
            assert_eq!(refusal(why), JobEvent::Refused);
        }
    }
}
