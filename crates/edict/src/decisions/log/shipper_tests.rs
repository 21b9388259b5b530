use super::*;
use proptest::prelude::*;
use std::io::Write;

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

/// Reads a file to its end as the shipper does, in batches.
fn all(content: &[u8]) -> Vec<u8> {
    let (file, mut read) = (file(content), Vec::new());
    loop {
        let text = read_lines(&file, read.len() as u64).unwrap();
        let count = batch_of(&text);
        if count == 0 {
            return read;
        }
        read.extend(text.split_inclusive(|byte| *byte == b'\n').take(count).flatten());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Every whole line is read once, in order, and of a torn one nothing.
    #[test]
    fn whole_lines_are_read_and_a_torn_one_is_not(lines in proptest::collection::vec("[a-z]{0,40}\n", 0..700), torn in "[a-z]{0,40}") {
        let whole = lines.concat();
        prop_assert_eq!(all(format!("{whole}{torn}").as_bytes()), whole.into_bytes());
    }
}

#[test]
fn a_line_larger_than_what_is_read_at_once_is_read() {
    let content = [&[b'x'; 3 * BYTES][..], b"\n", b"y\n", &[b'z'; BYTES]].concat();
    assert_eq!(all(&content), content[..content.len() - BYTES]);
}

#[test]
fn batches_are_powers_of_two() {
    let sizes: Vec<usize> = [0, 1, 2, 3, 255, 256, 5000].map(|lines| batch_of(&b"\n".repeat(lines))).into();
    assert_eq!(sizes, [0, 1, 2, 2, 128, 128, 128]);
}
