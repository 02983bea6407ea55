//! What happens, as it happens: server-sent events, for who may see what each is about.
//!
//! Each event has an id; whoever comes back with it in `Last-Event-ID` misses nothing that is still
//! kept. Otherwise the first event is `reset`: list anew what there is.

use crate::engine::command::Actor;
use crate::engine::news::{Happening, News};
use crate::http::App;
use crate::http::authorize::{self, Action, Object, decide};
use crate::http::extract::Caller;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{self, Sse};
use futures_util::stream::{self, Stream};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use sublet_wire::api::{Event, RESET};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How often a line is sent where nothing happens. It is looked then, too, whether the token still opens.
const STILL_HERE: Duration = Duration::from_secs(15);
/// How many are looked at at once.
const MOST_AT_ONCE: usize = 256;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(listen))
}

/// Tells what happens to the leases, balances and hosts that the caller may see, as it happens.
#[utoipa::path(
    get, path = "/v1/events", tag = "leases",
    params(("Last-Event-ID" = Option<String>, Header, description = "Go on after this one")),
    responses((status = 200, content_type = "text/event-stream", body = Event))
)]
async fn listen(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let news = app.handle.news();
    let last = headers.get(LAST_EVENT_ID).map(|id| id.to_str().ok().and_then(|id| parse(news, id)));
    let mut waiting = VecDeque::new();
    let after = match last {
        None => news.newest(),
        Some(Some(number)) => number,
        Some(None) => {
            waiting.push_back(reset(news));
            news.newest()
        }
    };
    let listener = Listener { app, caller, headers, after, waiting };
    Sse::new(stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok(event), listener))
    }))
}

struct Listener {
    app: Arc<App>,
    caller: Caller,
    headers: HeaderMap,
    /// The number of the newest one that was looked at.
    after: u64,
    /// What is to be sent.
    waiting: VecDeque<sse::Event>,
}

impl Listener {
    /// The next thing to send; none: the market stops, or the token opens nothing any more.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            let app = Arc::clone(&self.app);
            let news = app.handle.news();
            let came = tokio::select! {
                () = app.stopping.cancelled() => return None,
                came = tokio::time::timeout(STILL_HERE, news.wait(self.after)) => came,
            };
            let now = app.now();
            self.caller.actor = app.read(|state| authorize::actor(state, &self.headers, now)).ok()?;
            if came.is_err() {
                return Some(sse::Event::default().comment("still here"));
            }
            self.look(news);
        }
    }

    fn look(&mut self, news: &News) {
        let Some(found) = news.after(self.after, MOST_AT_ONCE) else {
            self.after = news.newest();
            return self.waiting.push_back(reset(news));
        };
        for one in found {
            self.after = one.number;
            self.waiting.extend(shown(&one, &self.caller.actor).and_then(|event| {
                let named = sse::Event::default().id(id(news, one.number)).event(one.what);
                // Texts and numbers only: it can always be written.
                named.json_data(event).ok()
            }));
        }
    }
}

/// What somebody may see of it.
fn shown(one: &Happening, actor: &Actor) -> Option<Event> {
    let object = Object { called: None, client: Some(one.client), lender: one.lender };
    let action = if one.lender.is_some() { Action::SeeReceipts } else { Action::SeeBalance };
    decide(actor, action, object).ok()?;
    let calls_it_so = decide(actor, Action::SeeLease, object).is_ok();
    Some(Event {
        at: one.at,
        what: one.what.into(),
        lease: one.lease,
        name: one.name.clone().filter(|_| calls_it_so),
        words: one.words.clone(),
    })
}

/// Numbers begin again with each start of the market: the id says which.
fn id(news: &News, number: u64) -> String {
    format!("{}-{number}", news.began().0)
}

fn parse(news: &News, id: &str) -> Option<u64> {
    let (began, number) = id.split_once('-')?;
    let number = number.parse().ok().filter(|number| *number <= news.newest())?;
    (began.parse() == Ok(news.began().0)).then_some(number)
}

fn reset(news: &News) -> sse::Event {
    sse::Event::default().id(id(news, news.newest())).event(RESET).data("{}")
}
