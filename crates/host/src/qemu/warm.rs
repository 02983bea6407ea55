//! Templates and their clones, in the monitor's words.
//!
//! ```text
//! template:  runs --stop--> stands still --migrate, its memory left out--> devices written
//! clone:     asleep (-incoming defer, -S) --migrate-incoming--> stands still --cont--> runs
//! ```
//!
//! The memory is never copied: the template's is a file, and a clone maps that file so that what it
//! writes is its own.

use super::command_line::devices_uri;
use super::live::Live;
use super::qmp::{Qmp, QmpError};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The state of a machine's devices is small: measured 10 ms, and ten times that on a busy computer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the monitor is asked how far it has come.
const ASK_EVERY: Duration = Duration::from_millis(2);

/// Whether a clone's monitor waits for its template, or holds it without having gone on.
pub async fn is_asleep(qmp: &Qmp) -> bool {
    let status = qmp.execute("query-status", Value::Null, PATIENCE).await;
    status.is_ok_and(|status| {
        matches!(
            status["status"].as_str(),
            Some("inmigrate" | "prelaunch" | "paused" | "postmigrate" | "finish-migrate")
        )
    })
}

/// Lets a clone go on where its template stood still.
pub async fn wake(live: &Live) -> Result<(), String> {
    let qmp = live.monitor.qmp();
    leave_memory_out(&qmp).await?;
    ask(&qmp, "migrate-incoming", json!({ "uri": devices_uri() })).await?;
    wait(&qmp).await?;
    ask(&qmp, "cont", Value::Null).await.map(drop)
}

/// Has a template stand still and writes down its devices.
pub async fn freeze(live: &Live) -> Result<(), String> {
    let qmp = live.monitor.qmp();
    ask(&qmp, "stop", Value::Null).await?;
    leave_memory_out(&qmp).await?;
    ask(&qmp, "migrate", json!({ "uri": devices_uri() })).await?;
    wait(&qmp).await
}

/// There is no switch for it on the command line.
async fn leave_memory_out(qmp: &Qmp) -> Result<(), String> {
    let capability = json!({ "capability": "x-ignore-shared", "state": true });
    ask(qmp, "migrate-set-capabilities", json!({ "capabilities": [capability] })).await.map(drop)
}

async fn wait(qmp: &Qmp) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask(qmp, "query-migrate", Value::Null).await?;
        match answer["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                return Err(answer["error-desc"].as_str().unwrap_or("the monitor does not say why").to_owned());
            }
            _ if Instant::now() > deadline => return Err(format!("not done within {PATIENCE:?}")),
            _ => sleep(ASK_EVERY).await,
        }
    }
}

async fn ask(qmp: &Qmp, command: &'static str, arguments: Value) -> Result<Value, String> {
    let answer: Result<Value, QmpError> = qmp.execute(command, arguments, PATIENCE).await;
    answer.map_err(|error| format!("{command}: {error}"))
}
