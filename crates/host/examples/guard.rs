//! `guard --run-dir DIR`: the guard alone, as `sublet guard` runs it. The driver's own tests
//! start this one, so that they need no other crate.

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let given = [arguments.next(), arguments.next(), arguments.next()];
    match given {
        [Some(guard), Some(switch), Some(run_dir)] if guard == "guard" && switch == "--run-dir" => {
            sublet_host::guard::run(sublet_host::guard::GuardArgs { run_dir: run_dir.into() })
        }
        _ => anyhow::bail!("usage: guard guard --run-dir DIR"),
    }
}
