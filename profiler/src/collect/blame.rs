//! Who made whom wait. In: waits that are over, the holds that ended while somebody waited, both as
//! the ring has them: a hold comes before the end of the wait it was in the way of. Out: each wait
//! cut into segments by who held the lock, and its place in a chain.
//!
//! Going back from the wait's end, the hold that ended last covers the time back to its own start,
//! then the one before it, until the wait's start. Whoever was in the lock for microseconds at the
//! end of a long queue gets these microseconds. A blocker's wait ended before the wait it blocked,
//! so chains cannot be cycles.

use std::collections::{HashMap, VecDeque};

use profiler_common::words::Mode;

use crate::model::{Doing, HoldEvent, HolderInfo, Segment, SegmentBy, WaitEvent};

/// Holds remembered, of all locks and of one.
const HOLDS: usize = 32 * 1024;
const HOLDS_OF_ONE: usize = 4 * 1024;
/// Segments kept of a wait: where hundreds of threads hand a lock round, each would see them all.
const SEGMENTS: usize = 16;
/// Waits remembered of one thread, and threads.
const WAITS_OF_ONE: usize = 32;
const THREADS: usize = 8 * 1024;

/// `mmap_lock`, or the lock of a VMA, of one address space.
type Lock = (bool, u64);

pub struct Blamer {
    page_size: u64,
    holds: HashMap<Lock, Holds>,
    remembered: usize,
    /// No hold of a lock that is not among them is remembered that ended up to here.
    forgotten_to_ns: u64,
    waits: HashMap<u32, VecDeque<Past>>,
    last_id: u64,
    forgotten: u64,
}

#[derive(Default)]
struct Holds {
    /// As they ended.
    ended: VecDeque<HoldEvent>,
    /// No hold that ended up to here is remembered.
    forgotten_to_ns: u64,
}

/// A wait that is over: what waits behind it must know.
struct Past {
    id: u64,
    start_ns: u64,
    end_ns: u64,
    root: u64,
    depth: u32,
    /// The least important thread of those it waited for.
    least_prio: i32,
}

impl Blamer {
    pub fn new(page_size: u64) -> Self {
        Self {
            page_size,
            holds: HashMap::new(),
            remembered: 0,
            forgotten_to_ns: 0,
            waits: HashMap::new(),
            last_id: 0,
            forgotten: 0,
        }
    }

    /// Waits for which some of the holders were forgotten.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub fn held(&mut self, hold: HoldEvent) {
        let lock = (hold.mode == Mode::VmaWrite, hold.mm);
        let holds = self.holds.entry(lock).or_default();
        holds.ended.push_back(hold);
        self.remembered += 1;
        if holds.ended.len() > HOLDS_OF_ONE
            && let Some(old) = holds.ended.pop_front()
        {
            holds.forgotten_to_ns = old.end_ns;
            self.remembered -= 1;
        }
        if self.remembered > HOLDS {
            self.forget_a_lock();
        }
    }

    /// The one that was let go longest ago.
    fn forget_a_lock(&mut self) {
        let last = |h: &Holds| h.ended.back().map_or(0, |hold| hold.end_ns);
        let oldest = self.holds.iter().min_by_key(|(_, h)| last(h));
        if let Some(lock) = oldest.map(|(lock, _)| *lock)
            && let Some(holds) = self.holds.remove(&lock)
        {
            self.remembered -= holds.ended.len();
            self.forgotten_to_ns = self.forgotten_to_ns.max(last(&holds));
        }
    }

    /// Fills in the wait's id, holder and blame.
    pub fn waited(&mut self, wait: &mut WaitEvent) {
        self.last_id += 1;
        wait.id = self.last_id;
        let mut segments = self.segments(wait);
        let blame = &mut wait.blame;
        blame.handoff_ns = segments
            .iter()
            .filter(|s| s.by == SegmentBy::Handoff)
            .map(|s| s.blamed_ns)
            .sum();
        blame.last_holder_tid = segments.iter().rev().find_map(|s| match &s.by {
            SegmentBy::Holder(h) => Some(h.tid),
            _ => None,
        });
        blame.root_wait = wait.id;
        blame.depth = 1;
        let mut least_prio = wait.prio;
        if let Some((tid, blamed_ns)) = covers_most(&segments) {
            blame.blamed_ns = blamed_ns;
            blame.depth = 2;
            // What it was at for longest.
            let (mut edge, mut longest_ns) = (HolderInfo::default(), 0);
            let (mut blocker, mut most_ns) = (None, 0);
            for segment in &mut segments {
                let SegmentBy::Holder(h) = &mut segment.by else {
                    continue;
                };
                if h.tid != tid {
                    continue;
                }
                let own = self.own_wait(tid, segment.start_ns, segment.end_ns);
                if let Some((past, share)) = own {
                    if share * 2 >= segment.end_ns - segment.start_ns {
                        h.doing = Some(Doing::Lock);
                    }
                    if share >= most_ns {
                        (blocker, most_ns) = (Some(past), share);
                    }
                }
                if segment.blamed_ns >= longest_ns {
                    (edge, longest_ns) = (h.clone(), segment.blamed_ns);
                }
            }
            least_prio = edge.prio;
            if let Some(past) = blocker {
                blame.blocker_wait = Some(past.id);
                blame.root_wait = past.root;
                blame.depth = past.depth + 1;
                least_prio = least_prio.max(past.least_prio);
            }
            blame.inversion = least_prio > wait.prio;
            if wait.mode == Mode::VmaWrite && edge.address != 0 {
                let page = edge.address - edge.address % self.page_size;
                blame.same_page = wait
                    .range
                    .map(|(start, end)| start.saturating_sub(page) < self.page_size && page < end);
            }
            // It may have been one of many.
            if let Some(seen) = &wait.holder
                && edge.readers != 0
            {
                edge.readers = edge.readers.max(seen.readers);
            }
            wait.holder = Some(edge);
        }
        let past = Past {
            id: wait.id,
            start_ns: wait.start_ns,
            end_ns: wait.end_ns,
            root: wait.blame.root_wait,
            depth: wait.blame.depth,
            least_prio,
        };
        wait.blame.segments = by_holder(segments);
        self.remember(wait.tid, past);
    }

    fn remember(&mut self, tid: u32, past: Past) {
        let now = past.end_ns;
        let waits = self.waits.entry(tid).or_default();
        waits.push_back(past);
        if waits.len() > WAITS_OF_ONE {
            waits.pop_front();
        }
        if self.waits.len() > THREADS {
            let half = |w: &VecDeque<Past>| w.back().map_or(0, |p| p.end_ns);
            let mut ends: Vec<u64> = self.waits.values().map(half).collect();
            ends.sort_unstable();
            let median = ends.get(ends.len() / 2).copied().unwrap_or(now);
            self.waits.retain(|_, w| half(w) >= median);
        }
    }

    /// The wait of `tid` that takes most of this time, if it is a tenth of it, and how much it takes.
    fn own_wait(&self, tid: u32, start_ns: u64, end_ns: u64) -> Option<(&Past, u64)> {
        let share = |p: &Past| {
            p.end_ns
                .min(end_ns)
                .saturating_sub(p.start_ns.max(start_ns))
        };
        let waits = self.waits.get(&tid)?;
        let most = waits.iter().max_by_key(|p| share(p))?;
        let share = share(most);
        (share > 0 && share * 10 >= end_ns - start_ns).then_some((most, share))
    }

    /// A segment for each stretch, in order, without gaps.
    fn segments(&mut self, wait: &WaitEvent) -> Vec<Segment> {
        let vma = wait.mode == Mode::VmaWrite;
        let mut segments = Vec::new();
        let mut push = |start_ns: u64, end_ns: u64, by: SegmentBy| {
            if end_ns > start_ns {
                segments.push(Segment {
                    start_ns,
                    end_ns,
                    blamed_ns: end_ns - start_ns,
                    stretches: 1,
                    by,
                });
            }
        };
        // What is not explained yet ends here.
        let mut at = wait.end_ns;
        let mut began_early = None;
        let mut forgotten_to_ns = self.forgotten_to_ns;
        if let Some(holds) = self.holds.get(&(vma, wait.mm)) {
            let mut next = holds.ended.len();
            while next > 0 && at > wait.start_ns {
                next -= 1;
                let hold = &holds.ended[next];
                if hold.end_ns <= wait.start_ns {
                    break;
                }
                if hold.end_ns > wait.end_ns || hold.holder.tid == wait.tid {
                    continue;
                }
                let since = match hold.since_ns {
                    // Nobody begins to read a VMA that a writer waits for.
                    0 if vma => 0,
                    0 => next.checked_sub(1).map_or(0, |n| holds.ended[n].end_ns),
                    since => since,
                };
                if since >= at {
                    continue;
                }
                push(hold.end_ns, at, SegmentBy::Handoff);
                let from = since.max(wait.start_ns);
                push(
                    from,
                    hold.end_ns.min(at),
                    SegmentBy::Holder(hold.holder.clone()),
                );
                at = from;
                if hold.since_ns == 0 {
                    began_early = Some(hold.holder.clone());
                }
            }
            forgotten_to_ns = forgotten_to_ns.max(holds.forgotten_to_ns);
        }
        if at > wait.start_ns && forgotten_to_ns > wait.start_ns {
            self.forgotten += 1;
        }
        let by = match (&wait.holder, began_early) {
            (Some(h), _) if h.tid != 0 && h.tid != wait.tid => SegmentBy::Holder(h.clone()),
            (Some(h), None) if h.readers != 0 => SegmentBy::Readers,
            (_, Some(h)) => SegmentBy::Holder(h),
            _ => SegmentBy::Unknown,
        };
        push(wait.start_ns, at, by);
        segments.reverse();
        segments
    }
}

/// One segment for each holder and what it was at, by first appearance; those with the least time
/// together, where there are many.
fn by_holder(stretches: Vec<Segment>) -> Vec<Segment> {
    let mut all: Vec<Segment> = Vec::new();
    for s in stretches {
        match all.iter_mut().find(|a| same(&a.by, &s.by)) {
            Some(a) => join(a, &s),
            None => all.push(s),
        }
    }
    if all.len() > SEGMENTS {
        all.sort_by_key(|s| std::cmp::Reverse(s.blamed_ns));
        let rest = all.split_off(SEGMENTS - 1);
        if let Some(mut others) = rest.iter().min_by_key(|s| s.start_ns).cloned() {
            (others.by, others.blamed_ns, others.stretches) = (SegmentBy::Others, 0, 0);
            rest.iter().for_each(|s| join(&mut others, s));
            all.push(others);
        }
        all.sort_by_key(|s| s.start_ns);
    }
    all
}

fn same(a: &SegmentBy, b: &SegmentBy) -> bool {
    match (a, b) {
        (SegmentBy::Holder(a), SegmentBy::Holder(b)) => {
            (a.tid, a.op, a.doing, a.readers != 0) == (b.tid, b.op, b.doing, b.readers != 0)
        }
        (a, b) => a == b,
    }
}

fn join(a: &mut Segment, s: &Segment) {
    a.end_ns = a.end_ns.max(s.end_ns);
    a.blamed_ns += s.blamed_ns;
    a.stretches += s.stretches;
}

/// The holder with the most time of all segments, and its time.
fn covers_most(segments: &[Segment]) -> Option<(u32, u64)> {
    let mut by_tid = Vec::<(u32, u64)>::new();
    for segment in segments {
        let SegmentBy::Holder(h) = &segment.by else {
            continue;
        };
        let ns = segment.blamed_ns;
        match by_tid.iter_mut().find(|(tid, _)| *tid == h.tid) {
            Some((_, sum)) => *sum += ns,
            None => by_tid.push((h.tid, ns)),
        }
    }
    by_tid.into_iter().max_by_key(|(_, ns)| *ns)
}

#[cfg(test)]
mod tests {
    use profiler_common::words::Op;

    use super::*;
    use crate::model::Blame;

    const MM: u64 = 7;

    fn hold(tid: u32, mode: Mode, since_ns: u64, end_ns: u64) -> HoldEvent {
        HoldEvent {
            since_ns,
            end_ns,
            mm: MM,
            mode,
            holder: HolderInfo {
                tid,
                tgid: 1,
                prio: 120,
                readers: u32::from(mode != Mode::Write),
                op: Some(Op::Mmap),
                ..HolderInfo::default()
            },
        }
    }

    fn wait(tid: u32, mode: Mode, start_ns: u64, end_ns: u64) -> WaitEvent {
        WaitEvent {
            id: 0,
            start_ns,
            end_ns,
            cpu: 0,
            tid,
            tgid: 1,
            comm: String::new(),
            prio: 120,
            policy: 0,
            mm: MM,
            mm_tgid: None,
            mode,
            op: Op::Mmap,
            acquired: true,
            vma: None,
            range: None,
            holder: None,
            stack: 0,
            blame: Blame::default(),
        }
    }

    fn adds_up(w: &WaitEvent) {
        let mut sum = 0;
        for s in &w.blame.segments {
            assert!(s.start_ns >= w.start_ns && s.end_ns <= w.end_ns, "{w:?}");
            assert!(s.blamed_ns <= s.end_ns - s.start_ns, "{w:?}");
            sum += s.blamed_ns;
            if let SegmentBy::Holder(h) = &s.by {
                assert_ne!(h.tid, w.tid, "{w:?}");
            }
        }
        assert_eq!(sum, w.end_ns - w.start_ns, "{w:?}");
        assert!(w.blame.segments.len() <= SEGMENTS, "{w:?}");
        assert!(w.blame.blamed_ns + w.blame.handoff_ns <= w.end_ns - w.start_ns);
    }

    #[test]
    fn in_a_convoy_the_long_holder_is_blamed() {
        let mut blamer = Blamer::new(4096);
        blamer.held(hold(1, Mode::Write, 1_000, 1_000_000));
        for i in 0..20 {
            let tid = 10 + i as u32;
            let end = 1_000_000 + i * 100;
            let mut w = wait(tid, Mode::Write, 50_000, end + 50);
            blamer.waited(&mut w);
            adds_up(&w);
            let blamed = w.holder.unwrap();
            assert_eq!((blamed.tid, w.blame.blamed_ns), (1, 950_000), "{i}");
            blamer.held(hold(tid, Mode::Write, end + 50, end + 90));
        }
    }

    #[test]
    fn a_chain_hangs_on_the_wait_below() {
        let mut blamer = Blamer::new(4096);
        blamer.held(hold(1, Mode::VmaWrite, 0, 900));
        let mut below = wait(2, Mode::VmaWrite, 100, 910);
        below.prio = 90;
        blamer.waited(&mut below);
        adds_up(&below);
        assert_eq!((below.blame.depth, below.blame.root_wait), (2, below.id));
        assert!(below.blame.inversion);
        blamer.held(hold(2, Mode::Write, 50, 950));
        let mut above = wait(3, Mode::Read, 200, 960);
        blamer.waited(&mut above);
        adds_up(&above);
        assert_eq!(above.blame.depth, 3);
        assert_eq!(above.blame.blocker_wait, Some(below.id));
        assert_eq!(above.blame.root_wait, below.id);
        assert_eq!(above.holder.unwrap().doing, Some(Doing::Lock));
        assert!(!above.blame.inversion);
    }

    #[test]
    fn a_holder_is_known_by_what_it_was_at_for_longest() {
        let mut blamer = Blamer::new(4096);
        blamer.held(hold(1, Mode::VmaWrite, 0, 900));
        let mut below = wait(2, Mode::VmaWrite, 100, 910);
        blamer.waited(&mut below);
        // It waited with the lock for writing, and let it go as a reader.
        blamer.held(hold(2, Mode::Write, 50, 950));
        blamer.held(hold(2, Mode::Read, 950, 990));
        let mut above = wait(3, Mode::Write, 200, 995);
        blamer.waited(&mut above);
        adds_up(&above);
        assert_eq!((above.blame.blamed_ns, above.blame.depth), (790, 3));
        let holder = above.holder.unwrap();
        assert_eq!((holder.doing, holder.readers), (Some(Doing::Lock), 0));
    }

    #[test]
    fn the_longest_of_readers_covers_the_others() {
        let mut blamer = Blamer::new(4096);
        blamer.held(hold(2, Mode::Read, 400, 500));
        blamer.held(hold(1, Mode::Read, 10, 900));
        let mut w = wait(9, Mode::Write, 100, 1_000);
        w.holder = Some(HolderInfo {
            readers: 2,
            ..HolderInfo::default()
        });
        blamer.waited(&mut w);
        adds_up(&w);
        assert_eq!((w.blame.blamed_ns, w.blame.handoff_ns), (800, 100));
        assert_eq!(w.blame.last_holder_tid, Some(1));
        assert_eq!(w.holder.map(|h| (h.tid, h.readers)), Some((1, 2)));
    }

    #[test]
    fn without_starts_a_hold_begins_where_the_last_ended() {
        let mut blamer = Blamer::new(4096);
        blamer.held(hold(1, Mode::Write, 0, 800));
        blamer.held(hold(2, Mode::Write, 0, 900));
        let mut w = wait(9, Mode::Write, 100, 1_000);
        blamer.waited(&mut w);
        adds_up(&w);
        assert_eq!(w.holder.unwrap().tid, 1);
        assert_eq!(w.blame.blamed_ns, 700);
    }

    #[test]
    fn a_holder_is_one_segment_and_many_holders_are_not_many() {
        let mut blamer = Blamer::new(4096);
        for at in 0..200 {
            // Every second turn is that of thread 1.
            let tid = 1 + (at % 2) * at;
            let since = 1_000 + u64::from(at) * 10;
            blamer.held(hold(tid, Mode::Write, since, since + 10));
        }
        let mut w = wait(999, Mode::Write, 1_000, 3_000);
        blamer.waited(&mut w);
        adds_up(&w);
        let first = &w.blame.segments[0];
        assert_eq!((first.blamed_ns, first.stretches), (1_000, 100));
        let others = w.blame.segments.iter().find(|s| s.by == SegmentBy::Others);
        assert_eq!(others.map(|s| s.blamed_ns), Some(1_000 - 14 * 10));
        assert_eq!(w.blame.blamed_ns, 1_000);
    }

    #[test]
    fn what_nobody_saw_is_unknown() {
        let mut blamer = Blamer::new(4096);
        let mut w = wait(9, Mode::Read, 100, 1_000);
        blamer.waited(&mut w);
        adds_up(&w);
        assert_eq!(w.blame.segments[0].by, SegmentBy::Unknown);
        assert_eq!((w.blame.depth, w.blame.blamed_ns), (1, 0));
    }

    #[test]
    fn a_lock_that_is_forgotten_is_told() {
        let mut blamer = Blamer::new(4096);
        blamer.held(hold(1, Mode::Write, 500, 1_000));
        for other in 0..HOLDS as u64 {
            let mut h = hold(2, Mode::Write, 1_000 + other, 1_001 + other);
            h.mm = MM + 1 + other % 100;
            blamer.held(h);
        }
        let mut w = wait(9, Mode::Write, 600, 1_050);
        blamer.waited(&mut w);
        adds_up(&w);
        assert_eq!(w.blame.segments[0].by, SegmentBy::Unknown);
        assert_eq!(blamer.forgotten(), 1);
        blamer.waited(&mut wait(9, Mode::Write, 1_050, 1_100));
        assert_eq!(blamer.forgotten(), 1);
    }

    #[test]
    fn whatever_comes_the_parts_are_the_whole() {
        // A small generator is enough: no two runs of the test differ.
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut blamer = Blamer::new(4096);
        let mut now = 1_000;
        for _ in 0..20_000 {
            now += random(100);
            let tid = 1 + random(8) as u32;
            let mode = Mode::ALL[random(3) as usize];
            let ago = now.saturating_sub(random(5_000));
            if random(2) == 0 {
                let since = if random(4) == 0 { 0 } else { ago };
                blamer.held(hold(tid, mode, since, now));
            } else if ago < now {
                let mut w = wait(tid, mode, ago, now);
                blamer.waited(&mut w);
                adds_up(&w);
                assert!(w.blame.blocker_wait.is_none_or(|b| b < w.id));
            }
        }
    }
}
