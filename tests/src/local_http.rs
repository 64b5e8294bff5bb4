//! Plain HTTP to programs on this machine: health, metrics, etcd. Knows no TLS.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// GET `path` at 127.0.0.1:`port`.
pub async fn get(port: u16, path: &str) -> Result<Answer> {
    send(port, path, &format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n")).await
}

/// POST JSON to `path` at 127.0.0.1:`port`.
pub async fn post(port: u16, path: &str, body: &str) -> Result<Answer> {
    let head = format!("POST {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json");
    send(port, path, &format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await
}

// HTTP/1.0: the answer ends where the connection does.
async fn send(port: u16, path: &str, request: &str) -> Result<Answer> {
    let answer = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        std::io::Result::Ok(bytes)
    };
    let what = || format!("no answer from 127.0.0.1:{port}{path}");
    let bytes = tokio::time::timeout(Duration::from_secs(10), answer).await.with_context(what)?.with_context(what)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) =
        text.split_once("\r\n\r\n").with_context(|| format!("127.0.0.1:{port}{path} does not answer in HTTP"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("127.0.0.1:{port}{path} does not answer in HTTP"))?;
    Ok(Answer { status, body: body.to_owned() })
}
