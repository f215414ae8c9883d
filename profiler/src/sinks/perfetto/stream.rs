//! A trace as it is written, packet by packet: names are sent once and then known by number, tracks
//! are described before their first event. In: events on the monotonic clock. Out: a file on
//! BOOTTIME, the clock of system traces.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
};

use prost::Message as _;

use super::proto::{
    BuiltinClock, Clock, ClockSnapshot, CounterDescriptor, DebugAnnotation, EventType, Interned,
    InternedData, ProcessDescriptor, SEQ_INCREMENTAL_STATE_CLEARED, SEQ_NEEDS_INCREMENTAL_STATE,
    ThreadDescriptor, TracePacket, TracePacketDefaults, TrackDescriptor, TrackEvent,
};
use crate::model::Session;

/// "vmas": no other writer's sequence, should the file be joined to a system trace.
const SEQUENCE: u32 = u32::from_be_bytes(*b"vmas");

/// An argument of an event, as the details of a slice show it.
pub enum Arg {
    U64(u64),
    I64(i64),
    Bool(bool),
    Text(String),
    Address(u64),
}

impl From<u64> for Arg {
    fn from(value: u64) -> Self {
        Self::U64(value)
    }
}

impl From<u32> for Arg {
    fn from(value: u32) -> Self {
        Self::U64(value.into())
    }
}

impl From<i32> for Arg {
    fn from(value: i32) -> Self {
        Self::I64(value.into())
    }
}

impl From<bool> for Arg {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Arg {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

/// Arguments in their order; what is not known is left out.
#[derive(Default)]
pub struct Args(Vec<(&'static str, Arg)>);

impl Args {
    pub fn put(&mut self, name: &'static str, value: impl Into<Arg>) {
        self.0.push((name, value.into()));
    }

    pub fn put_known(&mut self, name: &'static str, value: Option<impl Into<Arg>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    pub fn address(&mut self, name: &'static str, value: u64) {
        self.0.push((name, Arg::Address(value)));
    }
}

/// What is said of a slice or an instant.
#[derive(Default)]
pub struct What {
    pub category: &'static str,
    pub name: String,
    pub args: Args,
    pub flows: Vec<u64>,
}

pub struct Stream<W> {
    out: W,
    packet: Vec<u8>,
    categories: HashMap<&'static str, u64>,
    names: HashMap<String, u64>,
    arg_names: HashMap<&'static str, u64>,
    tracks: HashSet<u64>,
    /// Of BOOTTIME before the monotonic clock, when the probes were armed.
    ahead_ns: u64,
}

impl<W: Write> Stream<W> {
    pub fn new(out: W, session: &Session) -> io::Result<Self> {
        let mut stream = Self {
            out,
            packet: Vec::new(),
            categories: HashMap::new(),
            names: HashMap::new(),
            arg_names: HashMap::new(),
            tracks: HashSet::new(),
            ahead_ns: session
                .armed_boottime_ns
                .wrapping_sub(session.armed_monotonic_ns),
        };
        let clock = |clock: BuiltinClock, timestamp| Clock {
            clock_id: clock as u32,
            timestamp,
        };
        stream.packet(TracePacket {
            timestamp: Some(session.armed_boottime_ns),
            sequence_flags: Some(SEQ_INCREMENTAL_STATE_CLEARED),
            first_packet_on_sequence: Some(true),
            trace_packet_defaults: Some(TracePacketDefaults {
                timestamp_clock_id: BuiltinClock::Boottime as u32,
            }),
            clock_snapshot: Some(ClockSnapshot {
                clocks: vec![
                    clock(BuiltinClock::Boottime, session.armed_boottime_ns),
                    clock(BuiltinClock::Monotonic, session.armed_monotonic_ns),
                    clock(BuiltinClock::Realtime, session.armed_realtime_ns),
                ],
                primary_trace_clock: Some(BuiltinClock::Boottime as i32),
            }),
            ..TracePacket::default()
        })?;
        Ok(stream)
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Describes a track, the first time it is asked for.
    fn track(&mut self, descriptor: TrackDescriptor) -> io::Result<u64> {
        let uuid = descriptor.uuid;
        if self.tracks.insert(uuid) {
            self.packet(TracePacket {
                track_descriptor: Some(descriptor),
                ..TracePacket::default()
            })?;
        }
        Ok(uuid)
    }

    pub fn process(&mut self, tgid: u32, name: &str) -> io::Result<u64> {
        self.track(TrackDescriptor {
            uuid: uuid(&[1, tgid.into()]),
            process: Some(ProcessDescriptor {
                pid: tgid.cast_signed(),
                process_name: name.to_owned(),
            }),
            ..TrackDescriptor::default()
        })
    }

    pub fn thread(&mut self, process: u64, tgid: u32, tid: u32, name: &str) -> io::Result<u64> {
        self.track(TrackDescriptor {
            uuid: uuid(&[2, tgid.into(), tid.into()]),
            parent_uuid: Some(process),
            thread: Some(ThreadDescriptor {
                pid: tgid.cast_signed(),
                tid: tid.into(),
                thread_name: name.to_owned(),
            }),
            ..TrackDescriptor::default()
        })
    }

    /// A track below another one; `parent` 0: below none. Tracks of one parent are told apart by
    /// `number`.
    pub fn child(
        &mut self,
        parent: u64,
        number: u64,
        name: &str,
        description: Option<&str>,
    ) -> io::Result<u64> {
        self.track(TrackDescriptor {
            uuid: uuid(&[3, parent, number]),
            parent_uuid: Some(parent).filter(|p| *p != 0),
            name: Some(name.to_owned()),
            description: description.map(str::to_owned),
            ..TrackDescriptor::default()
        })
    }

    pub fn counter(&mut self, parent: u64, number: u64, name: &str, unit: &str) -> io::Result<u64> {
        self.track(TrackDescriptor {
            uuid: uuid(&[4, parent, number]),
            parent_uuid: Some(parent),
            name: Some(name.to_owned()),
            counter: Some(CounterDescriptor {
                unit_name: Some(unit.to_owned()),
            }),
            ..TrackDescriptor::default()
        })
    }

    pub fn begin(&mut self, track: u64, at_ns: u64, what: What) -> io::Result<()> {
        self.named(EventType::SliceBegin, track, at_ns, what)
    }

    /// `ends`: the flows that lead here. Said at the end of a slice, which is never before the
    /// beginning of what they come from, as its own beginning may be.
    pub fn end(&mut self, track: u64, at_ns: u64, ends: Vec<u64>) -> io::Result<()> {
        self.event(
            at_ns,
            TrackEvent {
                r#type: Some(EventType::SliceEnd as i32),
                track_uuid: Some(track),
                terminating_flow_ids: ends,
                ..TrackEvent::default()
            },
            None,
        )
    }

    pub fn instant(&mut self, track: u64, at_ns: u64, what: What) -> io::Result<()> {
        self.named(EventType::Instant, track, at_ns, what)
    }

    pub fn count(&mut self, track: u64, at_ns: u64, value: i64) -> io::Result<()> {
        self.event(
            at_ns,
            TrackEvent {
                r#type: Some(EventType::Counter as i32),
                track_uuid: Some(track),
                counter_value: Some(value),
                ..TrackEvent::default()
            },
            None,
        )
    }

    pub fn rate(&mut self, track: u64, at_ns: u64, value: f64) -> io::Result<()> {
        self.event(
            at_ns,
            TrackEvent {
                r#type: Some(EventType::Counter as i32),
                track_uuid: Some(track),
                double_counter_value: Some(value),
                ..TrackEvent::default()
            },
            None,
        )
    }

    fn named(&mut self, ty: EventType, track: u64, at_ns: u64, what: What) -> io::Result<()> {
        let mut new = InternedData::default();
        let categories = &mut self.categories;
        let category = intern(categories, what.category, &mut new.event_categories);
        let name = intern(&mut self.names, what.name, &mut new.event_names);
        let mut annotation = |(name, value): (&'static str, Arg)| {
            let arg_names = &mut self.arg_names;
            let name = intern(arg_names, name, &mut new.debug_annotation_names);
            annotation(name, value)
        };
        let debug_annotations = what.args.0.into_iter().map(&mut annotation).collect();
        let event = TrackEvent {
            r#type: Some(ty as i32),
            track_uuid: Some(track),
            category_iids: vec![category],
            name_iid: Some(name),
            debug_annotations,
            flow_ids: what.flows,
            ..TrackEvent::default()
        };
        let any = new != InternedData::default();
        self.event(at_ns, event, any.then_some(new))
    }

    fn event(
        &mut self,
        at_ns: u64,
        event: TrackEvent,
        new: Option<InternedData>,
    ) -> io::Result<()> {
        self.packet(TracePacket {
            timestamp: Some(at_ns.wrapping_add(self.ahead_ns)),
            sequence_flags: Some(SEQ_NEEDS_INCREMENTAL_STATE),
            interned_data: new,
            track_event: Some(event),
            ..TracePacket::default()
        })
    }

    fn packet(&mut self, mut packet: TracePacket) -> io::Result<()> {
        packet.trusted_packet_sequence_id = SEQUENCE;
        self.packet.clear();
        // Field 1 of `Trace`, with a length. A vector takes whatever it is given.
        self.packet.push(1 << 3 | 2);
        packet
            .encode_length_delimited(&mut self.packet)
            .map_err(io::Error::other)?;
        self.out.write_all(&self.packet)
    }
}

fn intern<K: std::hash::Hash + Eq + AsRef<str>>(
    known: &mut HashMap<K, u64>,
    name: K,
    new: &mut Vec<Interned>,
) -> u64 {
    if let Some(iid) = known.get(&name) {
        return *iid;
    }
    let iid = known.len() as u64 + 1;
    new.push(Interned {
        iid,
        name: name.as_ref().to_owned(),
    });
    known.insert(name, iid);
    iid
}

fn annotation(name_iid: u64, value: Arg) -> DebugAnnotation {
    let mut out = DebugAnnotation {
        name_iid,
        ..DebugAnnotation::default()
    };
    match value {
        Arg::U64(value) => out.uint_value = Some(value),
        Arg::I64(value) => out.int_value = Some(value),
        Arg::Bool(value) => out.bool_value = Some(value),
        Arg::Text(value) => out.string_value = Some(value),
        Arg::Address(value) => out.pointer_value = Some(value),
    }
    out
}

/// The same for the same parts, and in practice for no others: ids of tracks and flows are one
/// space over all that a trace is joined from.
pub fn uuid(parts: &[u64]) -> u64 {
    let start = 0x766d_6173_636f_7065; // "vmascope"
    parts.iter().fold(start, |sum, part| {
        // splitmix64's finalizer
        let mut x = (sum ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    })
}
