//! Stored files: on disk and in a bucket.

use crate::support::{Database, Moto, Reply, TestApp, reply, wait_for};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn metadata(name: &str) -> Value {
    json!({"asset_name": name, "asset_version": {"version": "1.0", "tag": "x"}, "asset_tags": ["t"]})
}

async fn upload(app: &TestApp, name: &str, content: Vec<u8>) -> Reply {
    let part = Part::bytes(content).file_name("../dir/f.bin").mime_str("application/x-thing").unwrap();
    let form = Form::new().part("asset", part).text("asset_metadata", metadata(name).to_string());
    reply(app.request("POST", "/upload_asset").multipart(form)).await
}

/// Bytes without a pattern that a mistake in putting parts together could hide behind.
fn content(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(step).collect()
}

fn stored_files(app: &TestApp) -> usize {
    std::fs::read_dir(app.data_dir().join("assets")).unwrap().count()
}

async fn goes_up_and_comes_down(app: &TestApp, length: usize) {
    let sent = content(length);
    let made = upload(app, &format!("file-{length}"), sent.clone()).await;
    assert_eq!(made.status, 200, "{:?}", made.json);
    let record = &made.json["data"];
    let sha256: String = hex::encode(Sha256::digest(&sent));
    let info = json!({"size": length, "sha256": sha256, "content_type": "application/x-thing", "file_name": "f.bin"});
    assert_eq!(record["asset_file_info"], info);
    let url = record["asset_public_url"].as_str().unwrap();
    let got = reply(app.request("GET", url.strip_prefix(&app.url()).unwrap())).await;
    assert_eq!((got.status, got.header("content-type")), (200, "application/x-thing"));
    assert_eq!(got.header("content-disposition"), "attachment; filename=\"f.bin\"");
    assert_eq!(
        (got.header("x-content-type-options"), got.header("etag")),
        ("nosniff", format!("\"{sha256}\"").as_str())
    );
    assert!(got.bytes == sent, "{} bytes came back differently", sent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_live_with_their_files() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        goes_up_and_comes_down(&app, 0).await;
        goes_up_and_comes_down(&app, (8 << 20) + 1).await;
        assert_eq!(stored_files(&app), 2);

        let again = upload(&app, "file-0", b"other".to_vec()).await;
        assert_eq!((again.status, &again.json["error"]["code"]), (409, &json!("asset_exists")));
        assert_eq!(stored_files(&app), 2, "the refused file is not kept");
        let (_, before) = app.get("/asset/file-0:1.0-x").await;
        assert_eq!(before["data"]["asset_file_info"]["size"], 0);

        let update = json!({"$push": {"asset_tags": "u"}, "$set": {"asset_metadata.a": 1}});
        let (status, updated) = app.json("PUT", "/asset/file-0:1.0-x", &update).await;
        assert_eq!((status, &updated["data"]["asset_tags"]), (200, &json!(["t", "u"])), "{updated}");
        assert_eq!(updated["data"]["asset_file_info"], before["data"]["asset_file_info"]);
        let (status, moved) =
            app.json("PUT", "/asset/file-0:1.0-x", &json!({"$set": {"asset_version.tag": "y"}})).await;
        assert_eq!((status, &moved["moved_to"]), (200, &json!("file-0:1.0-y")), "{moved}");
        let (status, refused) =
            app.json("PUT", "/asset/file-0:1.0-y", &json!({"$set": {"asset_id": "a"}})).await;
        assert_eq!((status, &refused["error"]["code"]), (400, &json!("invalid_update")), "{refused}");

        let id = moved["data"]["asset_id"].as_str().unwrap().to_owned();
        assert_eq!(app.send("GET", &format!("/asset-object/{id}"), "").await.0, 200, "its address stays");
        assert_eq!(app.send("DELETE", "/asset/file-0:1.0-y", "").await.0, 200);
        let (status, gone) = app.get(&format!("/asset-object/{id}")).await;
        assert_eq!((status, &gone["error"]["code"]), (404, &json!("asset_not_found")));
        assert_eq!(stored_files(&app), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_can_be_registered_instead() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let mut asset = metadata("elsewhere");
        let (status, refused) = app.json("POST", "/asset", &asset).await;
        assert_eq!((status, &refused["error"]["code"]), (400, &json!("invalid_field")));
        asset["asset_public_url"] = json!("https://example.com/a.zip");
        let (status, made) = app.json("POST", "/asset", &asset).await;
        assert_eq!((status, &made["data"]["asset_file_info"]), (200, &Value::Null), "{made}");
        let id = made["data"]["asset_id"].as_str().unwrap();
        let (status, refused) = app.get(&format!("/asset-object/{id}")).await;
        assert_eq!(status, 404);
        assert!(refused["message"].as_str().unwrap().contains("asset_public_url"), "{refused}");
        let (status, moved) =
            app.json("PUT", "/asset/elsewhere:1.0-x", &json!({"$set": {"asset_public_url": "x"}})).await;
        assert_eq!(status, 400, "{moved}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_do_not_fit_leave_nothing() {
    let app = TestApp::builder().setting("max_upload_mb", 1).start();
    let large = upload(&app, "large", vec![0; (1 << 20) + 1]).await;
    assert_eq!((large.status, &large.json["error"]["code"]), (413, &json!("body_too_large")), "{large:?}");
    assert_eq!(upload(&app, "fits", vec![0; 1 << 20]).await.status, 200);
    let file = || Part::bytes(b"x".to_vec()).file_name("f");
    let forms = [
        (Form::new().part("asset", file()), "invalid_upload", "asset_metadata"),
        (Form::new().text("asset_metadata", metadata("m").to_string()), "invalid_upload", "`asset`"),
        (Form::new().part("asset", file()).part("asset", file()), "invalid_upload", "twice"),
        (Form::new().part("asset", file()).text("assets", ""), "invalid_upload", "`assets`"),
        (Form::new().part("asset", file()).text("asset_metadata", "{"), "malformed_json", ""),
        (
            Form::new().part("asset", file()).text("asset_metadata", "{\"asset_nam\": 1}"),
            "unknown_field",
            "`asset_name`",
        ),
        (
            Form::new().part("asset", file()).text("asset_metadata", metadata("../up").to_string()),
            "invalid_name",
            "..",
        ),
    ];
    for (form, code, named) in forms {
        let refused = reply(app.request("POST", "/upload_asset").multipart(form)).await;
        assert_eq!(
            (refused.status, refused.json["error"]["code"].as_str()),
            (400, Some(code)),
            "{:?}",
            refused.json
        );
        assert!(refused.json["message"].as_str().unwrap().contains(named), "{:?}", refused.json);
    }
    let plain = reply(app.request("POST", "/upload_asset").json(&metadata("m"))).await;
    assert_eq!((plain.status, &plain.json["error"]["code"]), (400, &json!("invalid_upload")));
    assert_eq!(stored_files(&app), 1, "only the one that fits");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let app = TestApp::start();
    let address = app.url().replace("http://", "");
    let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /upload_asset HTTP/1.1\r\nhost: {address}\r\ncontent-type: multipart/form-data; boundary=b\r\n\
         content-length: 30000000\r\n\r\n--b\r\ncontent-disposition: form-data; name=\"asset\"; filename=\"f\"\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&content(9 << 20)).await.unwrap();
    // More than one part is on its way to the disk by now.
    assert!(wait_for(|| (stored_files(&app) > 0).then_some(())).is_some());
    socket.shutdown().await.unwrap();
    socket.read_to_end(&mut Vec::new()).await.ok();
    drop(socket);
    assert!(wait_for(|| (stored_files(&app) == 0).then_some(())).is_some(), "half a file is left");
    assert_eq!(app.json("POST", "/assets", &json!({})).await.1["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_live_in_a_bucket() {
    let Some(moto) = Moto::start("edict-bucket").await else { return };
    let app = TestApp::builder()
        .setting("assets_url", "s3://edict-bucket/some/prefix")
        .setting("s3_endpoint", moto.endpoint())
        .setting("s3_access_key_id", "key")
        .setting("s3_secret_access_key", "secret")
        .start();
    goes_up_and_comes_down(&app, 20 << 20).await;
    goes_up_and_comes_down(&app, 3).await;
    assert!(!app.data_dir().join("assets").exists());
    let path = |name: &str| format!("/asset/{name}:1.0-x");
    let id = app.get(&path("file-3")).await.1["data"]["asset_id"].as_str().unwrap().to_owned();
    let object = format!("{}/edict-bucket/some/prefix/{id}", moto.endpoint());
    assert_eq!(
        reply(crate::support::http().get(&object)).await.bytes,
        content(3),
        "it is where the setting says"
    );
    assert_eq!(app.send("DELETE", &path("file-3"), "").await.0, 200);
    assert_eq!(app.get(&format!("/asset-object/{id}")).await.0, 404);
    assert_eq!(reply(crate::support::http().get(&object)).await.status, 404);

    drop(moto);
    let refused = upload(&app, "nowhere", vec![1]).await;
    assert_eq!(
        (refused.status, &refused.json["error"]["code"]),
        (503, &json!("storage_unavailable")),
        "{refused:?}"
    );
    assert_eq!(app.get(&path("nowhere")).await.0, 404);
}
