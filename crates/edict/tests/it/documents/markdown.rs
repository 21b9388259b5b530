//! Reading Markdown: fenced blocks, links and headings, and comparing what was printed with what the text shows.

/// A fenced block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) language: String,
    /// The rest of the info string.
    info: String,
    pub(super) text: String,
    /// Line of its fence, from 1.
    pub(super) line: usize,
    /// Line after its end.
    end: usize,
    /// Line before which only blank lines follow the block before it.
    follows: usize,
}

impl Block {
    /// Whether it is run.
    pub(super) fn is_command(&self) -> bool {
        matches!(self.language.as_str(), "sh" | "python") && self.value("file").is_none()
    }

    /// Whether it shows what `command` prints: nothing but blank lines is between the two.
    pub(super) fn is_output_of(&self, command: &Self) -> bool {
        matches!(self.language.as_str(), "text" | "json")
            && self.value("file").is_none()
            && self.follows == command.end
    }

    /// What the info string says after `name=`.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.info.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// Why it is left out, if it is.
    pub(super) fn reason_not_to_run(&self) -> Option<&str> {
        let (_, rest) = self.info.split_once("not-run=\"")?;
        Some(rest.split_once('"').unwrap().0)
    }
}

/// The fenced blocks of a text, in order.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<Block> = None;
    let mut follows = 0;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(block), Some(_)) => {
                block.end = index + 2;
                follows = block.end;
                blocks.extend(open.take());
            }
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, Some(info)) => {
                let (language, info) = info.trim().split_once(' ').unwrap_or((info.trim(), ""));
                let (language, info) = (language.to_owned(), info.to_owned());
                open = Some(Block { language, info, text: String::new(), line: index + 1, end: 0, follows });
            }
            (None, None) if !line.trim().is_empty() => follows = 0,
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fenced block has no end: {open:?}");
    blocks
}

/// The text without its fenced blocks.
pub(super) fn prose(text: &str) -> String {
    let mut fenced = false;
    let keep = |line: &&str| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    };
    text.lines().filter(keep).collect::<Vec<_>>().join("\n")
}

/// Headings with the text below each, down to the next heading of any level.
pub(super) fn sections(text: &str) -> Vec<(String, String)> {
    let mut sections: Vec<(String, String)> = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        if !fenced && line.starts_with('#') {
            sections.push((line.trim_start_matches('#').trim().to_owned(), String::new()));
        } else if let Some((_, body)) = sections.last_mut() {
            body.push_str(line);
            body.push('\n');
        }
    }
    sections
}

/// The anchor that a heading gets.
pub(super) fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

/// Targets of the text's links.
pub(super) fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.match_indices("](").filter_map(|(at, _)| prose[at + 2..].split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// Compares line by line; the amount of white space does not count, `…` stands for any text in a line, and alone on a
/// line for any number of lines.
pub(super) fn assert_output(place: &str, expected: &str, printed: &str) {
    let lines = |text: &str| -> Vec<String> {
        let tidy = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.trim().lines().map(tidy).collect()
    };
    assert!(
        lines_match(&lines(expected), &lines(printed)),
        "{place} shows another output.\n--- it shows\n{expected}\n--- but this came\n{printed}"
    );
}

fn lines_match(expected: &[String], printed: &[String]) -> bool {
    match (expected.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((any, rest)), _) if any == "…" => {
            (0..=printed.len()).any(|skipped| lines_match(rest, &printed[skipped..]))
        }
        (Some((line, rest)), Some((found, others))) => line_matches(line, found) && lines_match(rest, others),
        _ => false,
    }
}

fn line_matches(expected: &str, found: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|start| found.strip_prefix(start)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(end) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_compared_with_wildcards() {
        assert_output("", "a … c\n…\nz", "a  b  c\nx\ny\nz\n");
        assert_output("", "…", "");
        for (expected, printed) in [("a", "a\nb"), ("a…c", "abcd"), ("a\n…\nb", "a\nc"), ("a…a", "a")] {
            let compare = || assert_output("", expected, printed);
            assert!(std::panic::catch_unwind(compare).is_err(), "{expected} matched {printed}");
        }
    }

    #[test]
    fn blocks_know_what_they_follow() {
        let text = "```sh exit=4\na\n```\n\n```text\nb\n```\nwords\n```text\nc\n```\n";
        let blocks = blocks(text);
        assert_eq!(blocks[0].value("exit"), Some("4"));
        assert!(blocks[1].is_output_of(&blocks[0]) && !blocks[2].is_output_of(&blocks[1]));
        assert_eq!(blocks[2].line, 9);
    }
}
