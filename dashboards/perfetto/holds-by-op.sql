-- What locks were held for while others waited: time per operation, and how many waits it cost.
SELECT
  s.name AS hold,
  count(*) AS holds,
  sum(EXTRACT_ARG(s.arg_set_id, 'debug.waits')) AS waits,
  sum(s.dur) / 1e6 AS held_ms,
  max(s.dur) / 1e6 AS longest_ms
FROM slice AS s
WHERE s.category = 'hold'
GROUP BY s.name
ORDER BY sum(s.dur) DESC;
