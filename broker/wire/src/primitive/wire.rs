//! How each type of a message's fields is read and written.

use bytes::Bytes;

use super::{DecodeError, Decoder, Encoder, Float64, Records, Str, Uuid};
use crate::error_code::ErrorCode;
#[cfg(test)]
use crate::sampler::Sampler;

/// First allocation for an array in bytes; longer ones grow as their elements are read.
const ARRAY_CAPACITY_MAX: usize = 64 * 1024;

/// Version of an API, and whether its messages have the flexible form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version {
    pub(crate) number: i16,
    pub(crate) flexible: bool,
}

/// A type that a field can have.
pub(crate) trait Wire: Sized + Default {
    /// Bytes that a value takes at least.
    fn len_min(version: Version) -> usize;

    fn read(decoder: &mut Decoder, version: Version) -> Result<Self, DecodeError>;

    fn write(&self, encoder: &mut Encoder, version: Version);

    /// Bytes that a nullable value takes at least.
    fn nullable_len_min(_version: Version) -> usize {
        1
    }

    /// Structs say by a byte whether they are there; the other types have a null length.
    fn read_nullable(decoder: &mut Decoder, version: Version) -> Result<Option<Self>, DecodeError> {
        match decoder.read_i8()? {
            ..0 => Ok(None),
            _ => Self::read(decoder, version).map(Some),
        }
    }

    fn write_nullable(value: Option<&Self>, encoder: &mut Encoder, version: Version) {
        encoder.write_i8(if value.is_some() { 1 } else { -1 });
        if let Some(value) = value {
            value.write(encoder, version);
        }
    }

    /// Reads a value that cannot be null in this version of its field.
    fn read_non_null(decoder: &mut Decoder, version: Version) -> Result<Self, DecodeError> {
        Self::read(decoder, version)
    }

    /// Writes a value that cannot be null in this version of its field: the default instead.
    fn write_non_null(&self, encoder: &mut Encoder, version: Version) {
        self.write(encoder, version);
    }

    /// A value at random, with only the fields that the version has.
    #[cfg(test)]
    fn sample(sampler: &mut Sampler, version: Version) -> Self;

    #[cfg(test)]
    fn sample_non_null(sampler: &mut Sampler, version: Version) -> Self {
        Self::sample(sampler, version)
    }
}

macro_rules! number {
    ($($type:ident: $read:ident, $write:ident;)*) => {$(
        impl Wire for $type {
            fn len_min(_version: Version) -> usize {
                size_of::<Self>()
            }

            fn read(decoder: &mut Decoder, _version: Version) -> Result<Self, DecodeError> {
                decoder.$read()
            }

            fn write(&self, encoder: &mut Encoder, _version: Version) {
                encoder.$write(*self);
            }

            #[cfg(test)]
            fn sample(sampler: &mut Sampler, _version: Version) -> Self {
                sampler.number() as Self
            }
        }
    )*};
}

number! {
    i8: read_i8, write_i8;
    i16: read_i16, write_i16;
    i32: read_i32, write_i32;
    i64: read_i64, write_i64;
}

impl Wire for bool {
    fn len_min(_version: Version) -> usize {
        1
    }

    fn read(decoder: &mut Decoder, _version: Version) -> Result<Self, DecodeError> {
        Ok(decoder.read_i8()? != 0)
    }

    fn write(&self, encoder: &mut Encoder, _version: Version) {
        encoder.write_i8((*self).into());
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler, _version: Version) -> Self {
        sampler.number() & 1 == 0
    }
}

impl Wire for ErrorCode {
    fn len_min(_version: Version) -> usize {
        2
    }

    fn read(decoder: &mut Decoder, _version: Version) -> Result<Self, DecodeError> {
        decoder.read_i16().map(Self::from_code)
    }

    fn write(&self, encoder: &mut Encoder, _version: Version) {
        encoder.write_i16(self.code());
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler, _version: Version) -> Self {
        Self::from_code((sampler.number() % 150) as i16)
    }
}

impl Wire for Float64 {
    fn len_min(_version: Version) -> usize {
        8
    }

    fn read(decoder: &mut Decoder, _version: Version) -> Result<Self, DecodeError> {
        let bits = decoder.read_i64()?.cast_unsigned();
        Ok(Self::from_bits(bits))
    }

    fn write(&self, encoder: &mut Encoder, _version: Version) {
        encoder.write_i64(self.to_bits().cast_signed());
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler, _version: Version) -> Self {
        Self::from(sampler.number() as f64)
    }
}

impl Wire for Uuid {
    fn len_min(_version: Version) -> usize {
        16
    }

    fn read(decoder: &mut Decoder, _version: Version) -> Result<Self, DecodeError> {
        decoder.read_array().map(Self::from_bytes)
    }

    fn write(&self, encoder: &mut Encoder, _version: Version) {
        encoder.write_slice(&self.into_bytes());
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler, _version: Version) -> Self {
        Self::from_u128(sampler.number() as u128)
    }
}

impl Wire for Str {
    fn len_min(version: Version) -> usize {
        if version.flexible { 1 } else { 2 }
    }

    fn nullable_len_min(version: Version) -> usize {
        Self::len_min(version)
    }

    fn read(decoder: &mut Decoder, version: Version) -> Result<Self, DecodeError> {
        Self::read_nullable(decoder, version)?.ok_or(DecodeError::UnexpectedNull)
    }

    fn read_nullable(decoder: &mut Decoder, version: Version) -> Result<Option<Self>, DecodeError> {
        if !version.flexible {
            return decoder.read_plain_nullable_str();
        }
        match decoder.read_compact_len()? {
            Some(len) => decoder.read_str(len).map(Some),
            None => Ok(None),
        }
    }

    fn write(&self, encoder: &mut Encoder, version: Version) {
        Self::write_nullable(Some(self), encoder, version);
    }

    fn write_nullable(value: Option<&Self>, encoder: &mut Encoder, version: Version) {
        if version.flexible {
            encoder.write_compact_nullable_str(value);
        } else {
            encoder.write_plain_nullable_str(value.map(Self::as_str));
        }
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler, _version: Version) -> Self {
        sampler.text().into()
    }
}

fn bytes_len_min(version: Version) -> usize {
    if version.flexible { 1 } else { 4 }
}

fn read_len(decoder: &mut Decoder, version: Version) -> Result<Option<usize>, DecodeError> {
    if version.flexible {
        decoder.read_compact_len()
    } else {
        Decoder::plain_len(decoder.read_i32()?)
    }
}

fn write_len(len: Option<usize>, encoder: &mut Encoder, version: Version) {
    if version.flexible {
        encoder.write_compact_len(len);
    } else {
        encoder.write_plain_len(len);
    }
}

impl Wire for Bytes {
    fn len_min(version: Version) -> usize {
        bytes_len_min(version)
    }

    fn nullable_len_min(version: Version) -> usize {
        bytes_len_min(version)
    }

    fn read(decoder: &mut Decoder, version: Version) -> Result<Self, DecodeError> {
        Self::read_nullable(decoder, version)?.ok_or(DecodeError::UnexpectedNull)
    }

    fn read_nullable(decoder: &mut Decoder, version: Version) -> Result<Option<Self>, DecodeError> {
        match read_len(decoder, version)? {
            Some(len) => decoder.read_bytes(len).map(Some),
            None => Ok(None),
        }
    }

    fn write(&self, encoder: &mut Encoder, version: Version) {
        Self::write_nullable(Some(self), encoder, version);
    }

    fn write_nullable(value: Option<&Self>, encoder: &mut Encoder, version: Version) {
        write_len(value.map(Self::len), encoder, version);
        encoder.write_slice(value.map_or(&[][..], |bytes| bytes));
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler, _version: Version) -> Self {
        sampler.text().into()
    }
}

impl Wire for Records {
    fn len_min(version: Version) -> usize {
        bytes_len_min(version)
    }

    fn read(decoder: &mut Decoder, version: Version) -> Result<Self, DecodeError> {
        Ok(Bytes::read_nullable(decoder, version)?.map_or(Self::None, Self::Bytes))
    }

    fn write(&self, encoder: &mut Encoder, version: Version) {
        let len = (*self != Self::None).then(|| self.len());
        write_len(len, encoder, version);
        encoder.write_records(self);
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler, version: Version) -> Self {
        Option::sample(sampler, version).map_or(Self::None, Self::Bytes)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn len_min(version: Version) -> usize {
        bytes_len_min(version)
    }

    fn nullable_len_min(version: Version) -> usize {
        bytes_len_min(version)
    }

    fn read(decoder: &mut Decoder, version: Version) -> Result<Self, DecodeError> {
        Self::read_nullable(decoder, version)?.ok_or(DecodeError::UnexpectedNull)
    }

    fn read_nullable(decoder: &mut Decoder, version: Version) -> Result<Option<Self>, DecodeError> {
        let Some(count) = read_len(decoder, version)? else {
            return Ok(None);
        };
        decoder.admit_array(count, T::len_min(version), size_of::<T>())?;
        let mut elements = Self::with_capacity(count.min(ARRAY_CAPACITY_MAX / size_of::<T>()));
        for _ in 0..count {
            elements.push(T::read(decoder, version)?);
        }
        Ok(Some(elements))
    }

    fn write(&self, encoder: &mut Encoder, version: Version) {
        Self::write_nullable(Some(self), encoder, version);
    }

    fn write_nullable(value: Option<&Self>, encoder: &mut Encoder, version: Version) {
        write_len(value.map(Self::len), encoder, version);
        for element in value.into_iter().flatten() {
            element.write(encoder, version);
        }
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler, version: Version) -> Self {
        (0..sampler.count())
            .map(|_| T::sample(sampler, version))
            .collect()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn len_min(version: Version) -> usize {
        T::nullable_len_min(version)
    }

    fn read(decoder: &mut Decoder, version: Version) -> Result<Self, DecodeError> {
        T::read_nullable(decoder, version)
    }

    fn write(&self, encoder: &mut Encoder, version: Version) {
        T::write_nullable(self.as_ref(), encoder, version);
    }

    fn read_non_null(decoder: &mut Decoder, version: Version) -> Result<Self, DecodeError> {
        T::read(decoder, version).map(Some)
    }

    fn write_non_null(&self, encoder: &mut Encoder, version: Version) {
        match self {
            Some(value) => value.write(encoder, version),
            None => T::default().write(encoder, version),
        }
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler, version: Version) -> Self {
        (sampler.count() > 0).then(|| T::sample(sampler, version))
    }

    #[cfg(test)]
    fn sample_non_null(sampler: &mut Sampler, version: Version) -> Self {
        Some(T::sample(sampler, version))
    }
}
