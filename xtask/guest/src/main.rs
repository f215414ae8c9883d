//! The /init of the lab's virtual machines.
//!
//! In: /plan.json. Out: frames on the virtio-serial port (output, the files of /out, the report)
//! and one verdict line on the console; then the machine is off. Whatever goes wrong ends in a
//! verdict that says so: the host takes a missing one for a crash.

mod delay;
mod run;
mod setup;
mod sys;

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use guest::plan::{OUT_DIR, PLAN_PATH, Plan, Report, VERDICT};
use guest::wire::Kind;
use run::Runner;

fn main() {
    if std::process::id() != 1 {
        eprintln!("this is the init of a virtual machine: start it by `cargo xtask vm`");
        std::process::exit(1);
    }
    // SAFETY: umask(2) takes a number. The kernel starts init with 0.
    unsafe { libc::umask(0o022) };
    match work() {
        Ok(()) => println!("\n{VERDICT} done"),
        Err(why) => println!("\n{VERDICT} failed: {why}"),
    }
    // A machine that is off sends nothing more of what the driver still holds.
    // SAFETY: tcdrain(3) takes a descriptor.
    unsafe { libc::tcdrain(libc::STDOUT_FILENO) };
    sys::power_off();
}

fn work() -> Result<(), String> {
    setup::file_systems()?;
    let plan = fs::read(PLAN_PATH).map_err(|e| format!("{PLAN_PATH}: {e}"))?;
    let plan: Plan = serde_json::from_slice(&plan).map_err(|e| format!("{PLAN_PATH}: {e}"))?;
    setup::modules(&plan.modules)?;
    let mut runner = Runner::new(setup::port()?);
    let said = |e: io::Error| format!("the port to the host: {e}");
    let kernel = sys::release();
    runner.send(Kind::Hello, kernel.as_bytes()).map_err(said)?;
    let error = prepare(&plan).and_then(|()| {
        let done = runner.run(&plan.steps);
        done.map_err(|e| format!("running the steps: {e}"))
    });
    let report = Report {
        kernel,
        results: std::mem::take(&mut runner.results),
        error: error.err(),
    };
    let report = serde_json::to_vec_pretty(&report).map_err(|e| format!("the report: {e}"))?;
    send_files(&mut runner, Path::new("")).map_err(said)?;
    runner.send(Kind::Report, &report).map_err(said)?;
    for disk in &plan.disks {
        // A step may have left something mounted below it; the power goes off in any case.
        sys::unmount(&disk.at).ok();
    }
    Ok(())
}

fn prepare(plan: &Plan) -> Result<(), String> {
    setup::applets()?;
    plan.disks.iter().try_for_each(setup::disk)
}

/// Sends the files below a folder of /out.
fn send_files(runner: &mut Runner, folder: &Path) -> io::Result<()> {
    let mut entries: Vec<_> =
        fs::read_dir(Path::new(OUT_DIR).join(folder))?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = folder.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            send_files(runner, &name)?;
        } else if kind.is_file() {
            runner.send(Kind::File, name.to_string_lossy().as_bytes())?;
            let mut file = fs::File::open(entry.path())?;
            let mut bytes = vec![0; 256 * 1024];
            loop {
                let count = file.read(&mut bytes)?;
                if count == 0 {
                    break;
                }
                runner.send(Kind::Data, bytes.get(..count).unwrap_or_default())?;
            }
        }
    }
    Ok(())
}
