#!/usr/bin/env python3
"""Decodes a trace with Perfetto's official schema and holds it against the recording it came from.

usage: check-perfetto.py RECORDING TRACE QUERIES

In: a recording, its export, the folder of queries for trace_processor. The queries run on SQLite over
tables of trace_processor's shape, made from the decoded trace: it is SQLite inside, too.
Out: `ok NAME`, `FAILED NAME: WHY` or `skipped NAME: WHY`, a line for each check; exit code 1 if any
failed. Needs the package `perfetto` (with protobuf), for the schema only.
"""

import pathlib
import sqlite3
import sys
from collections import Counter, defaultdict

from google.protobuf import unknown_fields
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (
    BUILTIN_CLOCK_BOOTTIME as BOOTTIME,
    BUILTIN_CLOCK_MONOTONIC as MONOTONIC,
    BUILTIN_CLOCK_REALTIME as REALTIME,
    Trace,
    TracePacket,
    TrackEvent,
)

FAILED = []


def check(name, good, why=""):
    print(f"ok {name}" if good else f"FAILED {name}: {why}")
    if not good:
        FAILED.append(name)


def same(name, got, want):
    check(name, got == want, f"trace {str(got)[:200]}, recording {str(want)[:200]}")


def unknown(message):
    """Fields that the official schema has no name for, at any depth."""
    found = len(unknown_fields.UnknownFieldSet(message))
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for one in value if isinstance(value, (list, tuple)) or hasattr(value, "add") else [value]:
            found += unknown(one)
    return found


class Slice:
    def __init__(self, number, ts, event, names, track):
        self.id, self.ts, self.dur, self.track = number, ts, 0, track
        self.name = names["event_names"].get(event.name_iid)
        self.category = names["event_categories"].get(event.category_iids[0])
        self.args = {}
        for a in event.debug_annotations:
            self.args[names["debug_annotation_names"][a.name_iid]] = getattr(a, a.WhichOneof("value"))


class Decoded:
    """The trace as trace_processor would see it."""

    def __init__(self, trace):
        self.tracks, self.slices, self.instants, self.counters = {}, [], [], defaultdict(list)
        self.flows, self.problems, self.clocks, self.default_clock = [], [], [], None
        names, events = defaultdict(dict), []
        for at, packet in enumerate(trace.packet):
            if packet.sequence_flags & TracePacket.SEQ_INCREMENTAL_STATE_CLEARED:
                names.clear()
            if packet.HasField("trace_packet_defaults"):
                self.default_clock = packet.trace_packet_defaults.timestamp_clock_id
            if packet.HasField("clock_snapshot"):
                self.clocks.append({c.clock_id: c.timestamp for c in packet.clock_snapshot.clocks})
            for field in ("event_names", "event_categories", "debug_annotation_names"):
                for entry in getattr(packet.interned_data, field):
                    names[field][entry.iid] = entry.name
            if packet.HasField("track_descriptor"):
                d = packet.track_descriptor
                if d.parent_uuid and d.parent_uuid not in self.tracks:
                    self.problems.append(f"track {d.name} has a parent nobody described")
                self.tracks[d.uuid] = d
            if packet.HasField("track_event"):
                if packet.track_event.track_uuid not in self.tracks:
                    self.problems.append(f"packet {at}: a track nobody described")
                events.append((packet.timestamp, at, packet.track_event))
        self.replay(sorted(events, key=lambda e: e[:2]), names)

    def replay(self, events, names):
        open_slices, sources = defaultdict(list), {}
        for ts, _, event in events:
            track, current = event.track_uuid, None
            if event.type == TrackEvent.TYPE_COUNTER:
                which = event.WhichOneof("counter_value_field")
                self.counters[track].append((ts, getattr(event, which)))
                continue
            if event.type == TrackEvent.TYPE_SLICE_END:
                if not open_slices[track]:
                    self.problems.append(f"an end at {ts} without a beginning")
                    continue
                current = open_slices[track].pop()
                current.dur = ts - current.ts
            else:
                number = len(self.slices) + len(self.instants)
                current = Slice(number, ts, event, names, track)
                if event.type == TrackEvent.TYPE_SLICE_BEGIN:
                    open_slices[track].append(current)
                    self.slices.append(current)
                else:
                    self.instants.append(current)
            for flow in event.flow_ids:
                if flow in sources:
                    self.problems.append(f"flow {flow} begins twice")
                sources[flow] = current
            for flow in event.terminating_flow_ids:
                source = sources.pop(flow, None)
                if source is None:
                    self.problems.append(f"flow {flow} ends before it begins")
                else:
                    self.flows.append((source, current))
        self.problems += [f"flow {flow} has no end" for flow in sources]
        self.problems += [f"{len(s)} slices have no end" for s in open_slices.values() if s]

    def thread_of(self, track):
        """(pid, tid, name) of the thread that a track belongs to."""
        while track in self.tracks:
            d = self.tracks[track]
            if d.HasField("thread"):
                return d.thread.pid, d.thread.tid, d.thread.thread_name
            track = d.parent_uuid
        return None

    def of(self, category):
        return [s for s in self.slices if s.category == category]


def against(decoded, sql):
    rows = lambda query: sql.execute(query).fetchall()
    meta = dict(rows("SELECT key, value FROM meta"))
    clocks = {
        BOOTTIME: meta["armed_boottime_ns"],
        MONOTONIC: meta["armed_monotonic_ns"],
        REALTIME: meta["armed_realtime_ns"],
    }
    same("the clocks", decoded.clocks, [clocks])
    same("times are on BOOTTIME", decoded.default_clock, BOOTTIME)
    check("the trace is sound", not decoded.problems, "; ".join(decoded.problems[:5]))
    ahead = meta["armed_boottime_ns"] - meta["armed_monotonic_ns"]
    where = lambda s: (*decoded.thread_of(s.track)[:2], s.ts - ahead, s.ts - ahead + s.dur)

    query = "SELECT tgid, tid, start_ns, end_ns, id, lock, mode, op FROM waits"
    words = lambda s: tuple(s.args[k] for k in ("wait", "lock", "mode", "op"))
    waits = sorted(where(s) + words(s) for s in decoded.of("wait"))
    same("waits", waits, sorted(rows(query)))
    query = "SELECT tgid, tid, start_ns, end_ns, attempts, path, kind, retry_reason FROM faults"
    words = lambda s: tuple(s.args.get(k) for k in ("attempts", "path", "kind", "retry_reason"))
    faults = sorted((where(s) + words(s) for s in decoded.of("fault")), key=str)
    same("faults", faults, sorted(rows(query), key=str))
    names = Counter(s.name for s in decoded.of("fault"))
    plain = all(n.startswith("fault") and "None" not in n for n in names)
    check("names of faults", plain, names)
    address = "SELECT sum(address & 0xfffffff) FROM faults"
    got = sum(s.args["address"] & 0xFFFFFFF for s in decoded.of("fault"))
    same("addresses", got, rows(address)[0][0] or 0)

    if rows("PRAGMA user_version")[0][0] >= 2:
        query = (
            "SELECT waits.id, s.frames, h.frames FROM waits LEFT JOIN stacks AS s ON s.id = stack"
            " LEFT JOIN stacks AS h ON h.id = holder_stack"
        )
        words = lambda s: tuple(s.args.get(k) for k in ("wait", "stack", "holder_stack"))
        same("stacks", sorted(map(words, decoded.of("wait")), key=str), sorted(rows(query), key=str))
        query = "SELECT tgid, tid, attempt_ns, close_ns, id FROM windows"
        windows = sorted((*where(s), s.args["window"]) for s in decoded.of("window"))
        same("windows", windows, sorted(rows(query)))
        conflicts = sum(i.category == "conflict" for i in decoded.instants)
        same("conflicts", conflicts, rows("SELECT count(*) FROM conflicts")[0][0])
        arrows = (
            (wait.args["wait"], *decoded.thread_of(hold.track)[:2]) for hold, wait in decoded.flows
        )
        blamed = rows(
            "SELECT wait, tgid, tid, start_ns, end_ns FROM segments"
            " WHERE kind = 'holder' AND tid > 0 UNION ALL"
            " SELECT id, holder_tgid, holder_tid, start_ns, end_ns FROM waits WHERE holder_tid > 0"
            " AND NOT EXISTS (SELECT 1 FROM segments WHERE wait = waits.id)"
        )
        same("arrows from holders", sorted(arrows), sorted(b[:3] for b in blamed))
        same("holds", sorted(where(s) for s in decoded.of("hold")), together(blamed))
        inside = all(h.ts <= w.ts + w.dur and w.ts <= h.ts + h.dur for h, w in decoded.flows)
        check("a hold meets the waits it is blamed for", inside, "one is apart")
    of_fault = [s for s in decoded.slices if "cut_ns" in s.args]
    check("nothing is cut", not of_fault, f"{len(of_fault)} slices reach out of the one around them")
    threads_and_counters(decoded, rows)


def together(blamed):
    """Parts of waits that overlap, put together for each thread."""
    holds = []
    for tgid, tid, start, end in sorted(b[1:] for b in blamed):
        if holds and holds[-1][:2] == (tgid, tid) and start < holds[-1][3]:
            holds[-1] = (*holds[-1][:3], max(end, holds[-1][3]))
        else:
            holds.append((tgid, tid, start, end))
    return holds


def threads_and_counters(decoded, rows):
    known = {(tgid, tid): comm for tgid, tid, comm in rows("SELECT tgid, tid, comm FROM threads")}
    clean = lambda comm: "".join("?" if not c.isprintable() else c for c in comm)
    threads = [d.thread for d in decoded.tracks.values() if d.HasField("thread")]
    wrong = [
        t.thread_name
        for t in threads
        if t.thread_name != clean(known.get((t.pid, t.tid), t.thread_name))
    ]
    check("names of threads", not wrong, wrong[:5])
    pids = {d.process.pid for d in decoded.tracks.values() if d.HasField("process")}
    check("every thread has a process", {t.pid for t in threads} <= pids, "one has none")
    by_name = {decoded.tracks[t].name: v for t, v in decoded.counters.items()}
    unknown_path = rows("SELECT 1 FROM signals WHERE name = 'fault_path' AND quality = 'unavailable'")
    name = "'faults'" if unknown_path else "'faults ' || path"
    counted = rows(f"SELECT {name} AS n, sum(count) FROM fault_paths GROUP BY n")
    drawn = {name for name in by_name if name.startswith("faults")}
    same("counters of faults", drawn, {name for name, _ in counted})
    for path, count in counted:
        rates = by_name.get(path, [])
        total = sum((b[0] - a[0]) / 1e9 * a[1] for a, b in zip(rates, rates[1:]))
        close = abs(total - count) <= max(1, count * 1e-6)
        check(f"rates of `{path}` add up", close, f"trace {total}, recording {count}")
    for name, values in by_name.items():
        if name.startswith("waiting for") or name == "windows open":
            sound = min(v for _, v in values) >= 0 and values[-1][1] == 0
            check(f"counter `{name}`", sound, values[-3:])
    lost = by_name.get("lost events", [(0, 0)])[-1][1]
    same("losses", lost, rows("SELECT coalesce(sum(count), 0) FROM losses")[0][0])


def queries(decoded, folder):
    """trace_processor's tables, as far as the queries use them."""
    sql = sqlite3.connect(":memory:")
    args = {s.id: s.args for s in decoded.slices}
    extract = lambda of, key: args[of].get(key.removeprefix("debug."))
    sql.create_function("EXTRACT_ARG", 2, extract)
    sql.executescript(
        "CREATE TABLE slice (id, ts, dur, track_id, category, name, arg_set_id);"
        "CREATE TABLE thread_track (id, utid); CREATE TABLE thread (utid, tid, name, upid);"
        "CREATE TABLE process (upid, pid, name); CREATE TABLE flow (slice_out, slice_in);"
    )
    row = lambda s: (s.id, s.ts, s.dur, str(s.track), s.category, s.name, s.id)
    sql.executemany("INSERT INTO slice VALUES (?, ?, ?, ?, ?, ?, ?)", map(row, decoded.slices))
    flows = ((a.id, b.id) for a, b in decoded.flows)
    sql.executemany("INSERT INTO flow VALUES (?, ?)", flows)
    seen = {}
    for track, descriptor in decoded.tracks.items():
        if thread := decoded.thread_of(track):
            utid = seen.setdefault(thread[:2], len(seen) + 1)
            sql.execute("INSERT INTO thread_track VALUES (?, ?)", (str(track), utid))
        if descriptor.HasField("thread"):
            t = descriptor.thread
            sql.execute("INSERT INTO thread VALUES (?, ?, ?, ?)", (utid, t.tid, t.thread_name, t.pid))
        if descriptor.HasField("process"):
            p = descriptor.process
            sql.execute("INSERT INTO process VALUES (?, ?, ?)", (p.pid, p.pid, p.process_name))
    expected = {
        "worst-waits": min(50, len(decoded.of("wait"))),
        "who-blocks-whom": bool(decoded.flows),
        "fault-time-by-path": bool(decoded.of("fault")),
        "retries-by-reason": any(s.args.get("retry_reason") for s in decoded.of("fault")),
        "holds-by-op": bool(decoded.of("hold")),
    }
    files = sorted(pathlib.Path(folder).glob("*.sql"))
    same("queries are all known here", {f.stem for f in files}, set(expected))
    for file in files:
        name = f"query {file.stem}"
        try:
            found = sql.execute(file.read_text()).fetchall()
        except sqlite3.Error as e:
            check(name, False, e)
            continue
        want = expected[file.stem]
        good = len(found) == want if isinstance(want, int) and want > 1 else bool(found) == bool(want)
        check(name, good, f"{len(found)} rows")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    recording, path, folder = sys.argv[1:]
    trace = Trace()
    trace.ParseFromString(pathlib.Path(path).read_bytes())
    check("the official schema knows every field", unknown(trace) == 0, unknown(trace))
    decoded = Decoded(trace)
    against(decoded, sqlite3.connect(f"file:{recording}?immutable=1", uri=True))
    queries(decoded, folder)
    sys.exit(bool(FAILED))


if __name__ == "__main__":
    main()
