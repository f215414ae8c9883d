-- Where the time of single faults went, by the path they ended on and what backs the memory. Only
-- faults over the threshold are slices: the counters `faults PATH` have all of them.
SELECT
  coalesce(EXTRACT_ARG(s.arg_set_id, 'debug.path'), 'not known') AS path,
  coalesce(EXTRACT_ARG(s.arg_set_id, 'debug.kind'), 'not known') AS kind,
  count(*) AS faults,
  sum(s.dur) / 1e6 AS total_ms,
  max(s.dur) / 1e6 AS max_ms,
  sum(EXTRACT_ARG(s.arg_set_id, 'debug.mmap_wait_ns')) / 1e6 AS mmap_lock_wait_ms,
  sum(EXTRACT_ARG(s.arg_set_id, 'debug.io_wait_ns')) / 1e6 AS io_wait_ms,
  sum(EXTRACT_ARG(s.arg_set_id, 'debug.run_delay_ns')) / 1e6 AS run_delay_ms,
  sum(EXTRACT_ARG(s.arg_set_id, 'debug.userfault_wait_ns')) / 1e6 AS userfault_wait_ms,
  sum(EXTRACT_ARG(s.arg_set_id, 'debug.held_wait_ns')) / 1e6 AS held_wait_ms
FROM slice AS s
WHERE s.category = 'fault'
GROUP BY 1, 2
ORDER BY sum(s.dur) DESC;
