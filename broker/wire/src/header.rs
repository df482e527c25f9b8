//! Request and response headers, and whole frames made of header and message.

use bytes::Bytes;

use crate::api::ApiKey;
use crate::message::{Message, RequestMessage};
use crate::primitive::{DecodeError, Decoder, Encoded, Encoder, Str};

/// Why a request's header cannot be used. The connection it came from is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The bytes are not a header.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The broker does not serve the API.
    #[error("api key {0} is not supported")]
    UnsupportedApi(i16),
}

/// What precedes every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// API of the request.
    pub api: ApiKey,
    /// Version of the API, possibly one that [`ApiKey::supports`] not. The answer to such a
    /// request is [`crate::ErrorCode::UnsupportedVersion`] in version 0 for ApiVersions, and the
    /// end of the connection for others.
    pub api_version: i16,
    /// Chosen by the client, returned in the response.
    pub correlation_id: i32,
    /// What the client calls itself, for logs, metrics and quotas.
    pub client_id: Option<Str>,
}

impl RequestHeader {
    /// Reads the header; the request's body follows in `decoder`.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, HeaderError> {
        let key = decoder.read_i16()?;
        let api_version = decoder.read_i16()?;
        let correlation_id = decoder.read_i32()?;
        let api = ApiKey::from_key(key).ok_or(HeaderError::UnsupportedApi(key))?;
        let client_id = decoder.read_plain_nullable_str()?;
        if api.request_header_version(api_version) >= 2 {
            decoder.read_tagged_fields(|_, _| Ok(false))?;
        }
        Ok(Self {
            api,
            api_version,
            correlation_id,
            client_id,
        })
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.write_i16(self.api.key());
        encoder.write_i16(self.api_version);
        encoder.write_i32(self.correlation_id);
        encoder.write_plain_nullable_str(self.client_id.as_deref());
        if self.api.request_header_version(self.api_version) >= 2 {
            encoder.write_unsigned_varint(0);
        }
    }
}

/// What precedes every response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHeader {
    /// That of the request.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Reads the header of the response to a request of this API and version; the body follows.
    pub fn decode(decoder: &mut Decoder, api: ApiKey, version: i16) -> Result<Self, DecodeError> {
        let correlation_id = decoder.read_i32()?;
        if api.response_header_version(version) >= 1 {
            decoder.read_tagged_fields(|_, _| Ok(false))?;
        }
        Ok(Self { correlation_id })
    }

    fn encode(self, encoder: &mut Encoder, api: ApiKey, version: i16) {
        encoder.write_i32(self.correlation_id);
        if api.response_header_version(version) >= 1 {
            encoder.write_unsigned_varint(0);
        }
    }
}

/// Encodes the frame of a response, length prefix included. `version` is that of the request;
/// the answer to an ApiVersions request of an unknown version is sent in version 0.
pub fn encode_response(
    header: ResponseHeader,
    api: ApiKey,
    version: i16,
    response: &impl Message,
) -> Encoded {
    let mut encoder = Encoder::new();
    header.encode(&mut encoder, api, version);
    response.encode(&mut encoder, version);
    encoder.finish()
}

/// Encodes the frame of a request, length prefix included.
pub fn encode_request<R: RequestMessage>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&Str>,
    request: &R,
) -> Bytes {
    let mut encoder = Encoder::new();
    let header = RequestHeader {
        api: R::API,
        api_version: version,
        correlation_id,
        client_id: client_id.cloned(),
    };
    header.encode(&mut encoder);
    request.encode(&mut encoder, version);
    encoder.finish().bytes
}

/// Decodes the frame of a response, without its length prefix, to a request `R` of this version.
pub fn decode_response<R: RequestMessage>(
    frame: Bytes,
    version: i16,
) -> Result<(ResponseHeader, R::Response), DecodeError> {
    let mut decoder = Decoder::new(frame);
    let header = ResponseHeader::decode(&mut decoder, R::API, version)?;
    Ok((header, R::Response::decode(&mut decoder, version)?))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages;
    use kafka_protocol::protocol::{Decodable, HeaderVersion, StrBytes};

    use super::*;
    use crate::ErrorCode;
    use crate::frame::split_frame;
    use crate::message::{ApiVersionsRequest, ApiVersionsResponse, HeartbeatRequest};

    fn unframed(frame: Bytes) -> Bytes {
        let mut buffer = BytesMut::from(frame);
        let frame = split_frame(&mut buffer, 1000).unwrap().unwrap();
        assert!(buffer.is_empty());
        frame
    }

    #[test]
    fn request_header_is_read_by_ours_and_theirs() {
        for &api in ApiKey::ALL {
            for version in api.versions() {
                let header = RequestHeader {
                    api,
                    api_version: version,
                    correlation_id: 77,
                    client_id: Some("client".into()),
                };
                let mut encoder = Encoder::new();
                header.encode(&mut encoder);
                let frame = unframed(encoder.finish().bytes);
                let mut decoder = Decoder::new(frame.clone());
                assert_eq!(RequestHeader::decode(&mut decoder), Ok(header));
                assert_eq!(decoder.remaining(), 0);

                let key = messages::ApiKey::try_from(api.key()).unwrap();
                let header_version = key.request_header_version(version);
                assert_eq!(
                    header_version,
                    api.request_header_version(version),
                    "{api} {version}"
                );
                assert_eq!(
                    key.response_header_version(version),
                    api.response_header_version(version),
                    "{api} {version}"
                );
                let mut rest = frame;
                let theirs = messages::RequestHeader::decode(&mut rest, header_version).unwrap();
                assert_eq!(
                    (theirs.request_api_key, theirs.request_api_version),
                    (api.key(), version)
                );
                assert_eq!(theirs.client_id, Some(StrBytes::from_static_str("client")));
                assert!(rest.is_empty());
            }
        }
    }

    #[test]
    fn unknown_api_and_torn_headers_are_errors() {
        let frame = [0, 99, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
        let decode =
            |bytes: &[u8]| RequestHeader::decode(&mut Decoder::new(Bytes::copy_from_slice(bytes)));
        assert_eq!(decode(&frame), Err(HeaderError::UnsupportedApi(99)));
        let frame = encode_request(4, 1, Some(&"me".into()), &HeartbeatRequest::default());
        for len in 0..11 {
            assert!(
                matches!(decode(&frame[4..4 + len]), Err(HeaderError::Decode(_))),
                "{len}"
            );
        }
    }

    #[test]
    fn api_versions_beyond_ours_can_be_answered_in_version_0() {
        let request = ApiVersionsRequest::default();
        let frame = unframed(encode_request(9, 5, None, &request));
        let header = RequestHeader::decode(&mut Decoder::new(frame)).unwrap();
        assert!(!header.api.supports(header.api_version));
        let response = ApiVersionsResponse {
            error_code: ErrorCode::UnsupportedVersion,
            ..Default::default()
        };
        let answer = ResponseHeader {
            correlation_id: header.correlation_id,
        };
        let encoded = encode_response(answer, header.api, 0, &response);
        assert_eq!(
            &encoded.bytes[..],
            [0, 0, 0, 10, 0, 0, 0, 5, 0, 35, 0, 0, 0, 0]
        );
        let version = messages::ApiVersionsResponse::header_version(9);
        assert_eq!(version, 0);
        assert_eq!(
            decode_response::<ApiVersionsRequest>(unframed(encoded.bytes), 0),
            Ok((answer, response))
        );
    }
}
