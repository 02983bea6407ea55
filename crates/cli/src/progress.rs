//! Progress on stderr, for anything that may take over a second. Says nothing where no person looks.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;
use sublet_model::partition::Phase;
use sublet_wire::api::LeaseView;

/// One line that shows what goes on.
pub struct Progress(ProgressBar);

const TICK: Duration = Duration::from_millis(100);

impl Progress {
    /// Starts with these words. indicatif itself draws nothing where stderr is no terminal.
    pub fn start(words: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(spinner());
        bar.set_message(crate::output::clean(&words.into()));
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Other words.
    pub fn say(&self, words: impl Into<String>) {
        self.0.set_style(spinner());
        self.0.unset_length();
        self.0.set_message(crate::output::clean(&words.into()));
    }

    /// So many bytes of so many.
    pub fn bytes(&self, words: impl Into<String>, done: u64, total: u64) {
        if self.0.length() != Some(total) {
            self.0.set_style(bytes());
            self.0.set_length(total);
            // Rates are of this transfer alone.
            self.0.reset_eta();
        }
        self.0.set_position(done);
        self.0.set_message(crate::output::clean(&words.into()));
    }

    /// Counts bytes towards a total; told of each that went over.
    pub fn counted(&self, words: String, total: u64) -> Box<dyn FnMut(u64) + Send + '_> {
        let mut done = 0;
        Box::new(move |bytes| {
            done = total.min(done + bytes);
            self.bytes(words.clone(), done, total);
        })
    }

    /// Where a lease stands.
    pub fn lease(&self, lease: &LeaseView) {
        match lease.phase {
            Some(Phase::Fetching { done, total }) => {
                self.bytes(format!("{}: fetching {}", lease.name, lease.image), done, total)
            }
            _ => self.say(format!("{}: {}", lease.name, step(lease))),
        }
    }

    /// Leaves nothing on the screen.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Where a lease stands, in words.
pub fn step(lease: &LeaseView) -> String {
    use sublet_model::lease::LeaseState as State;
    match (lease.state, lease.phase) {
        (State::Granted { silent_since: Some(_) } | State::Active { silent_since: Some(_), .. }, _) => {
            "waiting for the host, which is not heard of".into()
        }
        (State::Granted { .. }, Some(Phase::Booting)) => format!("booting {}", lease.image),
        (State::Granted { .. }, Some(Phase::Ready)) | (State::Active { .. }, _) => "ready".into(),
        (State::Granted { .. }, _) => format!("granted on {}, preparing", lease.host_name),
        (State::Stopping { .. }, _) => "stopping and wiping".into(),
        (State::Lost { .. }, _) => "the host is not heard of".into(),
        (State::Ended { .. }, _) => "ended".into(),
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn bytes() -> ProgressStyle {
    ProgressStyle::with_template("{msg} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
