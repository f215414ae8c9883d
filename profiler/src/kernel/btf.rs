//! A reader of BTF, the kernel's own description of its types: member offsets, enumerators and
//! prototypes. In: the bytes of `/sys/kernel/btf/vmlinux` or of a file; they are untrusted, every
//! read is bounds-checked. Format: Documentation/bpf/btf.rst.

use std::{ops::Range, path::Path};

use thiserror::Error;

#[derive(Debug, Error)]
pub enum BtfError {
    #[error("cannot read {path}: {source}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error("not BTF: {0}")]
    Malformed(&'static str),
}

mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
const TYPE_HEADER: usize = 12;
const BUCKETS: usize = 1 << 16;
/// Typedefs and anonymous members nest a few levels in real kernels; a loop in a broken file ends here.
const MAX_DEPTH: usize = 32;
/// Anonymous structs and unions that are searched for one member: a kernel's largest struct has a
/// few tens, and two that contain each other twice would be searched 2^[`MAX_DEPTH`] times.
const MAX_ANONYMOUS: u32 = 1024;
/// The kernel's `KSYM_NAME_LEN`: many types that share one name of megabytes cost nothing more.
const MAX_NAME: usize = 512;

/// A type's fixed part.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    vlen: usize,
    flag: bool,
    /// Size, or the type referred to.
    size_or_type: u32,
    /// Where the kind's own data begins.
    body: usize,
}

pub struct Btf {
    bytes: Vec<u8>,
    types: Range<usize>,
    strings: Range<usize>,
    /// Where each type begins in `bytes`; id 0 is void.
    offsets: Vec<u32>,
    /// Named structs, unions, enums, functions and typedefs, by the hash of kind and name: the last
    /// id with that hash, and for each id the one before it; 0 ends the chain. The names stay in
    /// `bytes`: a kernel has a hundred thousand of them.
    last: Vec<u32>,
    before: Vec<u32>,
}

impl Btf {
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let bytes = std::fs::read(path).map_err(|source| BtfError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(bytes)
    }

    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let word = |at| u32_at(&bytes, at).ok_or(BtfError::Malformed("header cut short"));
        let magic = bytes.get(..2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        if magic != Some(MAGIC) {
            return Err(BtfError::Malformed(
                "no BTF magic (is it a little-endian BTF file?)",
            ));
        }
        let header = word(4)? as usize;
        let section = |offset: u32, len: u32| {
            let start = header.checked_add(offset as usize)?;
            let range = start..start.checked_add(len as usize)?;
            bytes.get(range.clone()).map(|_| range)
        };
        let types = section(word(8)?, word(12)?).ok_or(BtfError::Malformed("types cut short"))?;
        let strings =
            section(word(16)?, word(20)?).ok_or(BtfError::Malformed("strings cut short"))?;
        let mut btf = Self {
            bytes,
            types,
            strings,
            offsets: vec![0],
            last: vec![0; BUCKETS],
            before: vec![0],
        };
        btf.index()?;
        Ok(btf)
    }

    fn index(&mut self) -> Result<(), BtfError> {
        let mut at = self.types.start;
        while at < self.types.end {
            let t = self
                .type_at(at)
                .ok_or(BtfError::Malformed("a type is cut short"))?;
            let body = match t.kind {
                kind::INT | kind::VAR | kind::DECL_TAG => 4,
                kind::ARRAY => 12,
                kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * t.vlen,
                kind::ENUM | kind::FUNC_PROTO => 8 * t.vlen,
                0..=kind::ENUM64 => 0,
                _ => return Err(BtfError::Malformed("a kind of type newer than this reader")),
            };
            let id = self.offsets.len() as u32;
            self.offsets.push(at as u32);
            if matches!(
                t.kind,
                kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::FUNC | kind::TYPEDEF
            ) && t.name != 0
            {
                let hash = hash_of(group_of(t.kind), self.string(t.name));
                self.before
                    .push(std::mem::replace(&mut self.last[hash], id));
            } else {
                self.before.push(0);
            }
            at = t.body + body;
        }
        Ok(())
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let types = self.bytes.get(..self.types.end)?;
        let info = u32_at(types, at + 4)?;
        Some(Type {
            name: u32_at(types, at)?,
            kind: (info >> 24) & 0x1f,
            vlen: (info & 0xffff) as usize,
            flag: info >> 31 != 0,
            size_or_type: u32_at(types, at + 8)?,
            body: at + TYPE_HEADER,
        })
    }

    fn by_id(&self, id: u32) -> Option<Type> {
        if id == 0 {
            return None;
        }
        self.type_at(*self.offsets.get(id as usize)? as usize)
    }

    fn string(&self, at: u32) -> &[u8] {
        let strings = self.bytes.get(self.strings.clone()).unwrap_or_default();
        let tail = strings.get(at as usize..).unwrap_or_default();
        let tail = tail.get(..MAX_NAME).unwrap_or(tail);
        tail.split(|b| *b == 0).next().unwrap_or_default()
    }

    fn find(&self, group: u32, name: &str) -> Option<Type> {
        self.by_id(self.find_id(group, name)?)
    }

    fn find_id(&self, group: u32, name: &str) -> Option<u32> {
        let is = |t: Type| group_of(t.kind) == group && self.string(t.name) == name.as_bytes();
        let last = self.last[hash_of(group, name.as_bytes())];
        let before = |id: &u32| self.before.get(*id as usize).copied();
        std::iter::successors(Some(last), before)
            .take_while(|id| *id != 0)
            // Of several the first one.
            .filter(|id| self.by_id(*id).is_some_and(is))
            .last()
    }

    /// BTF in which these functions and tracepoints have the ids they have here, and nothing else
    /// is told: whoever only looks ids up need not read all of a kernel's types.
    pub fn only<'a>(
        &self,
        functions: impl Iterator<Item = &'a str>,
        tracepoints: impl Iterator<Item = &'a str>,
    ) -> Vec<u8> {
        let functions = functions.map(|f| (kind::FUNC, f.to_owned()));
        let tracepoints = tracepoints.map(|t| (kind::TYPEDEF, typedef_of(t)));
        let mut hooks: Vec<(u32, u32, String)> = functions
            .chain(tracepoints)
            .filter_map(|(kind, name)| Some((self.find_id(kind, &name)?, kind, name)))
            .collect();
        hooks.sort_unstable();
        hooks.dedup();
        let last = hooks.last().map_or(0, |(id, ..)| *id as usize);
        let (mut types, mut strings) = (Vec::with_capacity(last * TYPE_HEADER), vec![0]);
        let mut push = |name: usize, kind: u32| {
            for word in [name as u32, kind << 24, 0] {
                types.extend_from_slice(&word.to_le_bytes());
            }
        };
        let mut next = 1;
        for (id, kind, name) in hooks {
            // `void *` stands for all that is left out.
            (next..id).for_each(|_| push(0, kind::PTR));
            push(strings.len(), kind);
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
            next = id + 1;
        }
        let mut bytes = Vec::with_capacity(HEADER + types.len() + strings.len());
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        // Version 1, no flags.
        bytes.extend_from_slice(&[1, 0]);
        for word in [HEADER, 0, types.len(), types.len(), strings.len()] {
            bytes.extend_from_slice(&(word as u32).to_le_bytes());
        }
        bytes.append(&mut types);
        bytes.append(&mut strings);
        bytes
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, id: u32) -> Option<Type> {
        let mut t = self.by_id(id)?;
        for _ in 0..MAX_DEPTH {
            match t.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    t = self.by_id(t.size_or_type)?;
                }
                _ => return Some(t),
            }
        }
        None
    }

    /// Byte offset of `"struct.member[.member]"`. `None` where a part is missing, or a bit-field.
    pub fn offset(&self, path: &str) -> Option<u32> {
        let mut parts = path.split('.');
        let name = parts.next()?;
        let mut t = self
            .find(kind::STRUCT, name)
            .or_else(|| self.find(kind::UNION, name))?;
        let mut bits = 0_u32;
        for part in parts {
            let (offset, id) = self.member(t, part.as_bytes())?;
            bits = bits.checked_add(offset)?;
            t = self.resolve(id)?;
        }
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// Bit offset and type of a member, looked for inside anonymous members too.
    fn member(&self, t: Type, name: &[u8]) -> Option<(u32, u32)> {
        self.member_within(t, name, 0, &mut 0)
    }

    fn member_within(
        &self,
        t: Type,
        name: &[u8],
        depth: usize,
        searched: &mut u32,
    ) -> Option<(u32, u32)> {
        *searched += 1;
        if depth > MAX_DEPTH
            || *searched > MAX_ANONYMOUS
            || !matches!(t.kind, kind::STRUCT | kind::UNION)
        {
            return None;
        }
        (0..t.vlen).find_map(|i| {
            let at = t.body + 12 * i;
            let (member, id) = (u32_at(&self.bytes, at)?, u32_at(&self.bytes, at + 4)?);
            let raw = u32_at(&self.bytes, at + 8)?;
            // With the flag, the top byte is a bit-field's width.
            let bits = if t.flag { raw & 0x00ff_ffff } else { raw };
            if member == 0 {
                let within = self.resolve(id)?;
                let (inner, id) = self.member_within(within, name, depth + 1, searched)?;
                return Some((bits.checked_add(inner)?, id));
            }
            (self.string(member) == name).then_some((bits, id))
        })
    }

    /// The value of an enumerator, its low 32 bits.
    pub fn enumerator(&self, name: &str, enumerator: &str) -> Option<u32> {
        let t = self.find(kind::ENUM, name)?;
        let step = if t.kind == kind::ENUM64 { 12 } else { 8 };
        (0..t.vlen).find_map(|i| {
            let at = t.body + step * i;
            (self.string(u32_at(&self.bytes, at)?) == enumerator.as_bytes())
                .then(|| u32_at(&self.bytes, at + 4))?
        })
    }

    /// How many parameters a kernel function has; `None` if there is no such function.
    pub fn params(&self, function: &str) -> Option<usize> {
        let t = self.find(kind::FUNC, function)?;
        Some(self.by_id(t.size_or_type)?.vlen)
    }

    /// How many arguments a tracepoint passes; `None` if there is no such tracepoint.
    pub fn tracepoint_args(&self, tracepoint: &str) -> Option<usize> {
        // typedef void (*btf_trace_NAME)(void *data, ...): the first parameter is not an argument.
        let t = self.find(kind::TYPEDEF, &typedef_of(tracepoint))?;
        let pointer = self.by_id(t.size_or_type)?;
        if pointer.kind != kind::PTR {
            return None;
        }
        self.resolve(pointer.size_or_type)?.vlen.checked_sub(1)
    }

    /// The name of a member's struct type behind typedefs, e.g. `seqcount`.
    pub fn member_type(&self, path: &str) -> Option<String> {
        let (owner, member) = path.rsplit_once('.')?;
        let t = self.find(kind::STRUCT, owner)?;
        let (_, id) = self.member(t, member.as_bytes())?;
        let t = self.resolve(id)?;
        Some(String::from_utf8_lossy(self.string(t.name)).into_owned())
    }
}

fn typedef_of(tracepoint: &str) -> String {
    format!("btf_trace_{tracepoint}")
}

/// Both widths of enum are found alike.
fn group_of(kind: u32) -> u32 {
    if kind == kind::ENUM64 {
        kind::ENUM
    } else {
        kind
    }
}

/// FNV-1a: a start of the profiler hashes a hundred thousand names.
fn hash_of(group: u32, name: &[u8]) -> usize {
    let mix = |hash: u32, byte: u32| (hash ^ byte).wrapping_mul(0x0100_0193);
    let hash = name.iter().fold(mix(0x811c_9dc5, group), |hash, byte| {
        mix(hash, u32::from(*byte))
    });
    (hash >> 16) as usize ^ (hash as usize % BUCKETS)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let b = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Option<Btf> {
        // Absent on a kernel without BTF; the lab reads eight kernels' own.
        Btf::read(Path::new("/sys/kernel/btf/vmlinux")).ok()
    }

    #[test]
    fn members_enumerators_and_prototypes_of_the_running_kernel() {
        let Some(btf) = host() else {
            eprintln!("skipped: this kernel has no BTF");
            return;
        };
        assert_eq!(btf.offset("vm_area_struct.vm_start"), Some(0));
        assert_eq!(btf.offset("vm_area_struct.vm_mm"), Some(16));
        assert!(
            btf.offset("mm_struct.mmap_lock").is_some(),
            "inside an anonymous struct"
        );
        assert_eq!(btf.offset("vm_area_struct.no_such_member"), None);
        assert_eq!(btf.enumerator("fault_flag", "FAULT_FLAG_TRIED"), Some(0x20));
        assert_eq!(
            btf.enumerator("vm_fault_reason", "VM_FAULT_RETRY"),
            Some(0x400)
        );
        assert_eq!(btf.params("handle_mm_fault"), Some(4));
        assert_eq!(btf.tracepoint_args("sched_switch"), Some(4));
        assert_eq!(btf.tracepoint_args("no_such_tracepoint"), None);
    }

    #[test]
    fn what_is_left_of_it_has_the_ids_of_the_whole() {
        let Some(btf) = host() else {
            eprintln!("skipped: this kernel has no BTF");
            return;
        };
        let functions = ["io_schedule", "handle_mm_fault", "no_such_function"];
        let tracepoints = ["sched_switch", "sched_switch"];
        let some = btf.only(functions.into_iter(), tracepoints.into_iter());
        let some = Btf::parse(some).unwrap();
        for (group, name) in [
            (kind::FUNC, "io_schedule"),
            (kind::FUNC, "handle_mm_fault"),
            (kind::FUNC, "no_such_function"),
            (kind::FUNC, "do_exit"),
            (kind::TYPEDEF, "btf_trace_sched_switch"),
        ] {
            let whole = btf.find_id(group, name).filter(|_| name != "do_exit");
            assert_eq!(some.find_id(group, name), whole, "{name}");
        }
        assert!(Btf::parse(btf.only([].into_iter(), [].into_iter())).is_ok());
    }

    #[test]
    fn broken_input_is_an_error_not_a_panic() {
        assert!(Btf::parse(Vec::new()).is_err());
        assert!(Btf::parse(b"\x9f\xeb\x01\x00".to_vec()).is_err());
        assert!(Btf::parse(vec![0xff; 4096]).is_err());
        if let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") {
            for cut in [8, 24, 25, 100, bytes.len() / 2, bytes.len() - 1] {
                let _ = Btf::parse(bytes[..cut].to_vec());
            }
            let mut bad = bytes[..200_000.min(bytes.len())].to_vec();
            bad[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
            assert!(Btf::parse(bad).is_err());
        }
    }
}
