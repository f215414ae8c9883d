-- Why faults gave up their lock, and what the folio was like when they looked: of single faults
-- over the threshold, by the reason of their last retry.
SELECT
  EXTRACT_ARG(s.arg_set_id, 'debug.retry_reason') AS retry_reason,
  EXTRACT_ARG(s.arg_set_id, 'debug.folio_state') AS folio_state,
  EXTRACT_ARG(s.arg_set_id, 'debug.path') AS path,
  count(*) AS faults,
  sum(EXTRACT_ARG(s.arg_set_id, 'debug.attempts')) AS attempts,
  sum(s.dur) / 1e6 AS total_ms,
  sum(EXTRACT_ARG(s.arg_set_id, 'debug.mmap_wait_ns')) / 1e6 AS mmap_lock_wait_ms
FROM slice AS s
WHERE s.category = 'fault'
  AND EXTRACT_ARG(s.arg_set_id, 'debug.retry_reason') IS NOT NULL
GROUP BY 1, 2, 3
ORDER BY faults DESC, 1, 2, 3;
