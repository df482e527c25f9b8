//! Record batches: bytes as they come from producers and from damaged disks. The second half of
//! the input space gets its CRC and magic repaired, so that the fuzzer reaches the records.
#![no_main]

use broker_wire::record::{
    BATCH_HEADER_LEN, RecordBatch, batches, patch_max_timestamp_log_append, verify_crc,
};
use libfuzzer_sys::fuzz_target;

const DECOMPRESSED_LEN_MAX: usize = 1 << 20;

fn walk(bytes: &[u8]) {
    for (header, batch) in batches(bytes).flatten() {
        assert_eq!(header.total_len(), batch.len());
        let _ = verify_crc(batch);
        if let Ok(opened) = RecordBatch::open(batch, DECOMPRESSED_LEN_MAX) {
            for record in opened.records().flatten() {
                assert!(record.offset >= header.base_offset);
                assert!(record.offset <= header.last_offset());
                let _ = record.headers.count();
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    walk(data);
    let mut repaired = data.to_vec();
    if repaired.len() >= BATCH_HEADER_LEN {
        let batch_length = (repaired.len() - 12) as u32;
        repaired[8..12].copy_from_slice(&batch_length.to_be_bytes());
        repaired[16] = 2;
        patch_max_timestamp_log_append(&mut repaired, 1);
        walk(&repaired);
    }
});
