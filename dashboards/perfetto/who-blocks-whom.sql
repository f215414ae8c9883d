-- Who held a lock that others waited for: one row per pair of threads and operations, by the arrows
-- from holds to waits. A wait that several threads are to blame for is in the row of each.
SELECT
  holder.name AS holder,
  holder.tid AS holder_tid,
  hold.name AS hold,
  waiter.name AS waiter,
  waiter.tid AS waiter_tid,
  wait.name AS wait,
  count(*) AS waits,
  sum(wait.dur) / 1e6 AS waited_ms,
  max(wait.dur) / 1e6 AS longest_ms
FROM flow
JOIN slice AS hold ON flow.slice_out = hold.id
JOIN slice AS wait ON flow.slice_in = wait.id
JOIN thread_track AS hold_track ON hold.track_id = hold_track.id
JOIN thread AS holder ON hold_track.utid = holder.utid
JOIN thread_track AS wait_track ON wait.track_id = wait_track.id
JOIN thread AS waiter ON wait_track.utid = waiter.utid
WHERE hold.category = 'hold' AND wait.category = 'wait'
GROUP BY holder.utid, hold.name, waiter.utid, wait.name
ORDER BY sum(wait.dur) DESC
LIMIT 50;
