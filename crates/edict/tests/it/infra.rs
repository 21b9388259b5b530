//! Executors that the policy system sets up in a real cluster, and takes down again.

use crate::cli::Cli;
use crate::support::pods::{TOKEN, address, decoded, image};
use crate::support::{Builder, Database, TestApp, files_below, free_port, refusal, reply};
use edict_testbed::Namespace;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::task::block_in_place;

/// Nobody has it, and no registry is asked for it.
const NO_IMAGE: &str = "localhost/there-is-none:1";

/// A policy system that a cluster reaches, and a place in that cluster for an executor.
pub(crate) struct Site {
    pub(crate) app: TestApp,
    pub(crate) namespace: Namespace,
    /// The namespace that is made for the executor.
    pub(crate) made: String,
}

impl Site {
    /// None, with a line that says so, where there is no cluster on this machine.
    pub(crate) fn start() -> Option<Self> {
        Self::with(|builder| builder)
    }

    /// The same, with further settings.
    pub(crate) fn with(more: impl FnOnce(Builder) -> Builder) -> Option<Self> {
        let namespace = Namespace::new()?;
        let Some(address) = address(&namespace) else {
            eprintln!("skipped: it needs a cluster on this machine");
            return None;
        };
        let builder = TestApp::builder().setting("bind", address).setting("system_port", free_port());
        let app = more(builder.setting("log_level", "debug").token(TOKEN)).start();
        Some(Self { app, made: format!("{}-made", namespace.name()), namespace })
    }

    /// An administrator's kubeconfig, as JSON.
    fn kubeconfig(&self) -> Value {
        let flat = ["config", "view", "--raw", "--minify", "--flatten", "-o", "json"];
        serde_json::from_str(&self.namespace.kubectl(&flat)).unwrap()
    }

    pub(crate) fn create(&self, image: &str) -> Value {
        json!({"cluster_config": self.kubeconfig(), "namespace": self.made, "image": image})
    }

    /// Sends a request that may take as long as a cluster does.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = self.app.request(method, path).timeout(Duration::from_secs(300));
        let reply = reply(request.body(body.to_string())).await;
        (reply.status, reply.json)
    }

    async fn infra(&self) -> Value {
        let (status, mut reply) = self.app.get("/executor/edge/infra").await;
        assert_eq!(status, 200, "{reply}");
        reply["data"].take()
    }

    pub(crate) async fn remove(&self) -> Value {
        let request = json!({"cluster_config": self.kubeconfig()});
        let (status, reply) = self.send("DELETE", "/executor/edge/remove-infra", &request).await;
        assert_eq!(status, 200, "{reply}");
        reply["data"].clone()
    }

    /// What is in the cluster of the executor, by kind and name.
    pub(crate) fn objects(&self) -> String {
        let kinds = "namespaces,clusterroles,clusterrolebindings,deployments,daemonsets,services,secrets,serviceaccounts,\
                     roles,rolebindings,jobs,pods";
        let label = "app.kubernetes.io/managed-by=edict";
        let all = self.namespace.kubectl(&["get", kinds, "-A", "-l", label, "-o", "name"]);
        all.lines().filter(|name| name.contains(&self.made)).collect()
    }

    /// The token that the executor presents.
    fn executor_token(&self) -> String {
        let secrets =
            self.namespace.get(&["secrets", "-n", &self.made, "-l", "app.kubernetes.io/managed-by=edict"]);
        let mut secrets = secrets["items"].as_array().unwrap().iter();
        let token = secrets.find_map(|secret| secret["data"]["EDICT_SERVER_TOKEN"].as_str());
        String::from_utf8(decoded(token.unwrap())).unwrap()
    }

    /// The credentials of the kubeconfig are nowhere on this server's disk.
    fn keeps_no_secret(&self) {
        let config = self.kubeconfig();
        let user = config["users"][0]["user"].as_object().unwrap();
        let secrets: Vec<&str> = user.values().filter_map(Value::as_str).collect();
        assert!(!secrets.is_empty(), "the administrator has no credentials");
        let data = self.app.data_dir();
        let mut places = vec![("log".to_owned(), self.app.log().into_bytes())];
        for file in files_below(&data) {
            places.push((file.clone(), std::fs::read(data.join(&file)).unwrap_or_default()));
        }
        for (place, bytes) in places {
            for secret in &secrets {
                // A part of it would do harm, too.
                let secret = secret.get(..64).unwrap_or(secret);
                assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{place}");
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = ["logs", "-n", &self.made, "-l", "app.kubernetes.io/component=executor", "--tail=-1"];
            let logs = self.namespace.command(&logs).output();
            let logs = logs.map(|logs| String::from_utf8_lossy(&logs.stdout).into_owned());
            eprintln!("--- log of the executor ---\n{}", logs.unwrap_or_default());
        }
        let delete = ["delete", "namespace", &self.made, "--wait=false", "--ignore-not-found"];
        self.namespace.command(&delete).output().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_is_set_up_and_taken_down() {
    let Some(site) = block_in_place(Site::start) else { return };
    let Some((image, _)) = block_in_place(|| image(&site.namespace)) else { return };
    let mut request = block_in_place(|| site.create(&image));
    request["max_processes"] = json!(4);
    let (status, made) = site.send("POST", "/executor/edge/create-infra", &request).await;
    assert_eq!(status, 200, "{made}");
    let infra = &made["data"];
    assert_eq!((&infra["infra_state"], &infra["namespace"]), (&json!("ready"), &json!(site.made)), "{made}");
    assert!(infra["executor_host_uri"].as_str().unwrap().starts_with("http://"), "{made}");
    let (_, executor) = site.app.get("/executor/edge").await;
    let executor = &executor["data"];
    assert_eq!(
        (&executor["executor_status"], &executor["executor_host_uri"]),
        (&json!("healthy"), &infra["executor_host_uri"])
    );

    let uri = site.app.add("echo", "return input_data").await;
    let (status, ran) = site.app.run_on("edge", &uri, json!({"n": 1})).await;
    assert_eq!((status, &ran["data"]), (200, &json!({"n": 1})), "{ran}");

    // Its names are made from its id.
    for (method, body) in [("DELETE", json!({})), ("PUT", json!({"$set": {"executor_id": "other"}}))] {
        let refused = site.send(method, "/executor/edge", &body).await;
        assert_eq!(refusal(&refused), (409, "infra_exists"), "{refused:?}");
    }
    // What is left out stays as it was, and what is as it should be is not replaced.
    let pods =
        || block_in_place(|| site.namespace.get(&["pods", "-n", &site.made, "--sort-by=.metadata.name"]));
    let uids = |pods: Value| {
        pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| pod["metadata"]["uid"].to_string())
            .collect::<Vec<_>>()
    };
    let before = uids(pods());
    let again = json!({"cluster_config": request["cluster_config"]});
    let (status, same) = site.send("POST", "/executor/edge/create-infra", &again).await;
    assert_eq!((status, &same["data"]["options"]), (200, &infra["options"]), "{same}");
    assert_eq!(uids(pods()), before);
    let elsewhere = json!({"cluster_config": request["cluster_config"], "namespace": "elsewhere"});
    let refused = site.send("POST", "/executor/edge/create-infra", &elsewhere).await;
    assert_eq!(refusal(&refused), (409, "infra_exists"), "{refused:?}");

    let token = block_in_place(|| site.executor_token());
    assert_eq!(block_in_place(|| site.app.client_with(&token)).assigned_functions("edge").await.unwrap(), []);
    assert_eq!(site.remove().await, json!({"executor_id": "edge", "removed": true}));
    assert_eq!(block_in_place(|| site.objects()), "");
    let refused = site.app.client_with(&token).assigned_functions("edge").await.unwrap_err();
    assert!(refused.to_string().contains("is over"), "{refused}");
    let (_, executor) = site.app.get("/executor/edge").await;
    let executor = &executor["data"];
    assert_eq!(
        (&executor["executor_status"], &executor["executor_host_uri"]),
        (&json!("pending"), &Value::Null)
    );
    assert_eq!(site.remove().await, json!({"executor_id": "edge", "removed": false}));
    assert_eq!(refusal(&site.app.get("/executor/edge/infra").await), (404, "infra_not_found"));
    assert_eq!(site.send("DELETE", "/executor/edge", &json!({})).await.0, 200);
    block_in_place(|| site.keeps_no_secret());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled_is_named_and_what_was_made_is_removed() {
    let Some(site) = block_in_place(Site::start) else { return };
    let request = block_in_place(|| site.create(NO_IMAGE));
    let failed = site.send("POST", "/executor/edge/create-infra", &request).await;
    assert_eq!(refusal(&failed), (502, "infra_failed"), "{failed:?}");
    assert!(failed.1["message"].as_str().unwrap().contains(NO_IMAGE), "{failed:?}");
    let infra = site.infra().await;
    assert_eq!(
        (&infra["infra_state"], &infra["error"]["code"]),
        (&json!("failed"), &json!("infra_failed")),
        "{infra}"
    );
    let (_, executor) = site.app.get("/executor/edge").await;
    assert_eq!(executor["data"]["executor_status"], "pending", "{executor}");

    // Its token is good for this executor, and for as long as there is something of it.
    let token = block_in_place(|| site.executor_token());
    let client = site.app.client_with(&token);
    assert_eq!(client.assigned_functions("edge").await.unwrap(), []);
    assert!(client.assigned_functions("local").await.unwrap_err().to_string().contains("good for"));
    assert_eq!(site.remove().await, json!({"executor_id": "edge", "removed": true}));
    assert!(client.assigned_functions("edge").await.unwrap_err().to_string().contains("is over"));
    assert_eq!(block_in_place(|| site.objects()), "");
    block_in_place(|| site.keeps_no_secret());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_at_a_time_and_a_killed_server_s_work_goes_on() {
    let Some(mut site) = block_in_place(Site::start) else { return };
    let request = block_in_place(|| site.create(NO_IMAGE));
    let send = |site: &Site| {
        let sent = site.app.request("POST", "/executor/edge/create-infra").body(request.to_string());
        tokio::spawn(async move { sent.timeout(Duration::from_secs(300)).send().await })
    };
    let first = send(&site);
    let until_busy = async |site: &Site| loop {
        let (status, infra) = site.app.get("/executor/edge/infra").await;
        if status == 200 && infra["data"]["made"] == true {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    until_busy(&site).await;
    let config = &request["cluster_config"];
    for (method, path) in [("POST", "create-infra"), ("DELETE", "remove-infra")] {
        let body = json!({"cluster_config": config});
        let refused = site.send(method, &format!("/executor/edge/{path}"), &body).await;
        assert_eq!(refusal(&refused), (409, "infra_busy"), "{refused:?}");
    }
    site.app.kill();
    assert!(first.await.unwrap().is_err());
    site.app.restart();
    assert_eq!(site.infra().await["infra_state"], "creating");
    // The lease of the one that is gone runs out.
    let removed = loop {
        let removed =
            site.send("DELETE", "/executor/edge/remove-infra", &json!({"cluster_config": config})).await;
        if refusal(&removed) != (409, "infra_busy") {
            break removed;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    assert_eq!((removed.0, &removed.1["data"]["removed"]), (200, &json!(true)), "{removed:?}");
    assert_eq!(block_in_place(|| site.objects()), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_without_the_rights_is_told_which() {
    let Some(site) = block_in_place(Site::start) else { return };
    // Edict's own account there may act on pods, not make anything.
    let weak = block_in_place(|| std::fs::read_to_string(site.namespace.kubeconfig())).unwrap();
    let weak: Value = serde_json::from_str(&weak).unwrap();
    let request = json!({"cluster_config": weak, "namespace": site.namespace.name()});
    let refused = site.send("POST", "/executor/edge/create-infra", &request).await;
    assert_eq!(refusal(&refused), (502, "cluster_refused"), "{refused:?}");
    let missing = refused.1["error"]["details"]["missing"].to_string();
    for right in ["create deployments.apps", "create secrets", "create roles.rbac.authorization.k8s.io"] {
        assert!(missing.contains(right), "{missing}");
    }
    let infra = site.infra().await;
    assert_eq!((&infra["infra_state"], &infra["made"]), (&json!("failed"), &json!(false)), "{infra}");
    // Nothing was made, so that nothing has to be removed there.
    let removed = site.send("DELETE", "/executor/edge/remove-infra", &json!({})).await;
    assert_eq!((removed.0, &removed.1["data"]["removed"]), (200, &json!(true)), "{removed:?}");

    let mut unknown = weak;
    unknown["users"][0]["user"]["token"] = json!("nobody-has-this-token");
    let request = json!({"cluster_config": unknown, "namespace": site.made});
    let refused = site.send("POST", "/executor/edge/create-infra", &request).await;
    assert_eq!(refusal(&refused), (502, "cluster_refused"), "{refused:?}");
    assert!(!refused.1.to_string().contains("nobody-has"), "{refused:?}");
    assert!(!site.app.log().contains("nobody-has"));

    // One that was good, and is not any more.
    let expired = block_in_place(|| {
        site.namespace.kubectl(&["create", "secret", "generic", "bound"]);
        let token = site.namespace.token(Some("bound"));
        site.namespace.kubectl(&["delete", "secret", "bound"]);
        token
    });
    unknown["users"][0]["user"]["token"] = json!(expired);
    let request = json!({"cluster_config": unknown, "namespace": site.made});
    let refused = site.send("POST", "/executor/edge/create-infra", &request).await;
    assert_eq!(refusal(&refused), (502, "cluster_refused"), "{refused:?}");
    assert!(refused.1["message"].as_str().unwrap().contains("may have expired"), "{refused:?}");

    // One user's certificate of today, who may do nothing, and that of yesterday.
    for (days, expected) in [(1, "create secrets"), (-1, "may have expired")] {
        let Some((certificate, key)) = block_in_place(|| site.namespace.client_certificate("nobody", days))
        else {
            return;
        };
        unknown["users"][0]["user"] = json!({"client-certificate-data": certificate, "client-key-data": key});
        let request = json!({"cluster_config": unknown, "namespace": site.made});
        let refused = site.send("POST", "/executor/edge/create-infra", &request).await;
        assert_eq!(refusal(&refused), (502, "cluster_refused"), "{refused:?}");
        assert!(refused.1.to_string().contains(expected), "{refused:?}");
    }
}

/// A kubeconfig whose user is this.
fn config(user: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": user}],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_refused() {
    let app = TestApp::builder().token(TOKEN).setting("public_url", "http://edict.example").start();
    let create = async |body: Value| app.json("POST", "/executor/edge/create-infra", &body).await;
    let exec = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch-this"}});
    let token = config(&json!({"token": "secret-of-the-cluster"}));
    for (body, named) in [
        (json!({}), "`cluster_config`"),
        (json!({"cluster_config": "secret-of-the-cluster"}), "`cluster_config`"),
        (json!({"cluster_config": {"provider": "kubernetes", "region": "us-west"}}), "`cluster_config`"),
        (json!({"cluster_config": config(&exec)}), "`exec`"),
        (json!({"cluster_config": config(&json!({"tokenFile": "/etc/passwd"}))}), "`tokenFile`"),
        (json!({"cluster_config": token, "namespace": "Not A Namespace"}), "`namespace`"),
        (json!({"cluster_config": token, "max_processes": 0}), "`max_processes`"),
        (json!({"cluster_config": token, "cache": "/somewhere"}), "`cache`"),
        (json!({"cluster_config": token, "server_url": "edict"}), "`server_url`"),
        (json!({"cluster_config": token, "executor_host_uri": "edge"}), "`executor_host_uri`"),
        (json!({"cluster_config": token, "image_name": "x"}), "`image_name`"),
    ] {
        let (status, reply) = create(body).await;
        assert_eq!(status, 400, "{reply}");
        let message = reply["message"].as_str().unwrap();
        assert!(message.contains(named) && !message.contains("secret-of"), "{message}");
    }
    // Nothing of that is remembered.
    assert_eq!(refusal(&app.get("/executor/edge").await), (404, "executor_not_found"));
    assert_eq!(app.sql("SELECT COUNT(*) FROM executor_infra").await, 0);

    let away = create(json!({"cluster_config": token})).await;
    assert_eq!(refusal(&away), (503, "cluster_unavailable"), "{away:?}");
    assert!(!app.log().contains("secret-of-the-cluster"));

    let builtin = app.json("POST", "/executor/local/create-infra", &json!({"cluster_config": token})).await;
    assert_eq!(refusal(&builtin), (409, "executor_builtin"));
    let executor = TestApp::executor("taken", &app).env("EDICT_SERVER_TOKEN", TOKEN).start();
    let taken = app.json("POST", "/executor/taken/create-infra", &json!({"cluster_config": token})).await;
    assert_eq!(refusal(&taken), (409, "executor_taken"), "{taken:?}");
    drop(executor);

    // Servers that no cluster reaches say so.
    let here = TestApp::builder().token(TOKEN).start();
    let (status, reply) =
        here.json("POST", "/executor/e/create-infra", &json!({"cluster_config": token})).await;
    assert!(status == 400 && reply["message"].as_str().unwrap().contains("`public_url`"), "{reply}");
    let open = TestApp::start();
    let refused = open.json("POST", "/executor/e/create-infra", &json!({"cluster_config": token})).await;
    assert_eq!(refusal(&refused), (403, "forbidden"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_remove_is_no_error() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let sample = json!({"cluster_config": {"provider": "kubernetes", "region": "us-west"}});
        let remove = async || app.json("DELETE", "/executor/executor-001/remove-infra", &sample).await;
        assert_eq!(refusal(&remove().await), (404, "executor_not_found"));
        app.json("POST", "/executor", &json!({"executor_id": "executor-001"})).await;
        let (status, reply) = remove().await;
        assert_eq!((status, &reply["data"]["removed"]), (200, &json!(false)), "{reply}");
        let (status, reply) = app.send("DELETE", "/executor/local/remove-infra", "").await;
        assert_eq!((status, &reply["data"]["removed"]), (200, &json!(false)), "{reply}");
    }
}

/// The row and its lease, on both databases: a cluster that cannot be reached is enough for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_is_remembered_and_taken_back() {
    for database in Database::each() {
        let app = TestApp::builder()
            .database(database)
            .token(TOKEN)
            .setting("public_url", "http://edict.example")
            .start();
        let request =
            |method: &'static str, path: &str, body: &Value| app.request(method, path).body(body.to_string());
        let body = json!({"cluster_config": config(&json!({"token": "t"})), "namespace": "edge"});
        for _ in 0..2 {
            let failed = reply(request("POST", "/executor/edge/create-infra", &body)).await;
            assert_eq!((failed.status, &failed.json["error"]["code"]), (503, &json!("cluster_unavailable")));
            let infra = app.get("/executor/edge/infra").await.1;
            assert_eq!(infra["data"]["error"]["code"], "cluster_unavailable", "{infra}");
            assert_eq!(
                (&infra["data"]["infra_state"], &infra["data"]["made"]),
                (&json!("failed"), &json!(false))
            );
        }
        let removed = reply(request("DELETE", "/executor/edge/remove-infra", &json!({}))).await;
        assert_eq!((removed.status, &removed.json["data"]["removed"]), (200, &json!(true)), "{removed:?}");
        assert_eq!(refusal(&app.get("/executor/edge/infra").await), (404, "infra_not_found"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_reach_is_forgotten_by_force() {
    let Some(site) = block_in_place(Site::start) else { return };
    let request = block_in_place(|| site.create(NO_IMAGE));
    site.send("POST", "/executor/edge/create-infra", &request).await;
    let token = block_in_place(|| site.executor_token());
    let without = site.send("DELETE", "/executor/edge/remove-infra", &json!({})).await;
    assert_eq!(refusal(&without), (400, "invalid_field"), "{without:?}");
    let elsewhere = json!({"cluster_config": config(&json!({"token": "t"}))});
    let refused = site.send("DELETE", "/executor/edge/remove-infra", &elsewhere).await;
    assert_eq!(refusal(&refused), (409, "infra_exists"), "{refused:?}");
    let (status, forgotten) =
        site.send("DELETE", "/executor/edge/remove-infra", &json!({"force": true})).await;
    assert_eq!(status, 200, "{forgotten}");
    assert!(forgotten["warnings"][0].as_str().unwrap().contains(&site.made), "{forgotten}");
    let refused = site.app.client_with(&token).assigned_functions("edge").await.unwrap_err();
    assert!(refused.to_string().contains("is over"), "{refused}");
    // Once the cluster is back, it is found by its marks.
    let request = json!({"cluster_config": request["cluster_config"], "namespace": site.made});
    let (status, removed) = site.send("DELETE", "/executor/edge/remove-infra", &request).await;
    assert_eq!((status, &removed["data"]["removed"]), (200, &json!(true)), "{removed}");
    assert_eq!(block_in_place(|| site.objects()), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_sends_what_files_hold() {
    let Some(site) = block_in_place(Site::start) else { return };
    let cli = Cli::new(&site.app.url());
    let admin = site.namespace.admin().to_str().unwrap();
    let run = |arguments: &[&str]| {
        let output =
            cli.command(arguments).env("EDICT_TOKEN", TOKEN).env("KUBECONFIG", admin).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    block_in_place(|| {
        let (code, _, told) = run(&[
            "executor",
            "add-infra",
            "edge",
            "--namespace",
            &site.made,
            "--image",
            NO_IMAGE,
            "--for",
            "100ms",
        ]);
        assert_eq!(code, 1, "{told}");
        assert!(told.contains("infra_failed"), "{told}");
        let (code, shown, told) = run(&["executor", "show-infra", "edge"]);
        assert!(code == 0 && shown.contains("failed") && shown.contains(&site.made), "{shown}{told}");
        let (code, done, told) = run(&["executor", "remove-infra", "edge"]);
        assert_eq!((code, done.as_str()), (0, "removed the infrastructure of edge\n"), "{told}");
        let (code, done, _) = run(&["executor", "remove-infra", "edge", "--force"]);
        assert_eq!((code, done.as_str()), (0, "edge has no infrastructure\n"));
        let config = cli.folder.path().join("config");
        write(&config, &json!({"exec": {"command": "touch-this"}}));
        let (code, _, told) =
            run(&["executor", "add-infra", "edge", "--kubeconfig", config.to_str().unwrap()]);
        assert!(code == 2 && told.contains("`exec`"), "{told}");
        assert_eq!(site.objects(), "");
    });
}

fn write(path: &Path, user: &Value) {
    std::fs::write(path, config(user).to_string()).unwrap();
}
