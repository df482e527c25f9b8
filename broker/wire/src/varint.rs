//! Variable-length integers: seven bits a byte, least significant group first; signed values are
//! zigzag-encoded. A value that does not fit its type is refused, not wrapped.

use bytes::BufMut;

/// Bytes of the longest unsigned 32-bit varint.
const U32_LEN_MAX: usize = 5;
/// Bytes of the longest unsigned 64-bit varint.
const U64_LEN_MAX: usize = 10;

/// Reads an unsigned varint off the front of `input`; `None` if it is torn or does not fit.
pub fn read_u32(input: &mut &[u8]) -> Option<u32> {
    let (value, rest) = read_groups(input, U32_LEN_MAX)?;
    let value = u32::try_from(value).ok()?;
    *input = rest;
    Some(value)
}

/// Reads a zigzag-encoded 32-bit varint off the front of `input`.
pub fn read_i32(input: &mut &[u8]) -> Option<i32> {
    let raw = read_u32(input)?;
    Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

/// Reads a zigzag-encoded 64-bit varint off the front of `input`.
pub fn read_i64(input: &mut &[u8]) -> Option<i64> {
    let (raw, rest) = read_groups(input, U64_LEN_MAX)?;
    *input = rest;
    Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

fn read_groups(input: &[u8], len_max: usize) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, &byte) in input.iter().take(len_max).enumerate() {
        let group = u64::from(byte & 0x7f);
        let shift = 7 * index;
        if (group << shift) >> shift != group {
            return None;
        }
        value |= group << shift;
        if byte & 0x80 == 0 {
            return Some((value, &input[index + 1..]));
        }
    }
    None
}

/// Appends an unsigned varint.
pub fn write_u32(out: &mut impl BufMut, value: u32) {
    write_u64(out, u64::from(value));
}

/// Appends a zigzag-encoded 32-bit varint.
pub fn write_i32(out: &mut impl BufMut, value: i32) {
    write_u32(out, ((value << 1) ^ (value >> 31)).cast_unsigned());
}

/// Appends a zigzag-encoded 64-bit varint.
pub fn write_i64(out: &mut impl BufMut, value: i64) {
    write_u64(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn write_u64(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(unsigned: u32, int: i32, long: i64) {
            let mut out = Vec::new();
            write_u32(&mut out, unsigned);
            write_i32(&mut out, int);
            write_i64(&mut out, long);
            let mut input = &out[..];
            prop_assert_eq!(read_u32(&mut input), Some(unsigned));
            prop_assert_eq!(read_i32(&mut input), Some(int));
            prop_assert_eq!(read_i64(&mut input), Some(long));
            prop_assert!(input.is_empty());
        }
    }

    #[test]
    fn torn_and_oversized_values_are_refused() {
        assert_eq!(read_u32(&mut &[0x80, 0x80][..]), None);
        assert_eq!(
            read_u32(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]),
            Some(u32::MAX)
        );
        assert_eq!(read_u32(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), None);
        assert_eq!(
            read_u32(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..]),
            None
        );
        assert_eq!(read_i64(&mut &[0xff; 11][..]), None);
    }
}
