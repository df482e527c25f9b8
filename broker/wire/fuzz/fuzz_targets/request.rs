//! Bytes from a client: a whole frame, as the listener hands it on. What decodes must survive
//! being encoded and decoded again.
#![no_main]

use broker_wire::header::RequestHeader;
use broker_wire::{Decoder, Request};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut decoder = Decoder::new(Bytes::copy_from_slice(data));
    let Ok(header) = RequestHeader::decode(&mut decoder) else {
        return;
    };
    if !header.api.supports(header.api_version) {
        return;
    }
    if let Ok(request) = Request::decode(header.api, &mut decoder, header.api_version) {
        let mut encoder = broker_wire::Encoder::new();
        request.encode(&mut encoder, header.api_version);
        let mut decoder = Decoder::new(encoder.finish().bytes.slice(4..));
        let again = Request::decode(header.api, &mut decoder, header.api_version);
        assert_eq!(again.as_ref(), Ok(&request));
        assert_eq!(decoder.remaining(), 0);
    }
});
