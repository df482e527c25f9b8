//! Power failures between runs.

use super::full::{append, leader};
use super::*;

#[test]
fn a_clean_stop_left_records_in_the_page_cache_when_nobody_had_asked_for_their_log() {
    const RECORDS: i32 = 10;
    for seed in 0..8 {
        let (disks, disk) = (Disks::new(1), MemoryFs::new(seed));
        // Registrations are recorded on the real disk.
        fs::create_dir(disks.path(0)).unwrap();
        let mut killed = disks.start_on(disk.clone());
        register(&killed, 1);
        let partition = leader(&mut killed);
        (0..RECORDS).for_each(|sequence| append(&partition, sequence).unwrap());
        drop((partition, killed));

        // Metadata never comes.
        stop(disks.start_on(disk.clone()), &[], 2);
        disk.crash();

        let mut storage = disks.start_on(disk);
        let partition = open(&mut storage, 0).unwrap();
        let end = partition.state.lock().log.end_offset();
        assert_eq!(end, Offset(RECORDS.into()), "seed {seed}");
    }
}
