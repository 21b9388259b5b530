//! Uploads and downloads.

use crate::server::Server;
use axum::extract::{FromRequest, Multipart, Request};
use axum::response::Response;
use edict_client::records::{Asset, AssetVersion, Object};
use edict_client::{Body, Client, Content, Error, NewAsset, Page};
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

fn asset() -> Value {
    json!({
        "asset_uri": "a:1.0-beta",
        "asset_id": "id-1",
        "asset_name": "a",
        "asset_version": {"version": "1.0", "tag": "beta"},
        "asset_public_url": "http://h/asset-object/id-1",
        "asset_file_info": {"size": 3, "sha256": "x", "content_type": "t", "file_name": "a.zip"},
    })
}

fn new_asset() -> NewAsset {
    NewAsset {
        asset_name: "a".to_owned(),
        asset_version: AssetVersion { version: "1.0".to_owned(), tag: "beta".to_owned() },
        asset_metadata: Object::new(),
        asset_tags: vec!["policy".to_owned()],
    }
}

/// The fields of the form that arrived: name, file name, content.
async fn form(server: &Server) -> Vec<(String, Option<String>, Vec<u8>)> {
    let seen = server.seen();
    let request = Request::post("/")
        .header("content-type", seen.header("content-type").unwrap())
        .body(axum::body::Body::from(seen.body))
        .unwrap();
    let mut form = Multipart::from_request(request, &()).await.unwrap();
    let mut fields = Vec::new();
    while let Some(field) = form.next_field().await.unwrap() {
        let name = field.name().unwrap().to_owned();
        let file_name = field.file_name().map(str::to_owned);
        fields.push((name, file_name, field.bytes().await.unwrap().to_vec()));
    }
    fields
}

#[tokio::test]
async fn uploads_what_is_in_memory() {
    let server = Server::saying(json!({"success": true, "data": asset()})).await;
    let client = Client::new(&server.url, None).unwrap();
    let content = Content::from_bytes("a.zip", &b"\x00\xff\r\n"[..]);
    let stored = client.upload_asset(&new_asset(), content).await.unwrap();
    assert_eq!(stored.record.asset_id, "id-1");
    assert_eq!(server.seen().line(), "POST /upload_asset");
    let fields = form(&server).await;
    let (name, _, metadata) = &fields[0];
    assert_eq!(name, "asset_metadata");
    let expected = json!({
        "asset_name": "a",
        "asset_version": {"version": "1.0", "tag": "beta"},
        "asset_metadata": {},
        "asset_tags": ["policy"],
    });
    assert_eq!(serde_json::from_slice::<Value>(metadata).unwrap(), expected);
    assert_eq!(fields[1], ("asset".to_owned(), Some("a.zip".to_owned()), b"\x00\xff\r\n".to_vec()));
}

#[tokio::test]
async fn uploads_a_stream_with_its_length_known() {
    let server = Server::saying(json!({"success": true, "data": asset()})).await;
    let client = Client::new(&server.url, None).unwrap();
    let chunks =
        futures::stream::iter((0..1000u32).map(|n| Ok::<_, std::io::Error>(n.to_le_bytes().to_vec())));
    let content = Content { file_name: "a".to_owned(), size: 4000, body: Body::wrap_stream(chunks) };
    client.upload_asset(&new_asset(), content).await.unwrap();
    assert!(
        server.seen().header("content-length").is_some(),
        "a server could not refuse it before reading it"
    );
    let expected: Vec<u8> = (0..1000u32).flat_map(u32::to_le_bytes).collect();
    assert_eq!(form(&server).await[1].2, expected);
}

#[tokio::test]
async fn downloads_in_chunks() {
    let server = Server::replying(200, &[], "abcdef").await;
    let mut download = Client::new(&server.url, None).unwrap().download_asset("id-1").await.unwrap();
    assert_eq!(download.size, Some(6));
    let mut content = Vec::new();
    while let Some(chunk) = download.chunk().await.unwrap() {
        content.extend_from_slice(&chunk);
    }
    assert_eq!(content, b"abcdef");
    assert_eq!(server.seen().line(), "GET /asset-object/id-1");
}

#[tokio::test]
async fn a_download_may_take_longer_than_the_timeout_but_not_pause_for_so_long() {
    let server = Server::answering(|| {
        let steady = futures::stream::unfold(0, |n| async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            (n < 10).then_some((Ok::<_, std::io::Error>("x"), n + 1))
        });
        Response::new(axum::body::Body::from_stream(steady.chain(futures::stream::pending())))
    })
    .await;
    let client = Client::builder(&server.url).timeout(Duration::from_millis(700)).build().unwrap();
    let mut download = client.download_asset("id-1").await.unwrap();
    let mut read = 0;
    let error = loop {
        match download.chunk().await {
            Ok(chunk) => read += chunk.unwrap().len(),
            Err(error) => break error,
        }
    };
    assert_eq!(read, 10);
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_download_that_is_refused_says_why() {
    let body = json!({"success": false, "message": "no asset `x`", "error": {"code": "asset_not_found"}});
    let server = Server::replying(404, &[], body.to_string()).await;
    let error = Client::new(&server.url, None).unwrap().download_asset("x").await.unwrap_err();
    assert!(error.is_not_found() && error.to_string() == "no asset `x`", "{error:?}");
}

#[tokio::test]
async fn reads_and_writes_asset_records() {
    let one = json!({"success": true, "data": asset()});
    let typed: Asset = serde_json::from_value(asset()).unwrap();

    let server = Server::saying(one.clone()).await;
    let client = Client::new(&server.url, None).unwrap();
    assert_eq!(client.get_asset("a:1.0-beta").await.unwrap(), typed);
    assert_eq!(server.seen().line(), "GET /asset/a:1.0-beta");

    let server = Server::saying(one.clone()).await;
    let client = Client::new(&server.url, None).unwrap();
    client.create_asset(&asset()).await.unwrap();
    assert_eq!(server.seen().line(), "POST /asset");

    let server = Server::saying(one.clone()).await;
    let client = Client::new(&server.url, None).unwrap();
    client.update_asset("a:1.0-beta", &json!({"$set": {"asset_tags": []}}), None).await.unwrap();
    assert_eq!(server.seen().line(), "PUT /asset/a:1.0-beta");

    let server = Server::saying(json!({"success": true, "data": [asset()]})).await;
    let client = Client::new(&server.url, None).unwrap();
    let found = client.query_assets::<Asset>(&json!({}), &Page::default()).await.unwrap();
    assert_eq!(found.records, [typed]);
    assert_eq!(server.seen().line(), "POST /assets");

    let server = Server::saying(one).await;
    let client = Client::new(&server.url, None).unwrap();
    client.delete_asset("a:1.0-beta").await.unwrap();
    assert_eq!(server.seen().line(), "DELETE /asset/a:1.0-beta");
}
