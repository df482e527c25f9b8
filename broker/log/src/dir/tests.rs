use std::sync::atomic::Ordering;

use broker_core::Offset;

use super::*;
use crate::checkpoint::read_text;
use crate::config::LogConfig;
use crate::fs::RealFs;
use crate::fs::memory::MemoryFs;
use crate::log::{OpenOptions, RecoveryProgress};

fn open(fs: &Arc<dyn Fs>, cluster: &str, node: i32) -> Result<LogDir, LogDirError> {
    LogDir::open(fs.clone(), Path::new("/data"), cluster, node, "dir-a")
}

fn memory() -> Arc<dyn Fs> {
    Arc::new(MemoryFs::new(1))
}

#[test]
fn a_directory_stays_with_its_cluster_and_node() {
    let fs = memory();
    drop(open(&fs, "c1", 1).unwrap());
    let again = LogDir::open(fs.clone(), Path::new("/data"), "c1", 1, "dir-b").unwrap();
    assert_eq!(again.meta().directory_id, "dir-a", "an id once given stays");
    drop(again);
    let refused = open(&fs, "c2", 1).err().unwrap();
    assert!(matches!(
        refused,
        LogDirError::Foreign {
            field: "cluster.id",
            ..
        }
    ));
    let refused = open(&fs, "c1", 2).err().unwrap();
    assert!(
        refused.to_string().contains("has node.id 1, expected 2"),
        "{refused}"
    );
}

#[test]
fn a_new_data_directory_survives_a_power_failure() {
    for seed in 0..20 {
        let memory = MemoryFs::new(seed);
        let fs: Arc<dyn Fs> = Arc::new(memory.clone());
        let path = Path::new("/var/lib/data");
        drop(LogDir::open(fs.clone(), path, "c", 1, "first").unwrap());
        memory.crash();
        let again = LogDir::open(fs, path, "c", 1, "second").unwrap();
        assert_eq!(again.meta().directory_id, "first", "seed {seed}");
    }
}

#[test]
fn a_directory_serves_one_process_at_a_time() {
    let temp = tempfile::tempdir().unwrap();
    for fs in [memory(), Arc::new(RealFs)] {
        let open = || LogDir::open(fs.clone(), temp.path(), "c", 1, "d");
        let held = open().unwrap();
        assert!(matches!(open(), Err(LogDirError::Locked { .. })));
        drop(held);
        open().unwrap();
    }
}

#[test]
fn a_clean_shutdown_counts_once() {
    let fs = memory();
    let dir = open(&fs, "c", 1).unwrap();
    assert!(!dir.clean_shutdown());
    dir.mark_clean_shutdown().unwrap();
    drop(dir);
    assert!(open(&fs, "c", 1).unwrap().clean_shutdown());
    assert!(!open(&fs, "c", 1).unwrap().clean_shutdown());
}

#[test]
fn checkpoints_come_back_and_damage_is_noticed() {
    let fs = memory();
    let dir = open(&fs, "c", 1).unwrap();
    assert_eq!(dir.recovery_points().unwrap(), []);
    let entry = |topic: &str, offset| OffsetEntry {
        topic: topic.to_owned(),
        partition: 3,
        offset: Offset(offset),
    };
    let entries = [entry("a", 5), entry("b.c-d", 0)];
    dir.write_high_watermarks(&entries).unwrap();
    assert_eq!(dir.high_watermarks().unwrap(), entries);
    let path = Path::new("/data/replication-offset-checkpoint");
    let text = read_text(&*fs, path, 100).unwrap().unwrap();
    assert_eq!(text, "0\n2\na 3 5\nb.c-d 3 0\n");
    for damaged in [
        "1\n0\n",
        "0\n2\na 3 5\n",
        "0\n1\na 3\n",
        "0\n1\na 3 x\n",
        "",
    ] {
        replace(&*fs, path, damaged.as_bytes()).unwrap();
        assert!(dir.high_watermarks().is_err(), "{damaged:?} was read");
    }
}

#[test]
fn partitions_are_found_with_their_topic_ids_and_deleted_ones_are_not() {
    let temp = tempfile::tempdir().unwrap();
    for fs in [memory(), Arc::new(RealFs)] {
        let dir = LogDir::open(fs.clone(), temp.path(), "c", 1, "d").unwrap();
        let id = TopicId([7; 16]);
        dir.create_partition("my-topic", 12, id, "l1").unwrap();
        dir.create_partition("gone", 0, id, "l2").unwrap();
        let deleted = dir.delete_partition("gone", 0, "0af3").unwrap();
        assert!(fs.exists(&deleted).unwrap());
        let found = dir.scan().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (found[0].topic.as_str(), found[0].partition),
            ("my-topic", 12)
        );
        assert_eq!(found[0].metadata, Some(PartitionMetadata::new(id, "l1")));
        assert!(!fs.exists(&deleted).unwrap(), "a scan finishes deletions");
        for name in ["", "..", "a/b", "a b", &"x".repeat(250)] {
            assert!(
                dir.partition_path(name, 0).is_err(),
                "{name:?} was accepted"
            );
        }
    }
}

#[test]
fn logs_are_opened_side_by_side_in_order() {
    let fs = memory();
    fs.create_dir(Path::new("/data")).unwrap();
    let options = OpenOptions {
        clean_shutdown: false,
        recovery_point: Offset(0),
        log_start: Offset(0),
        disk_failed: false,
    };
    let job = |i: i64| OpenJob {
        dir: PathBuf::from(format!("/data/t-{i}")),
        config: LogConfig::default(),
        options: OpenOptions {
            log_start: Offset(i),
            disk_failed: false,
            ..options
        },
    };
    let progress = RecoveryProgress::default();
    let opened = open_logs(&fs, (0..20).map(job).collect(), 4, &progress);
    let starts: Vec<_> = opened
        .into_iter()
        .map(|log| log.unwrap().0.start_offset().0)
        .collect();
    assert_eq!(starts, (0..20).collect::<Vec<_>>());
    assert_eq!(progress.logs_done.load(Ordering::Relaxed), 20);
    assert_eq!(progress.logs_total.load(Ordering::Relaxed), 20);
}

#[test]
fn copies_are_found_apart_from_logs_and_deleted_like_them() {
    let temp = tempfile::tempdir().unwrap();
    for fs in [memory(), Arc::new(RealFs)] {
        let dir = LogDir::open(fs.clone(), temp.path(), "c", 1, "d").unwrap();
        let metadata = PartitionMetadata {
            replaces: Some("l1".to_owned()),
            ..PartitionMetadata::new(TopicId([7; 16]), "l2")
        };
        let path = dir.create_future("a.b-c", 12, &metadata).unwrap();
        assert_eq!(path, temp.path().join("a.b-c-12.l2-future"));
        assert_eq!(dir.scan().unwrap(), []);
        let found = PartitionDir {
            path: path.clone(),
            topic: "a.b-c".to_owned(),
            partition: 12,
            metadata: Some(metadata.clone()),
        };
        assert_eq!(dir.scan_future().unwrap(), [found]);
        let deleted = dir.delete_future(&path).unwrap();
        assert_eq!(dir.scan_future().unwrap(), []);
        assert!(fs.exists(&deleted).unwrap());
        dir.scan().unwrap();
        assert!(!fs.exists(&deleted).unwrap(), "a scan finishes deletions");
        let too_long = dir.create_future(&"x".repeat(249), 0, &metadata);
        assert!(matches!(too_long, Err(LogDirError::NameTooLong { .. })));
    }
}
