//! What most tests begin with: something is recorded, and told as a report and as tables. In: a name.
//! Out: steps `NAME.record`, `NAME.report` (JSON) and `NAME.export`. The recording is `/out/NAME.db`, its
//! tables are in `/out/NAME`.

use guest::plan::Step;

/// What `vmascope record` sees of this command.
pub fn recorded(name: &str, limit_s: u64, options: &[&str], command: &[&str]) -> Vec<Step> {
    let to = ["-o", &format!("/out/{name}.db"), "--"];
    let record = [&["vmascope", "record"], options, &to, command].concat();
    recorded_by(name, limit_s, &record)
}

/// By a command that knows where the recording goes.
pub fn recorded_by(name: &str, limit_s: u64, record: &[&str]) -> Vec<Step> {
    let (file, tables) = (format!("/out/{name}.db"), format!("/out/{name}"));
    let step =
        |what: &str, limit_s, argv: &[&str]| Step::new(&format!("{name}.{what}"), limit_s, argv);
    let report = ["vmascope", "report", &file, "--format", "json"];
    let export = ["vmascope", "export", &file, "--csv", &tables];
    vec![
        step("record", limit_s, record),
        step("report", 60, &report),
        step("export", 60, &export),
    ]
}
