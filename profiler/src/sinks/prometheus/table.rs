//! What is exposed, one entry for each metric. In: a page's counts. Out: its samples. A figure that this
//! kernel cannot give has none: it is never 0.

use profiler_common::words::{FallbackReason, HeldWait, Kind, Loss, Mode, Op, Path, RetryReason};
use prometheus_client::metrics::MetricType;

use super::{
    metrics::{Base, Metric, Page, Samples, Value, process},
    totals::Cost,
};
use crate::model::Quality;

const SIDES: [Mode; 2] = [Mode::Read, Mode::Write];

const fn counter(
    name: &'static str,
    help: &'static str,
    samples: fn(&Page, &mut Samples),
) -> Metric {
    Metric {
        name,
        unit: None,
        kind: MetricType::Counter,
        help,
        samples,
    }
}

const fn in_unit(unit: Base, kind: MetricType, metric: Metric) -> Metric {
    Metric {
        unit: Some(unit),
        kind,
        ..metric
    }
}

const fn seconds(metric: Metric) -> Metric {
    in_unit(Base::Seconds, MetricType::Counter, metric)
}

const fn histogram(metric: Metric) -> Metric {
    in_unit(Base::Seconds, MetricType::Histogram, metric)
}

const fn gauge(metric: Metric) -> Metric {
    Metric {
        kind: MetricType::Gauge,
        ..metric
    }
}

/// All there are, in the order of a page.
pub const METRICS: &[Metric] = &[
    counter(
        "vmascope_faults",
        "Page faults, by the path they took",
        |p, out| {
            let known = Path::ALL.iter().filter(|path| p.knows.path(**path));
            for path in known {
                let count = p.now.path(*path).count;
                out.with("path", path.name(), Value::Count(count));
            }
        },
    ),
    counter(
        "vmascope_faults_by_kind",
        "Page faults, by what is mapped",
        |p, out| {
            let count = |kind: Kind| p.now.faults.iter().map(|f| f.by_kind[kind as usize]).sum();
            if p.knows.kind {
                out.counts("kind", Kind::ALL, Kind::name, count);
            }
        },
    ),
    counter(
        "vmascope_faults_major",
        "Page faults that had to wait for a device, as the kernel counts them",
        |p, out| {
            if p.knows.count {
                out.put(Value::Count(p.now.majors_total()));
            }
        },
    ),
    counter(
        "vmascope_faults_minor",
        "All other page faults",
        |p, out| {
            if p.knows.count {
                out.put(Value::Count(p.now.faults_total() - p.now.majors_total()));
            }
        },
    ),
    counter(
        "vmascope_fallbacks",
        "Faults that got no VMA lock, by reason (sampled just after the failure)",
        |p, out| {
            if p.knows.fallback {
                let count = |reason: FallbackReason| p.now.fallbacks[reason as usize];
                out.counts("reason", FallbackReason::ALL, FallbackReason::name, count);
            }
        },
    ),
    counter(
        "vmascope_retries",
        "Attempts that gave up their lock and returned VM_FAULT_RETRY, by reason",
        |p, out| {
            if p.knows.retry_reason {
                let count = |reason: RetryReason| p.now.anatomy.retries[reason as usize];
                out.counts("reason", RetryReason::ALL, RetryReason::name, count);
            }
        },
    ),
    counter(
        "vmascope_held_waits",
        "Faults that waited with their lock held, by the longest of their waits",
        |p, out| {
            if p.knows.held_wait {
                let count = |reason: HeldWait| p.now.anatomy.held_waits[reason as usize];
                out.counts("reason", HeldWait::ALL, HeldWait::name, count);
            }
        },
    ),
    histogram(counter(
        "vmascope_fault_duration",
        "Duration of page faults, by path",
        |p, out| {
            if !p.knows.latency {
                return;
            }
            for path in Path::ALL.iter().filter(|path| p.knows.path(**path)) {
                let latency = Box::new(p.now.path(*path).latency.clone());
                out.with("path", path.name(), Value::Hist(latency));
            }
        },
    )),
    counter(
        "vmascope_mmap_lock_acquired",
        "Acquisitions of mmap_lock; absent where only those that wait are seen",
        |p, out| {
            if p.knows.acquired {
                let count = |mode: Mode| p.now.locks[mode as usize].total().acquired;
                out.counts("mode", &SIDES, Mode::name, count);
            }
        },
    ),
    histogram(counter(
        "vmascope_mmap_lock_wait",
        "Waits for mmap_lock",
        |p, out| {
            if p.knows.wait {
                for mode in SIDES {
                    let wait = Box::new(p.now.locks[mode as usize].wait.clone());
                    out.with("mode", mode.name(), Value::Hist(wait));
                }
            }
        },
    )),
    histogram(counter(
        "vmascope_mmap_lock_hold",
        "How long mmap_lock was held",
        |p, out| {
            if p.knows.hold {
                for mode in SIDES {
                    let hold = Box::new(p.now.locks[mode as usize].hold.clone());
                    out.with("mode", mode.name(), Value::Hist(hold));
                }
            }
        },
    )),
    counter(
        "vmascope_mmap_lock_waits_by_op",
        "Waits for mmap_lock, by what the waiter was doing",
        |p, out| {
            if p.knows.wait && p.knows.op {
                let count = |op: Op| {
                    let sides =
                        SIDES.map(|mode| p.now.locks[mode as usize].by_op[op as usize].waits);
                    sides.iter().sum()
                };
                out.counts("op", Op::ALL, Op::name, count);
            }
        },
    ),
    counter(
        "vmascope_vma_write_sections",
        "Write sections of mmap_lock, in which VMAs may be locked",
        |p, out| {
            if p.knows.vma_write && p.knows.acquired {
                let sections = p.now.locks[Mode::Write as usize].total().acquired;
                out.put(Value::Count(sections));
            }
        },
    ),
    histogram(counter(
        "vmascope_vma_write_wait",
        "Waits of writers for the readers of a VMA to leave",
        |p, out| {
            if p.knows.vma_write {
                let wait = Box::new(p.now.locks[Mode::VmaWrite as usize].wait.clone());
                out.put(Value::Hist(wait));
            }
        },
    )),
    counter(
        "vmascope_vma_write_blocked",
        "Single waits for a VMA, from the threshold on, by what was in the way",
        |p, out| {
            for (by, count) in &p.totals.blocked_by {
                out.with("by", by, Value::Count(*count));
            }
        },
    ),
    counter(
        "vmascope_windows",
        "Faults that gave up their VMA lock to wait",
        |p, out| {
            if p.knows.windows {
                out.put(Value::Count(p.totals.windows));
            }
        },
    ),
    counter(
        "vmascope_conflicts",
        "Writers that met such a fault in the VMA they change, by operation",
        |p, out| {
            if p.knows.windows {
                let met = Op::ALL
                    .iter()
                    .filter(|op| p.totals.conflicts[**op as usize] > 0);
                for op in met {
                    let count = p.totals.conflicts[*op as usize];
                    out.with("op", op.name(), Value::Count(count));
                }
            }
        },
    ),
    counter(
        "vmascope_chains",
        "Waits with two threads or more queued behind each other",
        |p, out| {
            if p.knows.holder {
                out.put(Value::Count(p.totals.chains));
            }
        },
    ),
    counter(
        "vmascope_inversions",
        "Waits behind a thread of lower priority",
        |p, out| {
            if p.knows.holder {
                out.put(Value::Count(p.totals.inversions));
            }
        },
    ),
    counter(
        "vmascope_what_if_unended",
        "Windows that were judged without the end of their fault: nothing saved is counted of them",
        |p, out| {
            if p.knows.what_if {
                out.put(Value::Count(p.totals.unended));
            }
        },
    ),
    seconds(counter(
        "vmascope_what_if_saved",
        "What faults would have saved under a policy, at least",
        |p, out| {
            policies(p, out, "", |cost| cost.saved_ns);
        },
    )),
    seconds(counter(
        "vmascope_what_if_lost",
        "What writers would have lost under a policy",
        |p, out| {
            policies(p, out, "retry_vma", |cost| cost.lost_ns);
        },
    )),
    seconds(counter(
        "vmascope_what_if_amplified",
        "What others would have lost behind those writers",
        |p, out| {
            policies(p, out, "held_today", |cost| cost.amplified_ns);
        },
    )),
    counter(
        "vmascope_process_faults",
        "Page faults of the processes that do most, by name",
        |p, out| {
            if p.knows.count {
                for (name, sums) in &p.processes {
                    out.process(name, Value::Count(sums.faults));
                }
            }
        },
    ),
    seconds(counter(
        "vmascope_process_fault",
        "Time in page faults",
        |p, out| {
            if p.knows.latency {
                for (name, sums) in &p.processes {
                    out.process(name, Value::Seconds(sums.fault_ns));
                }
            }
        },
    )),
    seconds(counter(
        "vmascope_process_mmap_lock_wait",
        "Time waited for mmap_lock",
        |p, out| {
            if !p.knows.wait {
                return;
            }
            for (name, sums) in &p.processes {
                for mode in SIDES {
                    let mut labels = process(name);
                    labels.push(("mode", mode.name().to_owned()));
                    let value = Value::Seconds(sums.wait_ns[mode as usize]);
                    out.0.push((labels, value));
                }
            }
        },
    )),
    seconds(counter(
        "vmascope_process_vma_write_wait",
        "Time writers waited for VMAs",
        |p, out| {
            if p.knows.vma_write {
                for (name, sums) in &p.processes {
                    let value = Value::Seconds(sums.wait_ns[Mode::VmaWrite as usize]);
                    out.process(name, value);
                }
            }
        },
    )),
    counter(
        "vmascope_loss",
        "What was not kept, by reason: figures are that much too small",
        |p, out| {
            let count = |loss: Loss| p.now.losses[loss as usize];
            out.counts("reason", Loss::ALL, Loss::name, count);
        },
    ),
    gauge(counter(
        "vmascope_signal_quality",
        "1 for each figure: how far it can be trusted on this kernel, and its hook",
        |p, out| {
            for signal in &p.session.signals {
                let quality = match signal.quality {
                    Quality::Exact => "exact",
                    Quality::Approximate => "approximate",
                    Quality::Unavailable => "unavailable",
                };
                let labels = vec![
                    ("signal", signal.name.clone()),
                    ("quality", quality.to_owned()),
                    ("hook", signal.hook.clone()),
                ];
                out.0.push((labels, Value::Number(1.0)));
            }
        },
    )),
    in_unit(
        Base::Bytes,
        MetricType::Gauge,
        counter(
            "vmascope_map_memory",
            "Kernel memory of the maps",
            |p, out| {
                out.put(Value::Number(p.session.map_bytes as f64));
            },
        ),
    ),
    seconds(counter(
        "vmascope_bpf_run",
        "CPU time of the programs in the kernel; absent unless it is counted (--bpf-stats)",
        |p, out| {
            if let Some(ns) = p.now.own_bpf_ns {
                out.put(Value::Seconds(ns));
            }
        },
    )),
    counter(
        "vmascope_events",
        "Single events that were received",
        |p, out| {
            out.put(Value::Count(p.now.events_received));
        },
    ),
    counter(
        "vmascope_own_faults",
        "Page faults of vmascope itself, which are in no other figure",
        |p, out| {
            out.put(Value::Count(p.now.own_faults));
        },
    ),
    Metric {
        kind: MetricType::Info,
        ..counter(
            "vmascope_build",
            "What is measured, by which version",
            |p, out| {
                let s = &p.session;
                let labels = vec![
                    ("version", s.version.clone()),
                    ("kernel", s.host.kernel.clone()),
                    ("arch", s.host.arch.clone()),
                    ("tier", s.tier.clone()),
                    ("vma_lock", s.vma_lock.clone()),
                    ("mmap_lock", s.mmap_lock.clone()),
                    ("target", s.target.clone()),
                ];
                out.0.push((labels, Value::One));
            },
        )
    },
    seconds(counter(
        "process_cpu",
        "CPU time of vmascope since it began to measure",
        |p, out| {
            out.put(Value::Seconds(p.now.own_cpu_ns));
        },
    )),
    in_unit(
        Base::Bytes,
        MetricType::Gauge,
        counter(
            "process_resident_memory",
            "Resident memory of vmascope, mapped maps included",
            |p, out| {
                out.put(Value::Number(p.now.own_rss_bytes as f64));
            },
        ),
    ),
    in_unit(
        Base::Seconds,
        MetricType::Gauge,
        counter(
            "process_start_time",
            "When vmascope started, since 1970",
            |p, out| {
                let armed = p.session.armed_realtime_ns as f64 / 1e9;
                out.put(Value::Number(armed - p.session.start_ms / 1e3));
            },
        ),
    ),
];

/// `blamed`: the policy whose figure comes of who held `mmap_lock`.
fn policies(p: &Page, out: &mut Samples, blamed: &str, ns: fn(&Cost) -> u64) {
    if p.knows.what_if {
        let policies = p.totals.policies.iter();
        for (policy, cost) in policies.filter(|(name, _)| p.knows.holder || name.as_str() != blamed)
        {
            out.with("policy", policy, Value::Seconds(ns(cost)));
        }
    }
}
