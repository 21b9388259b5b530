//! Regular expressions: the Rust engine's meaning, also in PostgreSQL.
//!
//! SQLite's `REGEXP` is the same engine. PostgreSQL has another dialect (other escapes, flags, classes, newline
//! rules, bounds), so its pattern is written anew from the parsed one, using only what both understand alike.

use std::fmt::Write as _;

use ::regex::{Regex, RegexBuilder};
use regex_syntax::{
    ParserBuilder,
    hir::{Class, ClassUnicode, Hir, HirKind, Look, Repetition},
};

use crate::{ErrorCode, FilterError};

const MAX_BYTES: usize = 1_000;
/// Bound on the compiled program, which bounds the time per character of the text.
const MAX_PROGRAM: usize = 1 << 20;
/// Bound on the characters and classes once repetitions are written out, as PostgreSQL does with them.
const MAX_EXPANDED: u64 = 5_000;
/// The largest repetition PostgreSQL takes.
const MAX_REPEAT: u32 = 255;

/// A checked regular expression.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    compiled: Regex,
    postgres: String,
}

impl Pattern {
    /// `place` tells the caller where the pattern stands.
    pub(crate) fn new(pattern: &str, options: &str, place: &str) -> Result<Self, FilterError> {
        let bad = |why: String| FilterError::new(ErrorCode::BadRegex, format!("`$regex` {place} {why}"));
        if pattern.len() > MAX_BYTES {
            return Err(bad(format!("is longer than {MAX_BYTES} bytes")));
        }
        if pattern.contains('\0') {
            return Err(bad("contains a NUL character".to_owned()));
        }
        if let Some(option) = options.chars().find(|option| !"imsx".contains(*option)) {
            let option = option.escape_debug();
            return Err(FilterError::operand(format!(
                "`$options` {place} has `{option}`; it takes the letters i, m, s and x"
            )));
        }
        let source = if options.is_empty() { pattern.to_owned() } else { format!("(?{options}){pattern}") };
        let too_big = || bad("is too large once its repetitions are written out".to_owned());
        let hir = ParserBuilder::new().nest_limit(100).build().parse(&source).map_err(|error| {
            let why = match &error {
                regex_syntax::Error::Parse(error) => error.kind().to_string(),
                regex_syntax::Error::Translate(error) => error.kind().to_string(),
                _ => "it cannot be parsed".to_owned(),
            };
            bad(format!("is not a valid regular expression: {why}"))
        })?;
        if expanded(&hir) > MAX_EXPANDED {
            return Err(too_big());
        }
        let compiled = RegexBuilder::new(&source).size_limit(MAX_PROGRAM).build().map_err(|_| too_big())?;
        // `***:` tells PostgreSQL that an advanced expression follows, whatever its settings say.
        let mut postgres = "***:".to_owned();
        write_hir(&mut postgres, &hir);
        Ok(Self { compiled, postgres })
    }

    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    /// The pattern for SQLite's `REGEXP`.
    pub(crate) fn sqlite(&self) -> &str {
        self.compiled.as_str()
    }

    /// The pattern for PostgreSQL's `~`.
    pub(crate) fn postgres(&self) -> &str {
        &self.postgres
    }
}

fn expanded(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Class(_) => 1,
        HirKind::Look(Look::Start | Look::End | Look::StartLF | Look::EndLF) => 1,
        // A word boundary is four assertions about a large class.
        HirKind::Look(_) => 400,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Capture(capture) => expanded(&capture.sub),
        HirKind::Repetition(repetition) => {
            let times = u64::from(repetition.max.unwrap_or(repetition.min).max(repetition.min).max(1));
            expanded(&repetition.sub).saturating_mul(times)
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(expanded).fold(1, u64::saturating_add)
        }
    }
}

fn write_hir(out: &mut String, hir: &Hir) {
    match hir.kind() {
        HirKind::Empty => out.push_str("(?:)"),
        // The parser only accepts what matches UTF-8, so a literal always is.
        HirKind::Literal(literal) => {
            String::from_utf8_lossy(&literal.0).chars().for_each(|c| write_char(out, c))
        }
        HirKind::Class(Class::Unicode(class)) => write_class(out, class),
        HirKind::Class(Class::Bytes(class)) => {
            write_class(out, &class.to_unicode_class().unwrap_or_else(ClassUnicode::empty));
        }
        HirKind::Look(look) => write_look(out, *look),
        HirKind::Capture(capture) => write_group(out, &capture.sub),
        HirKind::Repetition(repetition) => write_repetition(out, repetition),
        HirKind::Concat(parts) => parts.iter().for_each(|part| write_group(out, part)),
        HirKind::Alternation(parts) => {
            out.push_str("(?:");
            for (position, part) in parts.iter().enumerate() {
                out.push_str(if position == 0 { "" } else { "|" });
                write_hir(out, part);
            }
            out.push(')');
        }
    }
}

/// Grouped where it would otherwise mix with what stands around it.
fn write_group(out: &mut String, hir: &Hir) {
    match hir.kind() {
        HirKind::Concat(_) | HirKind::Repetition(_) => {
            out.push_str("(?:");
            write_hir(out, hir);
            out.push(')');
        }
        _ => write_hir(out, hir),
    }
}

/// Greed does not change whether there is a match, so it is left out.
fn write_repetition(out: &mut String, repetition: &Repetition) {
    // PostgreSQL cannot repeat an assertion; once is as good as many times.
    if repetition.sub.properties().maximum_len() == Some(0) {
        match repetition.min {
            0 => out.push_str("(?:)"),
            _ => write_group(out, &repetition.sub),
        }
        return;
    }
    let mut once = "(?:".to_owned();
    write_hir(&mut once, &repetition.sub);
    once.push(')');
    match (repetition.min, repetition.max) {
        (0, None) => out.push_str(&format!("{once}*")),
        (1, None) => out.push_str(&format!("{once}+")),
        (min, None) => {
            write_times(out, &once, min, true);
            out.push_str(&format!("{once}*"));
        }
        (min, Some(max)) => {
            write_times(out, &once, min, true);
            write_times(out, &once, max.saturating_sub(min), false);
            if max == 0 {
                out.push_str("(?:)");
            }
        }
    }
}

/// Exactly or up to so many times, in steps that PostgreSQL takes.
fn write_times(out: &mut String, once: &str, mut times: u32, exactly: bool) {
    while times > 0 {
        let step = times.min(MAX_REPEAT);
        let bound = if exactly { format!("{{{step}}}") } else { format!("{{0,{step}}}") };
        out.push_str(once);
        out.push_str(&bound);
        times -= step;
    }
}

fn write_char(out: &mut String, c: char) {
    match c {
        // No text that PostgreSQL holds has a NUL in it.
        '\0' => out.push_str(NEVER),
        _ if c.is_alphanumeric() => out.push(c),
        _ => write_code(out, c),
    }
}

fn write_code(out: &mut String, c: char) {
    // Writing to a string cannot fail.
    let _ = write!(out, "\\U{:08x}", u32::from(c));
}

/// Matches nothing: a character after the end.
const NEVER: &str = "(?:\\Za)";

fn write_class(out: &mut String, class: &ClassUnicode) {
    let ranges = class.iter().map(|range| (range.start().max('\u{1}'), range.end()));
    let ranges: Vec<_> = ranges.filter(|(start, end)| start <= end).collect();
    if ranges.is_empty() {
        out.push_str(NEVER);
        return;
    }
    out.push('[');
    for (start, end) in ranges {
        write_code(out, start);
        if start != end {
            out.push('-');
            write_code(out, end);
        }
    }
    out.push(']');
}

fn write_look(out: &mut String, look: Look) {
    const ASCII_WORD: &str = "[0-9A-Za-z_]";
    let unicode_word = || {
        let hir = regex_syntax::parse(r"\w").unwrap_or_else(|_| Hir::fail());
        let mut class = String::new();
        write_hir(&mut class, &hir);
        class
    };
    let written = match look {
        Look::Start => "\\A".to_owned(),
        Look::End => "\\Z".to_owned(),
        Look::StartLF => "(?:\\A|(?<=\\n))".to_owned(),
        Look::EndLF => "(?:\\Z|(?=\\n))".to_owned(),
        Look::StartCRLF => "(?:\\A|(?<=\\n)|(?<=\\r)(?!\\n))".to_owned(),
        Look::EndCRLF => "(?:\\Z|(?=\\r)|(?<!\\r)(?=\\n))".to_owned(),
        Look::WordAscii
        | Look::WordAsciiNegate
        | Look::WordStartAscii
        | Look::WordEndAscii
        | Look::WordStartHalfAscii
        | Look::WordEndHalfAscii => boundary(look, ASCII_WORD),
        _ => boundary(look, &unicode_word()),
    };
    out.push_str(&written);
}

fn boundary(look: Look, word: &str) -> String {
    let (before, not_before) = (format!("(?<={word})"), format!("(?<!{word})"));
    let (after, not_after) = (format!("(?={word})"), format!("(?!{word})"));
    match look {
        Look::WordAscii | Look::WordUnicode => format!("(?:{before}{not_after}|{not_before}{after})"),
        Look::WordAsciiNegate | Look::WordUnicodeNegate => {
            format!("(?:{before}{after}|{not_before}{not_after})")
        }
        Look::WordStartAscii | Look::WordStartUnicode => format!("(?:{not_before}{after})"),
        Look::WordEndAscii | Look::WordEndUnicode => format!("(?:{before}{not_after})"),
        Look::WordStartHalfAscii | Look::WordStartHalfUnicode => not_before,
        _ => not_after,
    }
}
