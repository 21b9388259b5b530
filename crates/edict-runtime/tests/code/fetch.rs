//! Downloads, from a real server on this machine.

use std::time::Duration;

use edict_runtime::bundle::{FetchError, FetchOptions, Limits, fetch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers each request by its path; gives the address.
async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let head = match request.split([' ', '?']).nth(1).unwrap() {
        "/good" => "200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "/moved" => "302 Found\r\nlocation: /good\r\ncontent-length: 0\r\n\r\n",
        "/loop" => "302 Found\r\nlocation: /loop\r\ncontent-length: 0\r\n\r\n",
        "/file" => "302 Found\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n",
        "/broken" => "503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
        "/busy" => "429 Too Many Requests\r\ncontent-length: 0\r\n\r\n",
        "/declared" => "200 OK\r\ncontent-length: 1000000000000\r\n\r\n",
        "/cut" => "200 OK\r\ncontent-length: 100\r\n\r\nhello",
        "/huge" | "/slow" => "200 OK\r\n\r\n",
        _ => "404 Not Found\r\ncontent-length: 0\r\n\r\n",
    };
    stream.write_all(format!("HTTP/1.1 {head}").as_bytes()).await?;
    if request.contains("/huge") {
        // Without end, and without a declared length, until the other side has had enough.
        while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
    }
    if request.contains("/slow") {
        stream.write_all(b"drop").await?;
        std::future::pending::<()>().await;
    }
    Ok(())
}

fn options() -> FetchOptions {
    let limits = Limits { packed: 100_000, ..Limits::default() };
    FetchOptions { timeout: Duration::from_secs(20), ..FetchOptions::new(limits).unwrap() }
}

#[tokio::test]
async fn what_is_there_is_fetched() {
    let server = serve().await;
    for path in ["/good", "/good?token=x", "/moved"] {
        assert_eq!(fetch(&format!("{server}{path}"), &options()).await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn refusals_and_absences_are_told_apart() {
    let server = serve().await;
    let get = async |path: &str| fetch(&format!("{server}{path}"), &options()).await.unwrap_err();
    assert!(matches!(get("/absent").await, FetchError::Refused { status: Some(404), .. }));
    assert!(matches!(get("/loop").await, FetchError::Refused { status: None, .. }));
    // A redirect to what is not http(s) is not followed.
    assert!(matches!(get("/file").await, FetchError::Refused { status: Some(302), .. }));
    for path in ["/broken", "/busy", "/cut"] {
        assert!(matches!(get(path).await, FetchError::Unreachable { .. }), "{path}");
    }
    for path in ["/huge", "/declared"] {
        assert!(matches!(get(path).await, FetchError::TooLarge { limit: 100_000, .. }), "{path}");
    }
    let hasty = FetchOptions { timeout: Duration::from_millis(100), ..options() };
    let error = fetch(&format!("{server}/slow"), &hasty).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn hosts_that_are_not_there_are_unreachable() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for url in
        [format!("http://me:secret@{closed}/a.zip?signature=hidden"), "https://no.such.host.invalid/a".into()]
    {
        let error = fetch(&url, &options()).await.unwrap_err();
        assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
        let text = error.to_string();
        assert!(!text.contains("secret") && !text.contains("hidden"), "{text}");
    }
}

#[tokio::test]
async fn only_web_addresses_are_fetched() {
    for url in ["file:///etc/passwd", "ftp://h.example/x", "data:text/plain,x", "code/function.py", ""] {
        assert!(matches!(fetch(url, &options()).await, Err(FetchError::BadUrl { .. })), "{url}");
    }
}
