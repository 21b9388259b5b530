//! What is taken as a bundle, and what is refused.

use std::fs;

use bytes::Bytes;
use edict_runtime::bundle::{Bundle, BundleError, Format, Limits, digest, pack};
use proptest::prelude::*;
use tar::EntryType;

use crate::archives::*;

const SMALL: Limits = Limits { packed: 64 << 10, unpacked: 256 << 10, files: 20 };

fn refused(bytes: Bytes) -> BundleError {
    Bundle::from_archive(bytes, &SMALL).unwrap_err()
}

/// A tar.gz of one good policy and one entry more.
fn with_entry(name: &[u8], kind: EntryType, link: &str, content: &[u8]) -> Bytes {
    let mut tar = Vec::new();
    tar_entry(&mut tar, b"code/function.py", EntryType::Regular, "", POLICY.as_bytes());
    tar_entry(&mut tar, name, kind, link, content);
    tar.resize(tar.len() + 1024, 0);
    gz(&tar)
}

#[test]
fn every_format_and_both_layouts_are_taken() {
    for format in ARCHIVES {
        for root in ["code/", "./code/", "", "./"] {
            let name = |file: &str| format!("{root}{file}");
            let files: &[(&str, &[u8])] = &[
                (&name("function.py"), POLICY.as_bytes()),
                (&name("requirements.txt"), b"logging\nsix==1.16.0\n"),
                (&name("helpers/rules.py"), b"X = 1\n"),
                (&name("__pycache__/function.cpython-311.pyc"), b"\0\0"),
                ("__MACOSX/code/._function.py", b"\0"),
                (&name(".DS_Store"), b"\0"),
            ];
            let bytes = archive(format, files);
            let bundle = Bundle::from_archive(bytes.clone(), &SMALL).unwrap();
            assert_eq!((bundle.format, bundle.source.as_str(), bundle.files), (format, POLICY, 3));
            assert_eq!(bundle.digest, digest(&bytes));
            let requirements = bundle.requirements.unwrap();
            assert_eq!(
                (requirements.lines, requirements.skipped),
                (vec!["six==1.16.0".into()], vec!["logging".into()])
            );
            assert_eq!(Bundle::from_bytes(bytes, &SMALL).unwrap().digest, bundle.digest);
        }
    }
    let bundle = Bundle::from_bytes(policy(Format::Zip), &SMALL).unwrap();
    assert!(bundle.requirements.is_none());
    assert_eq!(bundle.unpacked_size, POLICY.len() as u64);
}

#[test]
fn source_text_is_a_bundle() {
    let bundle = Bundle::from_source(POLICY, &SMALL).unwrap();
    assert_eq!((bundle.format, bundle.source.as_str(), bundle.files), (Format::Source, POLICY, 1));
    assert_eq!(bundle.digest, digest(POLICY.as_bytes()));
    assert_eq!(Bundle::from_bytes(POLICY.into(), &SMALL).unwrap().digest, bundle.digest);
    assert_eq!(Bundle::from_source("\u{feff}x = 1", &SMALL).unwrap().source, "x = 1");
    for format in [Format::Source, Format::Zip, Format::TarXz, Format::TarGz] {
        assert_eq!(format.as_str().parse(), Ok(format));
    }
}

#[test]
fn encodings_other_than_utf8_are_refused() {
    for source in
        ["# -*- coding: latin-1 -*-\n", "#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\n", "x\0y"]
    {
        assert_eq!(
            Bundle::from_source(source, &SMALL).unwrap_err().code(),
            "bundle_bad_encoding",
            "{source}"
        );
    }
    for source in
        ["# coding: UTF_8\n", "# coding=utf8", "x = 1\n# coding: latin-1\n", "# encoding things\n", ""]
    {
        assert!(Bundle::from_source(source, &SMALL).is_ok(), "{source}");
    }
    for file in ["code/function.py", "code/requirements.txt"] {
        let files: &[(&str, &[u8])] = &[("code/function.py", b"x"), (file, b"\xff")];
        let bytes = zip(&files[usize::from(file.ends_with(".py"))..]);
        assert_eq!(refused(bytes).code(), "bundle_bad_encoding");
    }
    let bytes = zip(&[("code/function.py", b"x"), ("code/requirements.txt", b"six\n-e .\n")]);
    let error = refused(bytes);
    assert_eq!(error.code(), "bundle_bad_requirements");
    assert!(error.to_string().contains("line 2"), "{error}");
}

#[test]
fn other_bytes_are_no_bundle() {
    for bytes in [&b""[..], b"hello", b"\0\0\0\0", b"BZh91AY", b"ustar\0"] {
        assert_eq!(refused(Bytes::copy_from_slice(bytes)).code(), "bundle_unknown_format");
    }
    assert_eq!(
        Bundle::from_bytes(Bytes::from_static(b"\xff\xfe"), &SMALL).unwrap_err().code(),
        "bundle_unknown_format"
    );
    for bytes in [gz(b"not a tar"), xz(&noise(5000))] {
        assert_eq!(refused(bytes).code(), "bundle_corrupt");
    }
}

#[test]
fn lacking_function_py_is_said_with_a_hint() {
    for format in ARCHIVES {
        let error = refused(archive(format, &[("readme.md", b"x")]));
        assert_eq!(error.code(), "bundle_no_function");
        let error = refused(archive(format, &[("my-policy-main/code/function.py", b"x")]));
        assert!(error.to_string().contains("`my-policy-main/code/function.py`"), "{error}");
    }
    assert_eq!(refused(zip(&[])).code(), "bundle_no_function");
    assert_eq!(refused(zip(&[("code/function.py/", b"")])).code(), "bundle_no_function");
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let noise = noise(12_000);
    for format in ARCHIVES {
        let files: &[(&str, &[u8])] = &[("code/function.py", POLICY.as_bytes()), ("code/data.bin", &noise)];
        let whole = archive(format, files);
        assert!(Bundle::from_archive(whole.clone(), &SMALL).is_ok());
        let last = whole.len() - 1;
        for length in (0..whole.len()).step_by(100).chain([1, 7, last]) {
            let code = refused(whole.slice(..length)).code();
            let expected = if length < 6 { "bundle_unknown_format" } else { "bundle_truncated" };
            assert!(
                code == expected || (length < 6 && code == "bundle_truncated"),
                "{format} {length}: {code}"
            );
        }
    }
}

#[test]
fn a_changed_byte_of_content_is_noticed() {
    let noise = noise(4000);
    for format in ARCHIVES {
        let whole = archive(format, &[("code/function.py", b"x"), ("code/data.bin", &noise)]);
        let mut bytes = whole.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        assert_eq!(refused(bytes.into()).code(), "bundle_corrupt", "{format}");
    }
}

#[test]
fn bombs_are_stopped_by_what_they_unpack_to() {
    let zeros = vec![0; 1 << 20];
    for format in ARCHIVES {
        let error = refused(archive(format, &[("code/function.py", b"x"), ("code/zeros", &zeros)]));
        assert_eq!(error.code(), "bundle_too_large", "{format}");
        assert!(error.to_string().contains("256 KiB"), "{error}");
    }
    // Many entries, each within the limit.
    let part = vec![0; 100 << 10];
    let files: Vec<(String, &[u8])> = (0..10).map(|i| (format!("code/{i}"), part.as_slice())).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (name.as_str(), *content)).collect();
    for format in ARCHIVES {
        assert_eq!(refused(archive(format, &files)).code(), "bundle_too_large");
    }
    // Behind the end of the tar archive, where no entry is.
    let mut tar = tar(&[("code/function.py", b"x")]);
    tar.resize(tar.len() + (4 << 20), 0);
    for bytes in [gz(&tar), xz(&tar)] {
        assert_eq!(refused(bytes).code(), "bundle_too_large");
    }
    // A name of a megabyte.
    let mut tar = Vec::new();
    tar_entry(&mut tar, b"././@LongLink", EntryType::GNULongName, "", &vec![b'a'; 100 << 10]);
    assert_eq!(refused(gz(&tar)).code(), "bundle_too_large");
    // Within the absolute limit, but a thousand times the archive.
    let zeros = vec![0; 20 << 20];
    let error = Bundle::from_archive(gz(&tar_of_function(&zeros)), &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("250 times"), "{error}");
}

fn tar_of_function(content: &[u8]) -> Vec<u8> {
    tar(&[("code/data", content), ("code/function.py", b"x")])
}

#[test]
fn a_lying_zip_index_gains_nothing() {
    let zeros = vec![0; 1 << 20];
    let honest = zip(&[("code/function.py", b"x"), ("code/zeros", &zeros)]);
    let size = u32::try_from(zeros.len()).unwrap().to_le_bytes();
    for claimed in [0_u32, 10, u32::MAX - 1] {
        let code = refused(replace(&honest, &size, &claimed.to_le_bytes())).code();
        assert!(
            ["bundle_too_large", "bundle_corrupt", "bundle_truncated"].contains(&code),
            "{claimed}: {code}"
        );
    }
    let mut tar = tar(&[("code/function.py", b"x")]);
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&tar[..512]);
    header.set_size(u64::MAX / 2);
    header.set_cksum();
    tar[..512].copy_from_slice(header.as_bytes());
    assert!(Bundle::from_archive(gz(&tar), &SMALL).is_err());
}

#[test]
fn an_xz_header_that_asks_for_gigabytes_is_refused() {
    use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
    let mut options = LzmaOptions::new_preset(0).unwrap();
    options.dict_size(1 << 29);
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let stream = Stream::new_stream_encoder(&filters, Check::Crc64).unwrap();
    let mut xz = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    std::io::Write::write_all(&mut xz, &tar(&[("code/function.py", b"x")])).unwrap();
    let error = refused(xz.finish().unwrap().into());
    assert!(error.to_string().contains("memory"), "{error}");
}

#[test]
fn too_many_files_and_folders_are_refused() {
    let files: Vec<String> = (0..25).map(|i| format!("code/{i}.py")).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let deep = format!("{}function.py", "a/".repeat(30));
    for format in ARCHIVES {
        assert_eq!(refused(archive(format, &files)).code(), "bundle_too_many_files");
        assert_eq!(refused(archive(format, &[(&deep, b"")])).code(), "bundle_too_many_files");
    }
    let many = Limits { files: 10, ..Limits::default() };
    let names: Vec<String> = (0..60_000).map(|i| format!("{i}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    assert_eq!(Bundle::from_archive(zip(&files), &many).unwrap_err().code(), "bundle_too_many_files");
    let packed = Limits { packed: 10, ..SMALL };
    assert_eq!(Bundle::from_archive(policy(Format::Zip), &packed).unwrap_err().code(), "bundle_too_large");
    assert_eq!(Bundle::from_source(POLICY, &packed).unwrap_err().code(), "bundle_too_large");
}

#[test]
fn unsafe_names_are_refused() {
    let long = "a".repeat(1025);
    let names: [&[u8]; 13] = [
        b"../evil.py",
        b"code/../../evil.py",
        b"code/..",
        b"/etc/passwd",
        b"C:/evil.py",
        b"c:evil.py",
        b"code\\..\\evil.py",
        b"code/a\nb",
        b"code/a\x1bb",
        b"code/\xff",
        b"..",
        b"code/\x7f",
        b"/",
    ];
    for name in names {
        let error = refused(with_entry(name, EntryType::Regular, "", b"x"));
        assert_eq!(error.code(), "bundle_unsafe_path", "{}", name.escape_ascii());
        let placeholder = "X".repeat(name.len());
        let bytes =
            zip_renamed(&[("code/function.py", b"x"), (&placeholder, b"")], placeholder.as_bytes(), name);
        let code = refused(bytes).code();
        assert_eq!(code, "bundle_unsafe_path", "{}", name.escape_ascii());
    }
    for format in ARCHIVES {
        assert_eq!(refused(archive(format, &[(&long, b"")])).code(), "bundle_unsafe_path");
    }
    let bytes = zip_renamed(&[("code/function.py", b"x"), ("code/aXb", b"")], b"aXb", b"a\0b");
    assert_eq!(refused(bytes).code(), "bundle_unsafe_path");
    // In a folder that is ignored, too.
    assert_eq!(
        refused(with_entry(b"__MACOSX/../../x", EntryType::Regular, "", b"")).code(),
        "bundle_unsafe_path"
    );
}

#[test]
fn links_and_devices_are_refused() {
    for (kind, code) in [
        (EntryType::Symlink, "bundle_unsafe_link"),
        (EntryType::Link, "bundle_unsafe_link"),
        (EntryType::Char, "bundle_unsafe_entry"),
        (EntryType::Block, "bundle_unsafe_entry"),
        (EntryType::Fifo, "bundle_unsafe_entry"),
        (EntryType::new(b'?'), "bundle_unsafe_entry"),
        (EntryType::GNUSparse, "bundle_unsupported"),
    ] {
        let error = refused(with_entry(b"code/thing", kind, "/etc/passwd", b""));
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains("`code/thing`"), "{error}");
    }
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.add_symlink("code/thing", "function.py", zip::write::SimpleFileOptions::default()).unwrap();
    assert_eq!(refused(zip.finish().unwrap().into_inner().into()).code(), "bundle_unsafe_link");
    // Names, links and sizes may also come in an extended header.
    for (record, code) in [
        ("22 path=../../evil.py\n", "bundle_unsafe_path"),
        ("24 linkpath=/etc/passwd\n", "bundle_unsafe_link"),
        ("11 size=99\n", "bundle_corrupt"),
        ("22 GNU.sparse.major=1\n", "bundle_unsupported"),
    ] {
        let mut tar = Vec::new();
        tar_entry(&mut tar, b"pax", EntryType::XHeader, "", record.as_bytes());
        tar_entry(&mut tar, b"code/function.py", EntryType::Regular, "", b"x");
        assert_eq!(refused(gz(&tar)).code(), code, "{record}");
    }
}

#[test]
fn entries_that_hide_one_another_are_refused() {
    for format in ARCHIVES {
        for [first, second] in [["code/a", "code/./a"], ["code/a", "code/a/b"], ["code/a/b", "code//a"]] {
            let error =
                refused(archive(format, &[("code/function.py", b"x"), (first, b"1"), (second, b"2")]));
            assert_eq!(error.code(), "bundle_duplicate_entry", "{first} {second}");
        }
    }
    let bytes =
        zip_renamed(&[("code/function.py", b"x"), ("code/functioX.py", b"evil")], b"functioX", b"function");
    let error = refused(bytes);
    assert_eq!(
        (error.code(), error.to_string().contains("`code/function.py`")),
        ("bundle_duplicate_entry", true)
    );
    assert_eq!(
        refused(with_entry(b"code/function.py", EntryType::Regular, "", b"evil")).code(),
        "bundle_duplicate_entry"
    );
}

#[test]
fn encrypted_and_exotic_zips_are_refused() {
    // The flag in both headers: local at 6, central at 8.
    let mut bytes = zip(&[("code/function.py", b"x")]).to_vec();
    let central = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    bytes[6] |= 1;
    bytes[central + 8] |= 1;
    assert_eq!(refused(bytes.into()).code(), "bundle_encrypted");
    let mut bytes = zip(&[("code/function.py", b"x")]).to_vec();
    bytes[8] = 12;
    bytes[central + 10] = 12;
    let error = refused(bytes.into());
    assert_eq!(error.code(), "bundle_unsupported", "{error}");
}

#[test]
fn packing_is_reproducible_and_leaves_out_what_is_not_code() {
    let make = |order: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        for name in order {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        dir
    };
    let kept = ["code/function.py", "code/lib/b.py", "code/lib/a.py", "code/requirements.txt"];
    let first = make(&kept);
    let mut more = vec![
        "code/__pycache__/function.cpython-311.pyc",
        "code/x.pyc",
        "code/.venv/lib/x.py",
        "code/.env",
        "policy.yaml",
        "code/env/pyvenv.cfg",
        "code/env/lib/y.py",
    ];
    more.extend(kept.iter().rev());
    let second = make(&more);
    for dir in [&first, &second] {
        fs::write(dir.path().join("code/requirements.txt"), "six\n").unwrap();
    }
    let bytes = pack(first.path()).unwrap();
    assert_eq!(bytes, pack(second.path()).unwrap());
    let bundle = Bundle::from_archive(bytes, &SMALL).unwrap();
    assert_eq!((bundle.files, bundle.source.as_str()), (4, "code/function.py"));
    std::os::unix::fs::symlink("/etc/passwd", first.path().join("code/link")).unwrap();
    assert!(pack(first.path()).unwrap_err().to_string().contains("link"));
    assert!(pack(&first.path().join("code")).unwrap_err().to_string().contains("code/function.py"));
}

proptest! {
    #[test]
    fn any_bytes_are_judged(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000), magic in 0..5_usize) {
        let magics: [&[u8]; 5] = [b"", b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b\x08\x00", b"\xfd7zXZ\0"];
        bytes.splice(0..0, magics[magic].iter().copied());
        // It returns, that is all: almost nothing random is a bundle.
        let _ = Bundle::from_bytes(bytes.into(), &SMALL);
    }
}
