use super::*;
use proptest::prelude::*;

fn spool(most: u64) -> (tempfile::TempDir, Spool) {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(Folder::make(&dir.path().join("decisions")).unwrap(), most).unwrap();
    (dir, spool)
}

fn content(spool: &Spool) -> Vec<u8> {
    let segments = spool.folder().segments().unwrap();
    segments.iter().flat_map(|number| spool.folder().read(*number).unwrap()).collect()
}

proptest! {
    #[test]
    fn what_is_added_stands_there_in_order(lines in proptest::collection::vec("[a-z]{0,200}\n", 0..50)) {
        let (_dir, spool) = spool(1 << 20);
        for (count, line) in (1..).zip(&lines) {
            prop_assert_eq!(spool.append(line.as_bytes()).unwrap(), count);
        }
        prop_assert_eq!(content(&spool), lines.concat().into_bytes());
        prop_assert_eq!((spool.recorded(), spool.pending()), (lines.len() as u64, lines.len() as u64));
    }
}

#[test]
fn a_full_segment_is_followed_by_another() {
    let (_dir, spool) = spool(u64::MAX);
    let line = [b'x'; 1 << 20];
    for _ in 0..17 {
        spool.append(&line).unwrap();
    }
    assert_eq!(spool.folder().segments().unwrap(), [0, 1]);
    assert_eq!((spool.current(), content(&spool).len()), (1, 17 << 20));
}

#[test]
fn beyond_its_room_it_takes_nothing_until_something_is_removed() {
    let (_dir, spool) = spool(10);
    spool.append(b"1234567\n").unwrap();
    assert!(matches!(spool.append(b"12\n"), Err(SpoolError::Full)));
    assert!(matches!(spool.append(b"12\n"), Err(SpoolError::Full)));
    assert_eq!(content(&spool), b"1234567\n");
    assert_eq!(spool.current(), 1, "what is full can be removed once the table has it");
    spool.removed(spool.folder().delete(0).unwrap());
    spool.append(b"12\n").unwrap();
    assert_eq!(content(&spool), b"12\n");
}

#[test]
fn behind_something_that_could_not_be_removed_a_new_segment_begins() {
    let (_dir, spool) = spool(1 << 20);
    spool.append(b"first\n").unwrap();
    (&*spool.tail().file).write_all(b"half a li").unwrap();
    spool.tail().closed = true;
    spool.append(b"second\n").unwrap();
    assert_eq!(content(&spool), b"first\nhalf a lisecond\n");
    assert_eq!(spool.folder().read(1).unwrap(), b"second\n");
}

#[tokio::test]
async fn waiting_for_the_disk_ends_with_the_next_sync() {
    let (_dir, spool) = spool(1 << 20);
    let spool = Arc::new(spool);
    let first = spool.append(b"1\n").unwrap();
    let waiting = tokio::spawn({
        let spool = Arc::clone(&spool);
        async move { spool.synced(first).await }
    });
    spool.sync_wanted().await;
    assert!(!waiting.is_finished());
    spool.sync().unwrap();
    waiting.await.unwrap().unwrap();
    assert!(!spool.is_unsynced());
    spool.append(b"2\n").unwrap();
    assert!(spool.is_unsynced());
}

#[test]
fn a_folder_belongs_to_one_and_is_found_when_that_one_is_gone() {
    let (dir, spool) = spool(1 << 20);
    let root = dir.path().join("decisions");
    spool.append(b"1\n").unwrap();
    assert!(Folder::abandoned(&root).unwrap().is_empty());
    drop(spool);
    let found = Folder::abandoned(&root).unwrap();
    assert_eq!(found.len(), 1);
    assert!(Folder::abandoned(&root).unwrap().is_empty(), "taken over by one only");
    assert_eq!(found[0].read(0).unwrap(), b"1\n");
    assert!(found[0].remove().is_err(), "it is not empty");
    assert_eq!(found[0].delete(0).unwrap(), 2);
    found[0].remove().unwrap();
    assert_eq!(std::fs::read_dir(root).unwrap().count(), 0, "nothing stays");
}
