//! Signatures: the server takes what Python, JavaScript and a shell sign, and the documented vectors are right.

use crate::support::actions::{SECRET, hmac, signed, verdict};
use crate::support::{TestApp, reply};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The action's parameters of each vector: as JSON, which both languages read alike.
const PARAMETERS: [&str; 9] = [
    r#"{"namespace": "default", "podName": "api-pod-12345"}"#,
    r#"{"podName": "b", "namespace": "a", "force": true}"#,
    r#"{"namespace": "größe", "podName": "日本語 😀 \u2028 \u007f"}"#,
    r#"{"a": 1.0, "b": -0.0, "c": 1e16, "d": 1e-7, "e": 1.5, "f": 1e21, "g": 123456789.125, "h": 1e22}"#,
    r#"{"a": 9007199254740993, "b": -1, "c": 0, "d": 123456789012345678901234567890}"#,
    r#"{"a": {"b": {"c": [1, [2, {"d": null}]]}}, "e": [], "f": {}, "g": "", "h": [{}, []]}"#,
    r#"{"quote": "\"\\/\b\f\n\r\t\u0001", "html": "<&>'"}"#,
    r#"{"z": 1, "é": 2, "😀": 3, "\uffff": 4, "Z": 5, "a": {"y": 1, "x": 2}}"#,
    r#"{}"#,
];

/// Prints, for each line of standard input, the signed text and the request's body of each way to sign.
const PYTHON: &str = r#"
import json, sys
for line in sys.stdin:
    signed = {"actionType": "restart_pod", "actionParams": json.loads(line), "requestedBy": "ai-engine ü"}
    body = json.dumps(signed)
    compact = {"separators": (",", ":")}
    for text in [
        json.dumps(signed),
        json.dumps(signed, sort_keys=True),
        json.dumps(signed, ensure_ascii=False),
        json.dumps(signed, **compact),
        json.dumps(signed, sort_keys=True, ensure_ascii=False, **compact),
    ]:
        # As `requests` sends it, and as `httpx` does.
        for body in [json.dumps(signed), json.dumps(signed, ensure_ascii=False, **compact)]:
            print(json.dumps([text, body]))
"#;

const JAVASCRIPT: &str = r#"
const lines = require('fs').readFileSync(0, 'utf8').trim().split('\n');
const sorted = (value) => Array.isArray(value) ? value.map(sorted)
    : value && typeof value === 'object' ? Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]))
    : value;
for (const line of lines) {
    const signed = {actionType: 'restart_pod', actionParams: JSON.parse(line), requestedBy: 'ai-engine ü'};
    for (const text of [JSON.stringify(signed), JSON.stringify(sorted(signed))]) {
        console.log(JSON.stringify([text, JSON.stringify(signed)]));
    }
}
"#;

/// Runs a program and returns the lines that it printed.
fn run(program: &str, arguments: &[&str], input: &str) -> Vec<String> {
    use std::io::Write;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The body with the signature as its last field, everything else being left as it is.
fn with_signature(body: &str, signature: &str) -> String {
    format!(r#"{}, "signature": "{signature}"}}"#, body.strip_suffix('}').unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_python_and_javascript_sign_is_taken() {
    let app = TestApp::builder().setting("jwt_secret", SECRET).start();
    let input = PARAMETERS.join("\n");
    let mut lines = run("python3", &["-c", PYTHON], &input);
    assert_eq!(lines.len(), PARAMETERS.len() * 10);
    lines.extend(run("node", &["-e", JAVASCRIPT], &input));
    assert_eq!(lines.len(), PARAMETERS.len() * 12);
    for line in lines {
        let (text, body): (String, String) = serde_json::from_str(&line).unwrap();
        let good = app.ask_text(with_signature(&body, &hmac(SECRET, &text))).await;
        assert!(!good.json["code"].as_str().unwrap().starts_with("signature"), "{text} {body} {}", good.json);
        let bad = app.ask_text(with_signature(&body, &hmac(SECRET, &format!("{text} ")))).await;
        assert_eq!(verdict(&bad), (403, "signature_invalid"), "{text}");
    }
}

/// A client in JavaScript, where every number is a double, whose request a proxy in Python has written anew.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_may_be_written_anew_on_the_way() {
    let app = TestApp::builder().setting("jwt_secret", SECRET).start();
    let params = r#"{"a": 1e16, "b": 1e-7, "c": 0.1, "d": 1e21}"#;
    let rewrite = "import json, sys\nprint(json.dumps(json.load(sys.stdin)))";
    let line = run("node", &["-e", JAVASCRIPT], params).remove(0);
    let (text, body): (String, String) = serde_json::from_str(&line).unwrap();
    let body = run("python3", &["-c", rewrite], &with_signature(&body, &hmac(SECRET, &text))).remove(0);
    assert!(body.contains("1e-07") && text.contains("1e-7"), "{body} {text}");
    let taken = app.ask_text(body).await;
    assert_eq!(verdict(&taken), (422, "invalid_action"), "{}", taken.json);
}

/// The table in the documentation: how it is signed, the text, the signature.
fn documented() -> Vec<(String, String)> {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page
        .lines()
        .skip_while(|line| *line != "### Golden vectors")
        .take_while(|line| !line.starts_with("## "));
    let cells = |row: &str| -> Vec<String> {
        row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`']).to_owned()).collect()
    };
    let rows = rows.filter(|row| row.starts_with("| `{")).map(cells);
    rows.map(|cells| (cells[0].clone(), cells[1].clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_vectors_are_right_and_taken() {
    let vectors = documented();
    assert!(vectors.len() >= 6, "{vectors:?}");
    let app = TestApp::builder().setting("jwt_secret", "your_jwt_secret").start();
    for (text, signature) in vectors {
        let openssl = run("openssl", &["dgst", "-sha256", "-hmac", "your_jwt_secret"], &text).remove(0);
        assert_eq!(openssl.rsplit(' ').next().unwrap(), signature, "{text}");
        let taken = app.ask_text(with_signature(&text, &signature)).await;
        assert!(!taken.json["code"].as_str().unwrap().starts_with("signature"), "{text} {}", taken.json);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_read_in_two_ways_is_refused() {
    let app = TestApp::builder().setting("jwt_secret", SECRET).start();
    let params = json!({"namespace": "default", "podName": "a"});
    let body = signed(json!({"actionType": "restart_pod", "actionParams": params, "requestedBy": "x"}));
    let body = body.to_string();
    let twice = body.replace(r#""podName":"a""#, r#""podName":"a","podName":"b""#);
    let outside = body.replace(r#""requestedBy":"x""#, r#""requestedBy":"y","requestedBy":"x""#);
    let half = body.replace(r#""podName":"a""#, r#""podName":"\ud83d""#);
    let nul = body.replace(r#""podName":"a""#, r#""podName":"\u0000""#);
    let huge = body.replace(r#""podName":"a""#, r#""podName":1e999"#);
    let deep =
        body.replace(r#""podName":"a""#, &format!(r#""podName":{}1{}"#, "[".repeat(100), "]".repeat(100)));
    let long = body.replace(r#""podName":"a""#, &format!(r#""podName":"{}""#, "a".repeat(20_000)));
    for text in [twice, outside, half, nul, huge, deep, long] {
        let refused = app.ask_text(text.clone()).await;
        assert_eq!(verdict(&refused), (400, "invalid_field"), "{text} {}", refused.json);
    }
    let large = reply(app.to_actions("POST", "/executor/execute").body(vec![b' '; 9 << 20])).await;
    assert_eq!(large.status, 413);
    let ok = app.ask(&serde_json::from_str::<Value>(&body).unwrap()).await;
    assert_eq!(verdict(&ok), (503, "cluster_unavailable"));
}
