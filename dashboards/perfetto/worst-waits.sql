-- The longest waits for mmap_lock and for the locks of VMAs: who waited, for what, and whom it is
-- blamed on. `depth`: threads on the path from the waiter to the root of the chain.
SELECT
  s.dur / 1e6 AS wait_ms,
  process.name AS process,
  thread.name AS thread,
  thread.tid AS tid,
  EXTRACT_ARG(s.arg_set_id, 'debug.lock') AS lock,
  EXTRACT_ARG(s.arg_set_id, 'debug.mode') AS mode,
  EXTRACT_ARG(s.arg_set_id, 'debug.op') AS op,
  EXTRACT_ARG(s.arg_set_id, 'debug.holder_comm') AS holder,
  EXTRACT_ARG(s.arg_set_id, 'debug.holder_tid') AS holder_tid,
  EXTRACT_ARG(s.arg_set_id, 'debug.holder_op') AS holder_op,
  EXTRACT_ARG(s.arg_set_id, 'debug.holder_doing') AS holder_doing,
  EXTRACT_ARG(s.arg_set_id, 'debug.depth') AS depth,
  s.ts AS ts,
  s.id AS slice_id
FROM slice AS s
JOIN thread_track ON s.track_id = thread_track.id
JOIN thread USING (utid)
LEFT JOIN process USING (upid)
WHERE s.category = 'wait'
ORDER BY s.dur DESC
LIMIT 50;
