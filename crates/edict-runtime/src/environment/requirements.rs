//! `requirements.txt`: which lines are taken, and their normal form.

use std::str::FromStr;

use pep508_rs::{Requirement, VersionOrUrl};
use reqwest::Url;
use sha2::{Digest, Sha256};

use super::stdlib::is_standard;

/// Most lines that name a package.
const LINES: usize = 1000;

/// Longest line, in bytes.
const LINE_LENGTH: usize = 4000;

/// What a policy needs beside the standard library. Texts that mean the same give the same value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirements {
    /// The requirements in normal form, sorted, each once, e.g. `requests[socks]<3,>=2.31`.
    pub lines: Vec<String>,
    /// Names left out because the standard library has them, e.g. `logging`; worth a warning.
    pub skipped: Vec<String>,
    /// SHA-256 of `lines`, lower-case hex.
    pub digest: String,
}

/// Why a `requirements.txt` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, `{text}`: {reason}")]
pub struct RequirementsError {
    /// The line's number, from 1; of the first where several are joined by `\`.
    pub line: usize,
    /// The line, cut to 200 characters.
    pub text: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl RequirementsError {
    /// The stable code that goes into replies.
    pub fn code(&self) -> &'static str {
        "requirements_invalid"
    }
}

impl Requirements {
    /// Reads the text of a `requirements.txt`: requirements as in PEP 508, comments, lines continued with
    /// `\`, `--hash` options. Everything that would make an installer read local files, other indexes or
    /// the server's variables is refused.
    pub fn parse(text: &str) -> Result<Self, RequirementsError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (mut lines, mut skipped) = (Vec::new(), Vec::new());
        for (number, line) in logical_lines(text) {
            let refuse = |reason: String| RequirementsError {
                line: number,
                text: line.chars().take(200).flat_map(char::escape_debug).collect(),
                reason,
            };
            match parse_line(&line).map_err(refuse)? {
                Line::Package(line) => lines.push(line),
                Line::Standard(name) => skipped.push(name),
            }
            if lines.len() > LINES {
                return Err(refuse(format!("more than {LINES} requirements")));
            }
        }
        for list in [&mut lines, &mut skipped] {
            list.sort();
            list.dedup();
        }
        let digest = hex::encode(Sha256::digest(lines.join("\n")));
        Ok(Self { lines, skipped, digest })
    }

    /// Whether there is nothing to install.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// Lines without comments and blank ones, continued ones joined, with the number of the first.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut joined: Option<(usize, String)> = None;
    for (index, raw) in text.lines().enumerate() {
        let comment = raw.trim_start().starts_with('#');
        let (number, mut line) = joined.take().unwrap_or((index + 1, String::new()));
        match raw.strip_suffix('\\') {
            Some(start) if !comment => {
                line.push_str(start);
                joined = Some((number, line));
            }
            _ => {
                line.push_str(raw);
                lines.push((number, line));
            }
        }
    }
    lines.extend(joined);
    let stripped = lines.into_iter().map(|(number, line)| (number, without_comment(&line).trim().to_owned()));
    stripped.filter(|(_, line)| !line.is_empty()).collect()
}

/// A `#` starts a comment at the start or after white space; elsewhere it belongs to a URL.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if c == '#' && before.is_whitespace() {
            return line.get(..at).unwrap_or(line);
        }
        before = c;
    }
    line
}

enum Line {
    Package(String),
    Standard(String),
}

fn parse_line(line: &str) -> Result<Line, String> {
    if line.starts_with('-') {
        return Err(refused_option(line));
    }
    if line.contains("${") {
        // Installers put the variable's value there, and so into a request to a host of the author's choice.
        return Err("variables are not replaced here; write the value itself".into());
    }
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err("it holds a control character".into());
    }
    if line.len() > LINE_LENGTH {
        return Err(format!("it is longer than {LINE_LENGTH} bytes"));
    }
    let mut parts = line.split(" --").map(str::trim);
    let (spec, marker) = split_marker(parts.next().unwrap_or_default());
    let mut hashes = parts.map(hash_option).collect::<Result<Vec<_>, _>>()?;
    if is_location(spec) {
        return Err("paths and bare addresses are not taken; write `name @ https://…`".into());
    }
    check_names(spec)?;
    let mut requirement = Requirement::<Url>::from_str(spec).map_err(|error| error.message.to_string())?;
    if let Some(VersionOrUrl::Url(url)) = &requirement.version_or_url {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("addresses start with https://, not {}:", url.scheme()));
        }
    } else if is_standard(requirement.name.as_ref()) {
        return Ok(Line::Standard(requirement.name.to_string()));
    }
    requirement.extras.sort();
    requirement.extras.dedup();
    hashes.sort();
    let mut text = normal_form(&requirement);
    if let Some(marker) = marker {
        let words: Vec<&str> = marker.split_whitespace().collect();
        if words.is_empty() {
            return Err("there is nothing behind the `;`".into());
        }
        text.push_str(&format!(" ; {}", words.join(" ")));
    }
    for hash in hashes {
        text.push_str(&format!(" --hash={hash}"));
    }
    Ok(Line::Package(text))
}

/// Takes off the environment marker, which stays text: the parser works markers out as decision diagrams,
/// for which a hostile line of 500 bytes takes minutes. The installer judges them, in a process that can be
/// stopped. Addresses may hold a `;`, and need a space before the marker's.
fn split_marker(spec: &str) -> (&str, Option<&str>) {
    let separator = if spec.contains('@') { " ;" } else { ";" };
    match spec.split_once(separator) {
        Some((spec, marker)) => (spec.trim(), Some(marker)),
        None => (spec, None),
    }
}

/// Names of packages and extras end with a letter or digit. The parser takes that for granted in places.
fn check_names(spec: &str) -> Result<(), String> {
    let names = spec.split(['@', ';', '<', '>', '=', '!', '~', '(']).next().unwrap_or(spec);
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match names.split(|c| !is_part(c)).find(|name| name.ends_with(['.', '_', '-'])) {
        Some(name) => Err(format!("the name `{name}` does not end with a letter or digit")),
        None => Ok(()),
    }
}

/// The requirement with version clauses sorted, so that their order does not make another environment.
fn normal_form(requirement: &Requirement<Url>) -> String {
    let Some(VersionOrUrl::VersionSpecifier(specifiers)) = &requirement.version_or_url else {
        return requirement.to_string();
    };
    let mut clauses: Vec<String> = specifiers.iter().map(ToString::to_string).collect();
    clauses.sort();
    let extras: Vec<String> = requirement.extras.iter().map(ToString::to_string).collect();
    let extras = if extras.is_empty() { String::new() } else { format!("[{}]", extras.join(",")) };
    format!("{}{extras}{}", requirement.name, clauses.join(","))
}

fn hash_option(option: &str) -> Result<String, String> {
    let hash = option.strip_prefix("hash=").or_else(|| option.strip_prefix("hash ")).map(str::trim);
    match hash.and_then(|hash| hash.split_once(':')) {
        Some((algorithm, value))
            if algorithm.bytes().all(|b| b.is_ascii_alphanumeric())
                && !value.is_empty()
                && value.bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            Ok(format!("{algorithm}:{}", value.to_ascii_lowercase()))
        }
        _ => Err(format!("the option `--{option}` is not supported; only `--hash=algorithm:hex` is")),
    }
}

fn is_location(spec: &str) -> bool {
    let name = spec.split(['@', ';', '[', ' ']).next().unwrap_or(spec);
    let first = spec.chars().next();
    matches!(first, Some('.' | '/' | '~')) || name.contains(['/', '\\', ':']) || name.ends_with(".whl")
}

fn refused_option(line: &str) -> String {
    let option = line.split([' ', '=', '\t']).next().unwrap_or(line);
    match option {
        "-i" | "--index-url" | "--extra-index-url" | "-f" | "--find-links" | "--no-index"
        | "--trusted-host" => {
            format!(
                "the option `{option}` is not taken from policies; where packages come from is the server's \
                 setting EDICT_INDEX_URL"
            )
        }
        "-e" | "--editable" => format!("`{option}` is not supported; put the modules beside function.py"),
        "-r" | "--requirement" | "-c" | "--constraint" => {
            format!("`{option}` is not supported; write the requirements into this file")
        }
        "--pre" => "`--pre` is not supported; name the version, e.g. `name>=2.0rc1`".into(),
        _ => format!("the option `{option}` is not supported; remove it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        Requirements::parse(text).unwrap().lines
    }

    #[test]
    fn the_same_meaning_has_one_form() {
        let first = Requirements::parse(
            "# what we need\nRequests [socks, use_chardet_on_py3] >= 2.31, <3 # why\r\n\nlogging\nsix\n",
        );
        let second = Requirements::parse("six\nsix\nrequests[use-chardet-on-py3,socks]<3,>=2.31\nos");
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.lines, ["requests[socks,use-chardet-on-py3]<3,>=2.31", "six"]);
        assert_eq!((&first.lines, &first.digest), (&second.lines, &second.digest));
        assert_eq!((first.skipped, second.skipped), (vec!["logging".into()], vec!["os".into()]));
    }

    #[test]
    fn continued_lines_comments_markers_hashes_and_addresses() {
        assert_eq!(lines("six>=1, \\\n  <2\n"), ["six<2,>=1"]);
        assert_eq!(lines("# a comment \\\nsix"), ["six"]);
        assert_eq!(lines("\u{feff}six ; python_version >= '3'\n"), ["six ; python_version >= '3'"]);
        assert_eq!(
            lines("six==1.16.0 --hash=sha256:AB --hash sha256:aa"),
            ["six==1.16.0 --hash=sha256:aa --hash=sha256:ab"]
        );
        assert_eq!(
            lines("a @ https://h.example/a-1-py3-none-any.whl#sha256=ab"),
            ["a @ https://h.example/a-1-py3-none-any.whl#sha256=ab"]
        );
        assert!(Requirements::parse("logging\n#x\n\n").unwrap().is_empty());
    }

    #[test]
    fn what_reaches_outside_is_refused_with_its_line() {
        for (line, hint) in [
            ("-e .", "beside function.py"),
            ("-r other.txt", "into this file"),
            ("--index-url https://evil.example/simple", "EDICT_INDEX_URL"),
            ("--extra-index-url=https://evil.example/simple", "EDICT_INDEX_URL"),
            ("./pkg", "name @ https://"),
            ("/etc/passwd", "name @ https://"),
            ("file:///etc/passwd", "name @ https://"),
            ("pkg/thing.whl", "name @ https://"),
            ("a @ file:///etc/passwd", "https://"),
            ("a @ git+https://h.example/a", "https://"),
            ("a @ ../b", ""),
            ("a @ https://h.example/${UV_INDEX_PASSWORD}", "variables"),
            ("six --config-settings=a=b", "--hash"),
            ("six==", ""),
            ("not a requirement", ""),
            ("a_[b]", "letter or digit"),
            ("a[b-]", "letter or digit"),
            (&format!("a ; {}", "(".repeat(5000)), "longer"),
            ("a ;", "nothing behind"),
            ("six\u{0}", "control"),
        ] {
            let error = Requirements::parse(&format!("six\n\n{line}\n")).unwrap_err();
            assert_eq!(error.line, 3, "{line}");
            assert!(error.to_string().contains(hint), "{line}: {error}");
        }
    }

    #[test]
    fn a_marker_made_to_be_hard_costs_nothing_here() {
        let terms: Vec<String> = (0..60).map(|i| format!("(extra == 'a{i}' and extra == 'b{i}')")).collect();
        let line = format!("six ; {}", terms.join(" or "));
        assert_eq!(lines(&line), [line]);
        let nested = format!("six ; {}", "(".repeat(3000));
        assert_eq!(lines(&nested), [nested]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c_.<>=;@\\[\\]'() -]{0,30}|[ -~\\n\\\\#]{0,200}|\\PC{0,80}") {
            if let Ok(first) = Requirements::parse(&text) {
                let again = Requirements::parse(&first.lines.join("\n")).unwrap();
                proptest::prop_assert_eq!(first.lines, again.lines);
            }
        }
    }
}
