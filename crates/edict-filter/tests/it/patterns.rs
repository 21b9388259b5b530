//! Regular expressions mean the same in memory and in both databases.

use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::databases::{Databases, block_on};

#[rustfmt::skip]
const TEXTS: &[&str] = &[
    "", "a", "b", "A", "ab", "aab", "abab", "b\n", "a\nb", "\na", "a\r\nb", "a\rb", "\r\n", "é", "É", "ß",
    "ſ", "K", "\u{212a}", "k", "😀", "a😀b", "_", "a_b", "a b", "a-b", "[a]", "a.b", "\\", "\\d", "{2}",
    "a{2}", "1", "12", "٣", "(a)", "^a$", "***:a", "(?i)a", "%", "'", "\"", "\t", "\u{85}", "日本",
    "e\u{301}", "a\u{1}b", "zz top", "x*y+z?", "\u{feff}", "\u{10ffff}", "\u{e000}", "tab\tbed", "  ",
    "foo.bar@example.com", "192.168.0.1",
];

#[rustfmt::skip]
const PATTERNS: &[&str] = &[
    "", "a", "^", "$", "^$", "^a", "b$", "a|b", "a|", "|", "(a|b)*ab$", "^(?:a|b){2,4}$", "a{0}", "(?:){3}",
    "^{2}a", "a??b", ".", "^.$", "(?s)^.$", "(?s)^a.b$", "(?m)^b", "(?m)a$", "(?m)^$", "(?mR)a$", "(?mR)^b",
    "(?R)b$", r"\Aa\z", r"\d", r"(?-u:\d)", r"\w+", r"^\W+$", r"\s", r"^\S+$", r"\D", r"[[:alpha:]]",
    r"[^[:space:]]", r"\p{L}", r"\p{Greek}|\p{Han}", r"\P{L}", r"[\d\-.]", r"[^a]", r"^[^\n]*$",
    r"[a-c&&[^b]]", r"[\w--a]", r"[a-z~~b]", "(?i)k", "(?i)É", "(?i)ß", "(?i:a)B", "(?i)[a-z]b",
    "(?x) a b # c", r"\bb", r"\Bb", r"a\b", r"^\b", r"\b{start}t", r"b\b{end}", r"\b{start-half}a",
    r"a\b{end-half}", r"(?-u:\b)b", r"(?-u:\B)", r"(?-u:\b{start})a", r"\\", r"\\d", r"\.", r"\[a\]",
    r"\{2\}", r"a\{2", r"\^a\$", r"\*\*\*:", r"\(\?i\)", "%", "'", "\"", "\\t", r"\x{1F600}", r"\u{e9}",
    r"[\x01-\x1f]", r"\x00", r"[\x00-\x20]", r"[^\x00]", r"[^\x01-\x{10FFFF}]", r"[\s\S]",
    r"(?P<n>a)(?<m>b)", "(a)(?:b)", "a{255}", "a{0,300}b", "a{300}|b", "a{2,}", "a{0,1}b", "a{3,}?|^b",
    "(?U)a+b", "日", "[日-本]", r"e\u{301}", r"\u{10ffff}", "(?:a|^)b", "(?:$|b)", "(^|a)*b", "(?:^)+a",
    "(?:a*)*b", "(?:(?:a|b)?){5}$", r"^[\w.+-]+@\w+(?:\.\w+)+$", r"^\d{1,3}(\.\d{1,3}){3}$", "[]a]", "[a^]",
    r"[a\]^-]", "a-b", "#", " ", "~", "(?i)ſ", "(?i-u:k)", "[[:^alpha:]]", r"\pN",
];

fn documents(texts: impl IntoIterator<Item = impl Into<String>>) -> Vec<Value> {
    // Once in a column, once in the document.
    let document = |text: String| json!({"name": text, "count": 0, "t": text});
    texts.into_iter().map(|text| document(text.into())).collect()
}

async fn assert_agree(databases: &mut Databases, pattern: &str, docs: &[Value]) {
    for field in ["t", "name"] {
        databases.assert_agree(&json!({ field: { "$regex": pattern } }), docs).await;
    }
}

#[test]
fn known_patterns_agree() {
    block_on(async {
        let mut databases = Databases::open().await;
        let docs = documents(TEXTS.iter().copied());
        databases.load(&docs).await;
        for pattern in PATTERNS {
            assert_agree(&mut databases, pattern, &docs).await;
        }
        for (pattern, options) in [("^A.B", "is"), ("^b", "m"), ("a b", "x"), ("a$", "im")] {
            let filter = json!({"t": {"$regex": pattern, "$options": options}});
            databases.assert_agree(&filter, &docs).await;
        }
    });
}

fn pattern() -> impl Strategy<Value = String> {
    let atoms = [
        "a",
        "b",
        "ab",
        ".",
        "é",
        "\\n",
        "[ab]",
        "[^a]",
        "\\w",
        "\\W",
        "\\d",
        "\\s",
        "[^\\n]",
        "(?s:.)",
        "(?i:A)",
        "^",
        "$",
        "(?m:^)",
        "(?m:$)",
        "\\b",
        "\\B",
        "(?-u:\\b)",
        "\\A",
        "\\z",
        "_",
        "\\.",
        "\\\\",
        "",
        "(?mR:$)",
        "\\p{Lu}",
    ];
    select(atoms.to_vec()).prop_map(str::to_owned).prop_recursive(4, 16, 3, |inner| {
        let repeats = ["*", "+", "?", "*?", "{2}", "{0,2}", "{1,}", "{0}"];
        prop_oneof![
            3 => vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            2 => vec(inner.clone(), 1..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
            2 => (inner, select(repeats.to_vec())).prop_map(|(part, repeat)| format!("({part}){repeat}")),
        ]
    })
}

#[test]
fn random_patterns_agree() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let databases = std::cell::RefCell::new(runtime.block_on(Databases::open()));
    let texts = vec("[ab_é1A. \\n\\r\\\\-]{0,8}", 15);
    TestRunner::new(config)
        .run(&(texts, vec(pattern(), 8)), |(texts, patterns)| {
            let mut databases = databases.borrow_mut();
            let docs = documents(texts);
            runtime.block_on(async {
                databases.load(&docs).await;
                for pattern in &patterns {
                    assert_agree(&mut databases, pattern, &docs).await;
                }
            });
            Ok(())
        })
        .unwrap();
}
