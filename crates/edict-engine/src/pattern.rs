//! Patterns of actions and resources: `*` and `?` are wildcards, everything else stands for itself.

/// A pattern, taken apart once.
///
/// INVARIANT (linear): matching takes time by the length of the text, times at most the length of the pattern where
/// it holds `?`. No text makes it try again what it has already tried: between two `*` the leftmost place that fits
/// is as good as any other.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    source: Box<str>,
    shape: Shape,
}

#[derive(Debug, Clone)]
enum Shape {
    /// No wildcard.
    Exact,
    /// No `*`, at least one `?`.
    Fixed,
    /// How many bytes stand before the first `*` and after the last one, and what stands between.
    Parts { first: usize, middle: Box<[Box<str>]>, last: usize },
}

impl Pattern {
    pub(crate) fn new(source: &str) -> Self {
        let shape = match (source.split_once('*'), source.rsplit_once('*')) {
            (Some((first, rest)), Some((_, last))) => {
                let middle = rest.strip_suffix(last).unwrap_or_default().split('*');
                let middle = middle.filter(|part| !part.is_empty()).map(Box::from).collect();
                Shape::Parts { first: first.len(), middle, last: last.len() }
            }
            _ if source.contains('?') => Shape::Fixed,
            _ => Shape::Exact,
        };
        Self { source: source.into(), shape }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.source
    }

    pub(crate) fn is_exact(&self) -> bool {
        matches!(self.shape, Shape::Exact)
    }

    /// The literal text that everything it matches starts with.
    pub(crate) fn prefix(&self) -> &str {
        self.source.split(['*', '?']).next().unwrap_or_default()
    }

    /// The literal text that everything it matches ends with.
    pub(crate) fn suffix(&self) -> &str {
        self.source.rsplit(['*', '?']).next().unwrap_or_default()
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        match &self.shape {
            Shape::Exact => *self.source == *text,
            Shape::Fixed => at_start(&self.source, text) == Some(""),
            Shape::Parts { first, middle, last } => {
                let (first, rest) = self.source.split_at(*first);
                let (_, last) = rest.split_at(rest.len() - last);
                let Some(text) = at_start(first, text) else { return false };
                let Some(mut text) = before_end(last, text) else { return false };
                middle.iter().all(|part| match after(part, text) {
                    Some(rest) => {
                        text = rest;
                        true
                    }
                    None => false,
                })
            }
        }
    }
}

/// What follows the part, if the text starts with it. A `?` takes one character, not one byte.
fn at_start<'t>(part: &str, text: &'t str) -> Option<&'t str> {
    if !part.contains('?') {
        return text.strip_prefix(part);
    }
    let mut rest = text.chars();
    part.chars()
        .all(|wanted| rest.next().is_some_and(|c| wanted == '?' || wanted == c))
        .then_some(rest.as_str())
}

/// What stands before the part, if the text ends with it.
fn before_end<'t>(part: &str, text: &'t str) -> Option<&'t str> {
    if !part.contains('?') {
        return text.strip_suffix(part);
    }
    let mut rest = text.chars();
    let ends =
        part.chars().rev().all(|wanted| rest.next_back().is_some_and(|c| wanted == '?' || wanted == c));
    ends.then_some(rest.as_str())
}

/// What follows the leftmost place of the part in the text.
fn after<'t>(part: &str, text: &'t str) -> Option<&'t str> {
    if !part.contains('?') {
        // The standard library's search for a text is linear.
        return text.split_once(part).map(|(_, rest)| rest);
    }
    let starts = text.char_indices().map(|(start, _)| start);
    starts.filter_map(|start| text.get(start..)).find_map(|rest| at_start(part, rest))
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn wildcards_and_nothing_else() {
        for (pattern, text, matches) in [
            ("pod:*", "pod:", true),
            ("pod:*", "pod", false),
            ("pod:?", "pod:é", true),
            ("pod:?", "pod:", false),
            ("*", "", true),
            ("**", "a:b", true),
            ("?*", "", false),
            ("*?", "é", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*b?d*", "abcbxd", true),
            ("*a?c*a?c", "abcabc", true),
            ("*a?c*a?c", "abcab", false),
            ("*ab*ba", "aba", false),
            ("v1.2", "v1x2", false),
            ("(a|b)", "a", false),
            ("(a|b)", "(a|b)", true),
            ("[a-z]+", "a", false),
            ("a\\*", "a\\bc", true),
            ("a\\*", "a*", false),
            ("pod:ns:*:x", "pod:ns:a:b:x", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn literal_ends() {
        let ends = |pattern| {
            let pattern = Pattern::new(pattern);
            (pattern.prefix().to_owned(), pattern.suffix().to_owned())
        };
        assert_eq!(ends("pod:ns-1/*"), ("pod:ns-1/".into(), String::new()));
        assert_eq!(ends("*-db"), (String::new(), "-db".into()));
        assert_eq!(ends("a?c*e"), ("a".into(), "e".into()));
        assert_eq!(ends("exact"), ("exact".into(), "exact".into()));
    }
}
