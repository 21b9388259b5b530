//! The audit trail through its routes and its verbs, with what an executor without a cluster writes into it: refusals.

use crate::cli::Cli;
use crate::support::{Database, TestApp, http, refusal, reply};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// A client of the action executor's routes.
pub(crate) struct Trail<'a>(pub(crate) &'a TestApp);

impl Trail<'_> {
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let reply = reply(http().get(format!("{}{path}", self.0.listener("actions")))).await;
        (reply.status, reply.json)
    }

    pub(crate) async fn data(&self, path: &str) -> Value {
        let (status, mut reply) = self.get(path).await;
        assert_eq!((status, &reply["success"]), (200, &json!(true)), "{path}: {reply}");
        reply["data"].take()
    }

    /// Asks for an action in a namespace where nothing is allowed; returns its id in the trail.
    pub(crate) async fn refused(&self, pod: &str, requested_by: &str) -> String {
        let body = json!({
            "actionType": "restart_pod",
            "actionParams": {"namespace": "kube-system", "podName": pod},
            "requestedBy": requested_by
        });
        let url = format!("{}/executor/execute", self.0.listener("actions"));
        let reply = reply(http().post(url).json(&body)).await;
        assert_eq!(
            (reply.status, &reply.json["code"]),
            (403, &json!("namespace_not_allowed")),
            "{:?}",
            reply.json
        );
        reply.json["auditId"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn export(&self, query: &str) -> Vec<Value> {
        let reply = reply(http().get(format!("{}/audit/export{query}", self.0.listener("actions")))).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, "application/x-ndjson"));
        let text = String::from_utf8(reply.bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn ids(page: &Value) -> Vec<&str> {
    page.as_array().unwrap().iter().map(|log| log["id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_action_is_shown_with_its_steps() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let trail = Trail(&app);
        let id = trail.refused("coredns", "ai-engine").await;
        let log = trail.data(&format!("/audit/logs/{id}")).await;
        for (field, value) in [
            ("id", json!(id)),
            ("actionType", json!("restart_pod")),
            ("status", json!("rejected")),
            ("namespace", json!("kube-system")),
            ("resourceType", json!("pod")),
            ("resourceName", json!("coredns")),
            ("actionParams", json!({"namespace": "kube-system", "podName": "coredns"})),
            ("requestedBy", json!("ai-engine")),
            ("errorCode", json!("namespace_not_allowed")),
            ("ipAddress", json!("127.0.0.1")),
            ("signature", Value::Null),
            ("dryRun", json!(false)),
        ] {
            assert_eq!(log[field], value, "{field}");
        }
        assert!(log["createdAt"].as_str() <= log["completedAt"].as_str());
        let steps = log["steps"].as_array().unwrap();
        let statuses: Vec<&Value> = steps.iter().map(|step| &step["status"]).collect();
        assert_eq!(statuses, [&json!("pending"), &json!("rejected")]);
        assert_eq!(steps[1]["prev_hash"], steps[0]["hash"]);
        assert_eq!(refusal(&trail.get("/audit/logs/nobody").await), (404, "audit_entry_not_found"));
        assert_eq!(refusal(&trail.get("/audit/logs/a%00b").await), (400, "invalid_parameter"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_filtered_and_paged() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let trail = Trail(&app);
        let mut made = Vec::new();
        for number in 0..7 {
            made.push(trail.refused(&format!("pod-{number}"), ["ai-engine", "admin"][number % 2]).await);
        }
        made.reverse();
        assert_eq!(ids(&trail.data("/audit/logs").await), made);
        let (mut paged, mut before) = (Vec::new(), String::new());
        loop {
            let (_, page) = trail.get(&format!("/audit/logs?limit=3{before}")).await;
            paged.extend(ids(&page["data"]).into_iter().map(str::to_owned));
            if page["has_more"] == json!(false) {
                break;
            }
            before = format!("&before={}", paged.last().unwrap());
        }
        assert_eq!(paged, made, "every action once");
        for (filter, count) in [
            ("requestedBy=ai-engine", 4),
            ("requestedBy=nobody", 0),
            ("actionType=restart_pod", 7),
            ("status=rejected", 7),
            ("status=completed", 0),
            ("namespace=kube-system&resourceType=pod", 7),
            ("resourceName=pod-3", 1),
            ("dryRun=false", 7),
            ("dryRun=true", 0),
            ("since=1h", 7),
            ("until=1h", 0),
            ("since=2020-01-01T00:00:00Z&until=2099-01-01T00:00:00%2B01:00", 7),
            ("requestedBy=x%00y", 0),
        ] {
            assert_eq!(ids(&trail.data(&format!("/audit/logs?{filter}")).await).len(), count, "{filter}");
        }
        for wrong in
            ["since=yesterday", "limit=0", "limit=1001", "status=done", "requested_by=x", "dryRun=maybe"]
        {
            let (status, reply) = trail.get(&format!("/audit/logs?{wrong}")).await;
            assert_eq!(status, 400, "{wrong}: {reply}");
        }
        assert_eq!(refusal(&trail.get("/audit/logs?before=gone").await), (404, "audit_entry_not_found"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_export_and_verification_agree() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let trail = Trail(&app);
        assert_eq!(trail.data("/audit/verify").await["entries"], json!(0));
        assert_eq!(trail.data("/audit/statistics").await["successRatio"], Value::Null);
        for number in 0..5 {
            trail.refused(&format!("pod-{number}"), "ai-engine").await;
        }
        let figures = trail.data("/audit/statistics").await;
        assert_eq!((&figures["total"], &figures["denialRate"]), (&json!(5), &json!(0.0)));
        assert_eq!(figures["byStatus"], json!([{"value": "rejected", "count": 5}]));
        assert_eq!(figures["byRequester"], json!([{"value": "ai-engine", "count": 5}]));
        let before = trail.data("/audit/statistics?since=2h&until=1h").await;
        assert_eq!((&before["total"], &before["byNamespace"]), (&json!(0), &json!([])));
        let verdict = trail.data("/audit/verify").await;
        assert_eq!((&verdict["intact"], &verdict["entries"]), (&json!(true), &json!(10)));
        assert_eq!(verdict["head"], figures["head"]);
        let entries = trail.export("").await;
        assert_eq!(entries.len(), 10);
        assert_eq!(entries[9]["hash"], verdict["head"]["hash"]);
        assert_eq!(trail.export("?since=1h").await, entries);
        assert_eq!(trail.export("?until=1h").await, Vec::<Value>::new());
        let kept = format!("/audit/verify?head={}", entries[4]["hash"].as_str().unwrap());
        assert_eq!(trail.data(&kept).await["intact"], json!(true));
        let other = trail.data("/audit/verify?head=0123").await;
        assert_eq!(other["intact"], json!(false));
        assert!(other["faults"][0]["message"].as_str().unwrap().contains("`0123`"), "{other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_read_the_trail_and_nobody_does_without_a_token() {
    let app = TestApp::builder().setting("auth_tokens", "viewer:look-look-look").start();
    for path in ["/audit/logs", "/audit/logs/x", "/audit/statistics", "/audit/verify", "/audit/export"] {
        let request = || http().get(format!("{}{path}", app.listener("actions")));
        assert_eq!(reply(request()).await.status, 401, "{path}");
        let seen = reply(request().bearer_auth("look-look-look")).await.status;
        assert_eq!(seen, if path.ends_with("/x") { 404 } else { 200 }, "{path}");
    }
}

/// What an auditor does who trusts neither the server nor this program.
#[tokio::test(flavor = "multi_thread")]
async fn the_trail_is_verified_from_the_shell_and_without_edict() {
    let app = TestApp::start();
    let trail = Trail(&app);
    let id = trail.refused("pod-1", "ai \u{1F600} \"\\ \u{7f} \u{2028}").await;
    trail.refused("pod-2", "ai-engine").await;
    let cli = Cli::new(&app.url());
    let actions = app.listener("actions");
    let verb = |args: &[&str]| -> Vec<String> {
        let all = [&["audit"][..], args, &["--actions-url", &actions]].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let done = |args: &[&str]| cli.done(&verb(args).iter().map(String::as_str).collect::<Vec<_>>());
    let fails =
        |code, args: &[&str]| cli.fails(code, &verb(args).iter().map(String::as_str).collect::<Vec<_>>());
    assert!(done(&["list", "--status", "rejected"]).contains("kube-system/pod/pod-2"));
    assert_eq!(done(&["list", "--limit", "1"]).lines().count(), 2);
    assert!(done(&["show", &id]).contains("namespace_not_allowed"));
    assert!(done(&["stats"]).contains("rejected"));
    let intact = done(&["verify"]);
    let head = intact.trim().rsplit(' ').next().unwrap().to_owned();
    assert!(intact.starts_with("intact: 4 entries, 1 to 4\n") && head.len() == 64, "{intact}");
    assert_eq!(done(&["verify", "--head", &head]), intact);

    let file = app.data_dir().join("trail.jsonl");
    let path = file.to_str().unwrap();
    done(&["export", "--file", path]);
    assert_eq!(done(&["export"]), fs::read_to_string(&file).unwrap());
    assert_eq!(done(&["verify", "--file", path]), intact);
    let script = "import hashlib, json, sys\nbefore = '0' * 64\nfor line in open(sys.argv[1], encoding='utf-8'):\n    \
                  entry = json.loads(line)\n    claimed = entry.pop('hash')\n    \
                  text = json.dumps(entry, ensure_ascii=False, separators=(',', ':'))\n    \
                  assert entry['prev_hash'] == before\n    \
                  before = hashlib.sha256(text.encode()).hexdigest()\n    assert before == claimed\nprint(before)";
    let python = Command::new("python3").args(["-c", script, path]).output().unwrap();
    let told = String::from_utf8_lossy(&python.stderr);
    assert_eq!(String::from_utf8(python.stdout.clone()).unwrap().trim(), head, "{told}");

    fs::write(&file, fs::read_to_string(&file).unwrap().replacen("kube-system", "default", 1)).unwrap();
    let found = fails(1, &["verify", "--file", path]);
    assert!(found.contains(&format!("entry 1 (action {id}) was changed")), "{found}");
    fails(1, &["verify", "--head", "0123"]);
    fails(3, &["show", "nobody"]);
    fails(2, &["list", "--status", "done"]);
}
