//! Recordings of schema 1, read as if they were of today's: views over the tables as they were. What
//! was not measured then is NULL, or has no rows.

/// The histogram of waits, as it was called when there were no waits for VMAs.
pub const WAIT: &str = "mmap_lock_wait";

pub const VIEWS: &str = "
CREATE TEMP VIEW locks AS SELECT * FROM main.mmap_lock;
CREATE TEMP VIEW threads AS SELECT *, '' AS container, '' AS ground, NULL AS oom_score_adj, NULL AS ns_pid,
  0 AS vma_write_waits, 0 AS vma_write_wait_sum_ns,
  0 AS vma_write_wait_max_ns FROM main.threads;
CREATE TEMP VIEW waits AS SELECT id, start_ns, end_ns, wait_ns, cpu, tid, tgid, comm, prio, policy,
  mm, mm_tgid, 'mmap_lock' AS lock, mode, op, acquired,
  NULL AS vm_start, NULL AS vm_end, NULL AS op_start, NULL AS op_end,
  holder_tid, holder_tgid, holder_comm, holder_prio, holder_reader AS holder_readers,
  NULL AS holder_op, NULL AS holder_doing, NULL AS holder_address, NULL AS same_page,
  NULL AS last_holder_tid, 0 AS blamed_ns, 0 AS handoff_ns, NULL AS blocker_wait,
  id AS root_wait, 1 AS depth, 0 AS inversion, NULL AS stack, NULL AS holder_stack FROM main.waits;
CREATE TEMP VIEW segments AS SELECT NULL AS wait, NULL AS start_ns, NULL AS end_ns,
  NULL AS blamed_ns, NULL AS stretches, NULL AS kind, NULL AS tid, NULL AS tgid, NULL AS comm,
  NULL AS prio, NULL AS op, NULL AS doing, NULL AS address WHERE 0;
CREATE TEMP VIEW stacks AS SELECT NULL AS id, NULL AS frames WHERE 0;
CREATE TEMP VIEW windows AS SELECT NULL AS id, NULL AS attempt_ns, NULL AS io_ns, NULL AS close_ns,
  NULL AS mm, NULL AS tid, NULL AS tgid, NULL AS comm, NULL AS prio, NULL AS address,
  NULL AS vm_start, NULL AS vm_end, NULL AS kind, NULL AS retry_reason, NULL AS folio_state
  WHERE 0;
CREATE TEMP VIEW arrivals AS SELECT NULL AS id, NULL AS at_ns, NULL AS section_ns, NULL AS mm,
  NULL AS tid, NULL AS tgid, NULL AS comm, NULL AS prio, NULL AS what, NULL AS op,
  NULL AS range_start, NULL AS range_end, NULL AS retry WHERE 0;
CREATE TEMP VIEW conflicts AS SELECT NULL AS id, NULL AS window, NULL AS at_ns, NULL AS tid,
  NULL AS tgid, NULL AS comm, NULL AS prio, NULL AS op, NULL AS how WHERE 0;
CREATE TEMP VIEW chains AS SELECT NULL AS id, NULL AS depth, NULL AS waits, NULL AS blocked_ns
  WHERE 0;
";
