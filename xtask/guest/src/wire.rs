//! The frames that a guest sends to the host: a kind, a length, the bytes.
//!
//! In: a byte stream (virtio-serial). Out: frames; a stream cut short is an error, never a panic.

use std::io::{self, Read, Write};

/// More than any sender puts into one frame; a larger length means that the stream is garbage.
pub const MAX_LEN: usize = 1 << 20;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The guest is up; the bytes are `uname -r`.
    Hello = b'H',
    /// Standard output of a streaming step.
    Stdout = b'O',
    /// Standard error of a streaming step.
    Stderr = b'E',
    /// A step begins; the bytes are its name.
    Step = b'S',
    /// A file under /out begins; the bytes are its path relative to /out.
    File = b'F',
    /// The next bytes of that file.
    Data = b'D',
    /// The end: a `plan::Report` as JSON.
    Report = b'R',
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [
            Self::Hello,
            Self::Stdout,
            Self::Stderr,
            Self::Step,
            Self::File,
            Self::Data,
            Self::Report,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// Writes the bytes as one frame, or as several of the same kind when they are too many for one.
/// A `Report` and a `File` are never that long.
pub fn send(to: &mut impl Write, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    loop {
        let (now, later) = rest.split_at(rest.len().min(MAX_LEN));
        let len = u32::try_from(now.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(now.len() + 5);
        frame.push(kind as u8);
        frame.extend_from_slice(&len.to_le_bytes());
        frame.extend_from_slice(now);
        to.write_all(&frame)?;
        if later.is_empty() {
            return Ok(());
        }
        rest = later;
    }
}

/// Reads the next frame; `None` at a clean end of the stream.
pub fn receive(from: &mut impl Read) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut head = [0_u8; 5];
    if from.read(head.get_mut(..1).unwrap_or_default())? == 0 {
        return Ok(None);
    }
    let [byte, len @ ..] = &mut head;
    from.read_exact(len)?;
    let kind = Kind::of(*byte)
        .ok_or_else(|| io::Error::other(format!("unknown kind of frame: {byte:#x}")))?;
    let len = usize::try_from(u32::from_le_bytes(*len)).map_err(io::Error::other)?;
    if len > MAX_LEN {
        return Err(io::Error::other(format!("a frame of {len} bytes")));
    }
    let mut bytes = vec![0; len];
    from.read_exact(&mut bytes)?;
    Ok(Some((kind, bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_trip() {
        let big = vec![7; MAX_LEN + 1];
        let mut stream = Vec::new();
        send(&mut stream, Kind::Hello, b"6.12").unwrap();
        send(&mut stream, Kind::Data, b"").unwrap();
        send(&mut stream, Kind::Data, &big).unwrap();
        let mut from = stream.as_slice();
        let mut next = || receive(&mut from).unwrap();
        assert_eq!(next(), Some((Kind::Hello, b"6.12".to_vec())));
        assert_eq!(next(), Some((Kind::Data, Vec::new())));
        assert_eq!(next(), Some((Kind::Data, vec![7; MAX_LEN])));
        assert_eq!(next(), Some((Kind::Data, vec![7])));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_broken_stream_is_an_error() {
        let mut stream = Vec::new();
        send(&mut stream, Kind::File, b"name").unwrap();
        for cut in 1..stream.len() {
            assert!(receive(&mut &stream[..cut]).is_err());
        }
        assert!(receive(&mut b"?\0\0\0\0".as_slice()).is_err());
        assert!(receive(&mut b"H\xff\xff\xff\xff".as_slice()).is_err());
    }
}
