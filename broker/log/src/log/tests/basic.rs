use super::*;
use crate::fs::RealFs;
use crate::fs::memory::MemoryFs;

fn memory_log(config: LogConfig) -> (Arc<dyn Fs>, Log) {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new(1));
    fs.create_dir(dir().parent().unwrap()).unwrap();
    let (log, _) = open_with(&fs, config, FRESH).unwrap();
    (fs, log)
}

#[test]
fn appended_batches_get_dense_offsets_and_come_back_byte_for_byte() {
    let (_, mut log) = memory_log(small());
    let mut written = Vec::new();
    for i in 0..20 {
        let mut records = batch(3, 20, i, i64::from(i));
        let info = log.append_as_leader(&mut records, EPOCH, NOW).unwrap();
        assert_eq!(info.first_offset, Offset(3 * i64::from(i)));
        assert_eq!(info.end_offset, log.end_offset());
        written.push(records);
    }
    assert!(
        log.segment_count() > 3,
        "600 bytes for each segment were to be exceeded"
    );
    assert_eq!(read_all(&log, Offset(0)), written);
    assert_eq!(read_all(&log, Offset(31)), written[10..]);
}

#[test]
fn a_log_on_the_real_file_system_reopens_after_close_without_a_scan() {
    let temp = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let open = |options| {
        let path = temp.path().join("events-0");
        Log::open(
            fs.clone(),
            path,
            small(),
            options,
            &RecoveryProgress::default(),
        )
        .unwrap()
    };
    let (mut log, _) = open(FRESH);
    let mut written = Vec::new();
    for i in 0..20 {
        let mut records = batch(2, 30, i, i64::from(i));
        log.append_as_leader(&mut records, EPOCH, NOW).unwrap();
        written.push(records);
    }
    let recovery_point = log.close().unwrap();
    let (log, report) = open(OpenOptions {
        clean_shutdown: true,
        recovery_point,
        log_start: Offset(0),
    });
    assert_eq!(report.bytes_scanned, 0);
    assert_eq!(read_all(&log, Offset(0)), written);
    let (log, report) = open(FRESH);
    assert_eq!(report.bytes_scanned, log.size_bytes());
    assert_eq!(read_all(&log, Offset(0)), written);
}
