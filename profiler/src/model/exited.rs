//! Threads that have exited and are not remembered one by one: those of a process that lives on are one
//! row of it, those of all others one row more.

use std::collections::BTreeMap;

use super::Thread;

pub const NAME: &str = "(exited)";
/// Of processes that are gone.
pub const REST: Id = (0, 0);

/// tgid, tid
pub type Id = (u32, u32);

/// Of a process that lives on.
pub fn of_process(tgid: u32) -> Id {
    (tgid, 0)
}

/// The row that a thread is counted in which has none of its own.
pub fn row(tgid: u32, is_there: impl FnOnce(Id) -> bool) -> Id {
    let own = of_process(tgid);
    if is_there(own) { own } else { REST }
}

/// `before`, with the rows that `now` has: what it tells of other threads is in the rows that these are
/// counted in by now. Both are in order.
pub fn as_in(before: &[Thread], now: &[Thread]) -> BTreeMap<Id, Thread> {
    let has = |id: Id| now.binary_search_by_key(&id, |t| (t.tgid, t.tid)).is_ok();
    let mut rows = BTreeMap::new();
    for thread in before {
        let id = (thread.tgid, thread.tid);
        if has(id) {
            add(&mut rows, id, thread);
        } else {
            add(&mut rows, row(thread.tgid, has), thread);
        }
    }
    rows
}

/// Adds up in one row what is to be told in it.
pub fn add(rows: &mut BTreeMap<Id, Thread>, id: Id, thread: &Thread) {
    let row = rows.entry(id).or_insert_with(|| Thread {
        tgid: id.0,
        tid: id.1,
        comm: NAME.into(),
        exited: true,
        ..Thread::default()
    });
    row.absorb(thread);
}
