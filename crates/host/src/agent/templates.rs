//! Templates of one agent: what was started lately, and the task that makes what is missing within
//! the room that nobody holds. It knows images and shapes, and no lease.

use super::shared::Shared;
use crate::guard::record::RunDir;
use crate::guest_link::{GuestLink, LinkError, Refusal};
use crate::reconcile::Life;
use crate::store::{Stage, Store, StoreError};
use crate::templates::decide::{LAST_STARTS, MOST_FAILURES, Scene, Wanted, next};
use crate::templates::{Key, Shape, Shelf, ShelfError, Taken};
use crate::vmm::{Birth, Boottime, Machine, MachineSpec, Vmm};
use anyhow::{Context, ensure};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use sublet_model::ids::PartitionId;
use sublet_model::image::ImageManifest;
use sublet_model::resources::Resources;
use sublet_model::units::{GiB, Millicores};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// A template is made by at least so much of a thread, or not at all.
const LEAST_CPU: Millicores = Millicores(500);
/// Pause after one could not be made.
const PAUSE: Duration = Duration::from_secs(30);
/// How often a guest is asked whether it has come up whole.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// What a template is thought to take on the disk before it was made: a boot touches less.
const ESTIMATE_BYTES: u64 = 512 << 20;
/// What is left to do once a guest has come up.
const FREEZE_WITHIN: Duration = Duration::from_secs(60);

/// What a template is made of.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// What it is good for.
    pub shape: Shape,
    /// What boots.
    pub image: ImageManifest,
    /// Where its blobs are.
    pub depot: String,
}

/// The templates of one agent.
#[derive(Debug)]
pub struct Templates {
    shelf: Shelf,
    limit_bytes: u64,
    demand: Mutex<Demand>,
    /// The machine in which one is being made.
    making: Mutex<Option<Machine>>,
}

#[derive(Debug, Default)]
struct Demand {
    /// The last starts, oldest first.
    starts: VecDeque<Recipe>,
    failures: BTreeMap<Key, u32>,
    /// Whose guests say that nothing would be gained.
    pointless: BTreeSet<Key>,
}

impl Templates {
    /// Those in a state directory. With a limit of 0 none are made or used.
    pub fn open(state: &Path, limit_bytes: u64) -> Result<Self, ShelfError> {
        Ok(Self {
            shelf: Shelf::open(&state.join("templates"))?,
            limit_bytes,
            demand: Mutex::default(),
            making: Mutex::default(),
        })
    }

    fn demand(&self) -> MutexGuard<'_, Demand> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_making(&self, machine: Option<&Machine>) -> Option<Machine> {
        let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *making, machine.cloned())
    }

    /// Notes a start.
    pub fn wanted(&self, recipe: Recipe) {
        let mut demand = self.demand();
        demand.starts.push_back(recipe);
        if demand.starts.len() > LAST_STARTS {
            demand.starts.pop_front();
        }
    }

    /// A template to start from; none if there is none yet, or ever.
    pub async fn take(&self, shape: &Shape) -> Result<Option<Taken>, ShelfError> {
        if self.limit_bytes == 0 { Ok(None) } else { self.shelf.take(shape).await }
    }

    /// Whether its guest said that nothing would be gained by one.
    pub fn is_pointless(&self, shape: &Shape) -> bool {
        self.demand().pointless.contains(&shape.key())
    }

    /// Throws out one from which a machine did not come up.
    pub fn throw_out(&self, key: &Key) {
        if let Err(error) = self.shelf.throw_out(key) {
            tracing::error!(%key, %error, "a template can't be thrown out");
        }
    }
}

/// Makes templates, for ever.
pub async fn run<V: Vmm>(shared: Arc<Shared<V>>) {
    let mut news = shared.news.subscribe();
    loop {
        news.borrow_and_update();
        match make_next(&shared).await {
            Ok(true) => continue,
            Ok(false) => {
                if news.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "a template could not be made; partitions boot without");
                sleep(PAUSE).await;
            }
        }
    }
}

/// What nobody holds, which templates machines run from, and whether something is on its way up.
struct Look {
    room: Resources,
    running: Vec<Key>,
    busy: bool,
}

fn look<V: Vmm>(shared: &Shared<V>, store: &Store) -> Result<Look, StoreError> {
    let division = store.division()?;
    let lendable = crate::division::lendable(&shared.config.inventory, division.keep);
    let seen = Shared::<V>::seen(store)?;
    let held = seen.iter().filter(|s| matches!(s.life, Life::Held { .. })).map(|s| s.applied.resources);
    let runs = store.live_runs()?;
    let mut running = Vec::new();
    for run in &runs {
        let place = store.place(run.partition, shared.config.first_uid, super::users::exists)?;
        let order = RunDir::new(&super::shared::run_dir(store.state(), place.number)).read_order();
        let files = order.map(|order| order.open).unwrap_or_default();
        running.extend(files.iter().filter_map(|file| shared.templates.shelf.key_of(&file.path)));
    }
    let busy = runs.iter().any(|run| matches!(run.stage, Stage::Fetching | Stage::Booting));
    Ok(Look { room: lendable - held.sum::<Resources>(), running, busy })
}

async fn look_now<V: Vmm>(shared: &Arc<Shared<V>>) -> Result<Look, StoreError> {
    let this = Arc::clone(shared);
    shared.db(move |store| look(&this, store)).await
}

fn needs(shape: &Shape) -> Resources {
    Resources { cpu: LEAST_CPU, memory: shape.memory, disk: GiB(0) }
}

/// Makes the one that is due; false if there is none.
async fn make_next<V: Vmm>(shared: &Arc<Shared<V>>) -> anyhow::Result<bool> {
    let templates = &shared.templates;
    if templates.limit_bytes == 0 {
        return Ok(false);
    }
    let seen = look_now(shared).await?;
    let Some(recipe) = choose(templates, &seen) else { return Ok(false) };
    let bytes = estimate(&recipe.shape);
    if !templates.shelf.make_room(bytes, templates.limit_bytes, &seen.running)? {
        return Ok(false);
    }
    let key = recipe.shape.key();
    let cpu = Millicores((i64::from(recipe.shape.vcpus) * 1000).min(seen.room.cpu.0));
    let machine = machine(shared).await?;
    let begun = Instant::now();
    templates.set_making(Some(&machine));
    let made = tokio::select! {
        made = make(shared, &recipe, cpu, &machine) => Some(made),
        () = room_is_wanted(shared, needs(&recipe.shape)) => None,
    };
    let ended = end(shared, &machine).await;
    templates.set_making(None);
    match made {
        None => tracing::info!(%key, "a template is given up: a lease needs its room"),
        Some(Ok(())) => {
            ended?;
            let key = templates.shelf.finish(&recipe.shape).await?;
            keep_within_limit(shared, &key).await?;
            tracing::info!(%key, image = recipe.image.name, took = ?begun.elapsed(), "a template was made");
            return Ok(true);
        }
        Some(Err(error)) if is_pointless(&error) => {
            tracing::info!(%key, image = recipe.image.name, "no template is made of it: it boots as quickly");
            templates.demand().failures.insert(key.clone(), MOST_FAILURES);
            templates.demand().pointless.insert(key);
            ended?;
            templates.shelf.give_up()?;
            return Ok(true);
        }
        Some(Err(error)) => {
            *templates.demand().failures.entry(key).or_default() += 1;
            templates.shelf.give_up()?;
            return Err(error.context(format!("make a template of {}", recipe.image.name)));
        }
    }
    ended?;
    templates.shelf.give_up()?;
    Ok(false)
}

/// Whether a guest said that copies of it would gain nothing: it is not asked again.
fn is_pointless(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(LinkError::Refused { why: Refusal::Pointless, .. }))
}

fn memory_bytes(shape: &Shape) -> u64 {
    shape.memory.0.unsigned_abs() << 20
}

fn estimate(shape: &Shape) -> u64 {
    memory_bytes(shape).min(ESTIMATE_BYTES)
}

/// One that became larger than was thought is not kept where others in use leave no room for it.
async fn keep_within_limit<V: Vmm>(shared: &Arc<Shared<V>>, key: &Key) -> anyhow::Result<()> {
    let templates = &shared.templates;
    let mut in_the_way = look_now(shared).await?.running;
    in_the_way.push(key.clone());
    if templates.shelf.make_room(0, templates.limit_bytes, &in_the_way)? {
        return Ok(());
    }
    *templates.demand().failures.entry(key.clone()).or_default() += 1;
    templates.shelf.throw_out(key)?;
    anyhow::bail!("the template {key} became too large: --templates allows {} bytes", templates.limit_bytes)
}

fn choose(templates: &Templates, seen: &Look) -> Option<Recipe> {
    let demand = templates.demand();
    let starts = demand.starts.iter().map(|recipe| {
        let shape = &recipe.shape;
        Wanted { key: shape.key(), bytes: estimate(shape), needs: needs(shape) }
    });
    let starts: Vec<Wanted> = starts.collect();
    let kept = templates.shelf.kept(&seen.running);
    let key = next(&Scene {
        starts: &starts,
        kept: &kept,
        failures: &demand.failures,
        room: seen.room,
        busy: seen.busy,
        limit_bytes: templates.limit_bytes,
    })?;
    demand.starts.iter().find(|recipe| recipe.shape.key() == key).cloned()
}

/// Returns when what nobody holds has become too little.
async fn room_is_wanted<V: Vmm>(shared: &Arc<Shared<V>>, needs: Resources) {
    let mut news = shared.news.subscribe();
    loop {
        news.borrow_and_update();
        // What can't be looked at is no reason: the next look will tell.
        if look_now(shared).await.is_ok_and(|seen| !needs.fits(seen.room)) || news.changed().await.is_err() {
            return;
        }
    }
}

/// The machine in which templates are made: of a partition that nobody can rent, with an own user.
fn maker() -> PartitionId {
    Uuid::nil().into()
}

async fn machine<V: Vmm>(shared: &Arc<Shared<V>>) -> Result<Machine, StoreError> {
    let first = shared.config.first_uid;
    let place = shared.db(move |store| store.place(maker(), first, super::users::exists)).await?;
    let run_dir = super::shared::run_dir(shared.store.state(), place.number);
    Ok(Machine { partition: maker(), generation: 0, uuid: Uuid::now_v7(), run_dir })
}

/// Ends what is half made, by this agent or an earlier one.
pub async fn clean_up<V: Vmm>(shared: &Arc<Shared<V>>) {
    if shared.templates.limit_bytes == 0 {
        return;
    }
    let ended = async {
        let machine = match shared.templates.set_making(None) {
            Some(machine) => machine,
            None => left_behind(shared).await?,
        };
        end(shared, &machine).await?;
        Ok::<_, anyhow::Error>(shared.templates.shelf.give_up()?)
    };
    if let Err(error) = ended.await {
        tracing::error!(error = format!("{error:#}"), "a half-made template can't be ended");
    }
}

/// The machine that an earlier agent left, if it left one.
async fn left_behind<V: Vmm>(shared: &Arc<Shared<V>>) -> Result<Machine, StoreError> {
    let machine = machine(shared).await?;
    let uuid = RunDir::new(&machine.run_dir).read_pid().map_or(machine.uuid, |left| left.uuid);
    Ok(Machine { uuid, ..machine })
}

async fn end<V: Vmm>(shared: &Arc<Shared<V>>, machine: &Machine) -> anyhow::Result<()> {
    shared.vmm.stop(machine).await?;
    Ok(shared.vmm.wipe(machine).await?)
}

async fn make<V: Vmm>(
    shared: &Arc<Shared<V>>,
    recipe: &Recipe,
    cpu: Millicores,
    machine: &Machine,
) -> anyhow::Result<()> {
    let Recipe { shape, image, depot } = recipe;
    let boot = shared.cache.fetch(&image.boot, depot).await?;
    let first = shared.config.first_uid;
    let place = shared.db(move |store| store.place(maker(), first, super::users::exists)).await?;
    let (uid, gid) = shared.config.run_as.unwrap_or((place.uid, place.uid));
    let files = shared.templates.shelf.begin(memory_bytes(shape), uid, gid)?;
    let spec = MachineSpec {
        partition: machine.partition,
        generation: machine.generation,
        uuid: machine.uuid,
        vcpus: shape.vcpus,
        cpu,
        memory: shape.memory,
        disk: GiB(0),
        boot,
        command_line: image.command_line.clone(),
        guest_channel: image.guest_channel.clone(),
        run_dir: machine.run_dir.clone(),
        uid,
        gid,
        accelerator: shared.config.accelerator,
        birth: Birth::Template(files),
    };
    let patience = shared.config.boot_deadline;
    let stop_at = Boottime::now().plus_micros((patience + FREEZE_WITHIN).as_micros() as i64);
    shared.vmm.prepare(&spec).await?;
    shared.vmm.start(&spec, stop_at).await?;
    settle(machine, Instant::now() + patience).await.context("wait until its guest has come up")?;
    Ok(shared.vmm.freeze(machine).await?)
}

/// Waits until a guest has come up whole and knows that it is a template.
async fn settle(machine: &Machine, deadline: Instant) -> anyhow::Result<()> {
    loop {
        let asked = async {
            let link = GuestLink::connect(&machine.guest_socket(), deadline).await?;
            let outcome = link.become_template().await;
            let boot = link.welcome().boot_id.clone();
            link.close();
            outcome.map(|()| boot)
        };
        match asked.await {
            Ok(boot) => {
                ensure!(boot.is_empty(), "its guest program is too old for templates: rebuild the image");
                return Ok(());
            }
            // It still boots; and early kernels may say what is no frame.
            Err(LinkError::Refused { why: Refusal::Failed, .. } | LinkError::Gone | LinkError::Broken(_))
                if Instant::now() < deadline =>
            {
                sleep(ASK_EVERY).await
            }
            Err(error) => return Err(error.into()),
        }
    }
}
