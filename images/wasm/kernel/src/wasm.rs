//! One module that runs: for a slice of fuel at a time, and not while it waits for something.
//!
//! ```text
//!            +-- out of fuel --> ready ---+
//!  ready ----+                            +--> runs on
//!            +-- a call waits --> waiting +    (asked again each turn: input, room for output, the clock)
//!            +-- returned, exited, trapped --> over
//! ```

use crate::job::Streams;
use crate::program::Given;
use crate::wasi::{self, Call, Context, Exit, Waits};
use crate::world::World;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::RefCell;
use sublet_guest::messages::Status;
use wasmi::{
    CompilationMode, Config, Engine, Error, ExternType, Linker, Module, ResumableCall, ResumableCallHostTrap,
    ResumableCallOutOfFuel, Store, Val, ValType,
};

/// Roughly instructions: a few milliseconds where the processor is emulated, less where it is not.
const SLICE: u64 = 50_000;
/// What a translated module takes for each of its bytes, at most, roughly.
const TRANSLATED: usize = 12;
/// Deepest calls, and bytes of their stack.
const MOST_CALLS: usize = 10_000;
const MOST_STACK_BYTES: usize = 4 << 20;
/// What a module exits with that was ended by a trap, as elsewhere.
const TRAPPED: u8 = 134;

enum State {
    Ready(wasmi::Func),
    OutOfFuel(ResumableCallOutOfFuel),
    Waiting(ResumableCallHostTrap, Call),
}

/// A module at work.
pub struct Run {
    store: Store<Context>,
    state: Option<State>,
}

impl Run {
    /// Loads a module; what is wrong with it is said in words.
    pub fn new(bytes: &[u8], given: Given, streams: Rc<RefCell<Streams>>, world: &Rc<World>) -> Result<Self, String> {
        if !bytes.starts_with(b"\0asm") {
            return Err("it is no WebAssembly module".into());
        }
        if !world.has_room(bytes.len().saturating_mul(TRANSLATED)) {
            return Err("there is too little memory for this module".into());
        }
        let engine = Engine::new(&config());
        let words = |error: Error| format!("{error}");
        let module = Module::new(&engine, bytes).map_err(words)?;
        let mut store = Store::new(&engine, Context::new(given, streams, Rc::clone(world)));
        store.limiter(|context| context);
        let linker = linker(&engine, &module)?;
        store.set_fuel(SLICE).map_err(words)?;
        let instance = linker.instantiate_and_start(&mut store, &module).map_err(words)?;
        let start = instance.get_func(&store, "_start").ok_or("it has no _start: it is no WASI command")?;
        let kind = start.ty(&store);
        if !kind.params().is_empty() || !kind.results().is_empty() {
            return Err("its _start takes or returns something: it is no WASI command".into());
        }
        store.data_mut().memory = instance.get_memory(&store, "memory");
        Ok(Self { store, state: Some(State::Ready(start)) })
    }

    /// Runs a slice; true if it could go on at once. Else `wake` may become the time at which it can.
    pub fn run(&mut self, wake: &mut Option<u64>) -> Result<bool, Status> {
        let Some(state) = self.state.take() else { return Err(Status::Code(0)) };
        let outcome = match state {
            State::Ready(start) => {
                self.fuel(SLICE);
                start.call_resumable(&mut self.store, &[], &mut [])
            }
            State::OutOfFuel(call) => {
                self.fuel(SLICE.max(call.required_fuel()));
                call.resume(&mut self.store, &mut [])
            }
            State::Waiting(trap, call) => {
                let Some(answer) = wasi::again(&mut self.store, &call, wake) else {
                    self.state = Some(State::Waiting(trap, call));
                    return Ok(false);
                };
                let answer = answer.map_err(|Exit(status)| status)?;
                self.fuel(SLICE);
                trap.resume(&mut self.store, &[Val::I32(answer)], &mut [])
            }
        };
        match outcome {
            Ok(ResumableCall::Finished) => Err(Status::Code(0)),
            Ok(ResumableCall::OutOfFuel(call)) => {
                self.state = Some(State::OutOfFuel(call));
                Ok(true)
            }
            Ok(ResumableCall::HostTrap(trap)) => self.trapped(trap),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn trapped(&mut self, trap: ResumableCallHostTrap) -> Result<bool, Status> {
        if let Some(Waits(call)) = trap.host_error().downcast_ref::<Waits>() {
            let call = *call;
            self.state = Some(State::Waiting(trap, call));
            // Asked again before anybody sleeps: it may have to be at some time.
            return Ok(true);
        }
        match trap.host_error().downcast_ref::<Exit>() {
            Some(Exit(status)) => Err(*status),
            None => Err(self.failed(trap.host_error())),
        }
    }

    /// A trap: its words are the job's last.
    fn failed(&mut self, error: &Error) -> Status {
        let words = format!("{}: {error}\n", String::from_utf8_lossy(self.store.data().name()));
        self.store.data().streams.borrow_mut().write(2 - 1, words.as_bytes());
        Status::Code(TRAPPED)
    }

    fn fuel(&mut self, fuel: u64) {
        // Only fails where fuel is not counted.
        let _ = self.store.set_fuel(fuel);
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.consume_fuel(true).compilation_mode(CompilationMode::LazyTranslation).ignore_custom_sections(true);
    // A module's start function would run before anything could stop it; commands have `_start`.
    config.allow_start_fn(false);
    config.set_max_recursion_depth(MOST_CALLS).set_max_stack_height(MOST_STACK_BYTES).set_max_cached_stacks(1);
    config
}

/// What a module is linked with: WASI, and an answer to what of it there is not.
fn linker(engine: &Engine, module: &Module) -> Result<Linker<Context>, String> {
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker).map_err(|error| format!("{error}"))?;
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let ExternType::Func(kind) = import.ty() else {
            return Err(format!("it imports {from}.{name}, which is no function"));
        };
        if from != wasi::MODULE {
            return Err(format!("it imports {from}.{name}, and there is only {}", wasi::MODULE));
        }
        if kind.results() == [ValType::I32] && !wasi::knows(name) {
            let absent = |_: wasmi::Caller<'_, Context>, _: &[Val], results: &mut [Val]| {
                results[0] = Val::I32(wasi::ABSENT);
                Ok(())
            };
            linker.func_new(from, name, kind.clone(), absent).map_err(|error| format!("{error}"))?;
        }
    }
    Ok(linker)
}
