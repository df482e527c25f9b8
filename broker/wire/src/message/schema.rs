//! The language that the message files are written in. It reads like Kafka's own message schemas:
//!
//! ```text
//! message! {
//!     flexible 9;
//!
//!     pub struct Example {
//!         always: i32,
//!         since_v3: Option<Str> [3..],
//!         from_v1_to_v7: i64 [1..=7] = -1,
//!         tagged: Vec<Nested> [10.., tag 0],
//!     }
//! }
//! ```
//!
//! The versions are those in which the field is on the wire; in the others it has its default,
//! and is not written. An `Option` is nullable in every version unless its brackets say from which
//! on (`[.., nullable 7..]`): before, `None` is written as the default of the type.

use crate::primitive::Version;

/// When and how a field is on the wire.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) since: i16,
    pub(super) until: i16,
    pub(super) tag: Option<u32>,
    /// First version in which the field can be null, if its type is an `Option`.
    pub(super) nullable_since: i16,
}

impl Field {
    /// Whether the field stands in its place among the others.
    pub(super) const fn is_inline(self, version: Version) -> bool {
        self.tag.is_none() && self.is_in(version)
    }

    /// Number of the field, if it is a tagged one.
    pub(super) const fn tag(self, version: Version) -> Option<u32> {
        if self.is_in(version) { self.tag } else { None }
    }

    pub(super) const fn is_in(self, version: Version) -> bool {
        version.number >= self.since && version.number <= self.until
    }
}

/// The [`Field`] of what stands in brackets behind a field's type.
macro_rules! field {
    (@ $since:expr, $until:expr, $tag:expr, $nullable_since:expr) => {
        const {
            $crate::message::schema::Field {
                since: $since,
                until: $until,
                tag: $tag,
                nullable_since: $nullable_since,
            }
        }
    };
    () => { $crate::message::schema::field!(@ 0, i16::MAX, None, 0) };
    ($since:literal ..) => { $crate::message::schema::field!(@ $since, i16::MAX, None, 0) };
    (..= $until:literal) => { $crate::message::schema::field!(@ 0, $until, None, 0) };
    ($since:literal ..= $until:literal) => {
        $crate::message::schema::field!(@ $since, $until, None, 0)
    };
    ($since:literal .., tag $tag:literal) => {
        $crate::message::schema::field!(@ $since, i16::MAX, Some($tag), 0)
    };
    (.., nullable $nullable:literal ..) => {
        $crate::message::schema::field!(@ 0, i16::MAX, None, $nullable)
    };
    (..= $until:literal, nullable $nullable:literal ..) => {
        $crate::message::schema::field!(@ 0, $until, None, $nullable)
    };
}

macro_rules! default {
    () => {
        Default::default()
    };
    ($value:expr) => {
        $value
    };
}

/// Structs of one message, first the message itself, and how they are read and written.
macro_rules! message {
    (
        flexible $flexible:literal;
        $(
            $(#[$meta:meta])*
            pub struct $name:ident {
                $(
                    $(#[$field_meta:meta])*
                    $field:ident: $type:ty $([$($spec:tt)*])? $(= $default:expr)?,
                )*
            }
        )+
    ) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $crate::message::schema::default!($($default)?),)* }
            }
        }

        impl $crate::primitive::Wire for $name {
            fn len_min(version: $crate::primitive::Version) -> usize {
                let mut len = usize::from(version.flexible);
                $(
                    if $crate::message::schema::field!($($($spec)*)?).is_inline(version) {
                        len += <$type as $crate::primitive::Wire>::len_min(version);
                    }
                )*
                len
            }

            fn read(
                decoder: &mut $crate::primitive::Decoder,
                version: $crate::primitive::Version,
            ) -> Result<Self, $crate::primitive::DecodeError> {
                let mut message = Self::default();
                $(
                    let field = $crate::message::schema::field!($($($spec)*)?);
                    if field.is_inline(version) && version.number < field.nullable_since {
                        message.$field = $crate::primitive::Wire::read_non_null(decoder, version)?;
                    } else if field.is_inline(version) {
                        message.$field = $crate::primitive::Wire::read(decoder, version)?;
                    }
                )*
                if version.flexible {
                    decoder.read_tagged_fields(|_decoder, _tag| {
                        $(
                            let field = $crate::message::schema::field!($($($spec)*)?);
                            if field.tag(version) == Some(_tag) {
                                message.$field = $crate::primitive::Wire::read(_decoder, version)?;
                                return Ok(true);
                            }
                        )*
                        Ok(false)
                    })?;
                }
                Ok(message)
            }

            fn write(
                &self,
                encoder: &mut $crate::primitive::Encoder,
                version: $crate::primitive::Version,
            ) {
                let mut _tagged = 0;
                $(
                    let field = $crate::message::schema::field!($($($spec)*)?);
                    if field.is_inline(version) && version.number < field.nullable_since {
                        self.$field.write_non_null(encoder, version);
                    } else if field.is_inline(version) {
                        self.$field.write(encoder, version);
                    } else if field.tag(version).is_some() {
                        let default: $type = $crate::message::schema::default!($($default)?);
                        _tagged += u32::from(self.$field != default);
                    }
                )*
                if !version.flexible {
                    return;
                }
                encoder.write_unsigned_varint(_tagged);
                $(
                    let field = $crate::message::schema::field!($($($spec)*)?);
                    if let Some(tag) = field.tag(version) {
                        let default: $type = $crate::message::schema::default!($($default)?);
                        if self.$field != default {
                            encoder.write_tagged_field(tag, |encoder| {
                                self.$field.write(encoder, version);
                            });
                        }
                    }
                )*
            }

            #[cfg(test)]
            fn sample(
                sampler: &mut $crate::sampler::Sampler,
                version: $crate::primitive::Version,
            ) -> Self {
                let mut message = Self::default();
                $(
                    let field = $crate::message::schema::field!($($($spec)*)?);
                    if field.is_in(version) && version.number < field.nullable_since {
                        message.$field = $crate::primitive::Wire::sample_non_null(sampler, version);
                    } else if field.is_in(version) {
                        message.$field = $crate::primitive::Wire::sample(sampler, version);
                    }
                )*
                message
            }
        }

        impl $crate::message::Message for $name {
            fn decode(
                decoder: &mut $crate::primitive::Decoder,
                version: i16,
            ) -> Result<Self, $crate::primitive::DecodeError> {
                let version = $crate::primitive::Version {
                    number: version,
                    flexible: version >= $flexible,
                };
                $crate::primitive::Wire::read(decoder, version)
            }

            fn encode(&self, encoder: &mut $crate::primitive::Encoder, version: i16) {
                let version = $crate::primitive::Version {
                    number: version,
                    flexible: version >= $flexible,
                };
                $crate::primitive::Wire::write(self, encoder, version);
            }
        }
    )+};
}

pub(super) use {default, field, message};
