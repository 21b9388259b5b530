//! What a replica prints, logs, and asks its context.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::ReplicaLog;
use crate::conversation::{Frames, frame_of};
use crate::host::{ContextOp, Host};
use crate::logs::{LogRecord, Logs, Stream, WireRecord};
use crate::template::{Ready, Template};

/// Longest log record or context operation.
const LONGEST: usize = 16 << 20;
/// Bytes of lines that one read can bring, so that none is dropped.
const KEEP: usize = usize::MAX;

/// Whom it is told to, and under which names.
pub(super) struct Told {
    pub(super) uri: String,
    pub(super) scope: String,
    pub(super) log: ReplicaLog,
}

/// Listens until the replica ends; one that breaks the protocol is ended.
pub(super) async fn listen(template: Arc<Template>, ready: Ready, host: Arc<dyn Host>, told: Told) {
    let Ready { mut socket, mut stdout, mut stderr, .. } = ready;
    let (mut reader, mut writer) = socket.split();
    let mut frames = Frames::new(LONGEST);
    let mut logs = Logs::new(KEEP);
    let show = |record: &LogRecord| {
        host.log(&told.uri, record);
        (told.log)(record);
    };
    let (mut stdout_open, mut stderr_open) = (true, true);
    let (mut out, mut err) = ([0_u8; 4096], [0_u8; 4096]);
    loop {
        tokio::select! {
            frame = frames.next(&mut reader) => {
                let Ok(frame) = frame else { break };
                match frame.kind {
                    b'L' => match serde_json::from_slice::<WireRecord>(&frame.payload) {
                        Ok(record) => logs.record(record.into(), frame.payload.len(), &show),
                        Err(_) => break,
                    },
                    b'X' => {
                        let Ok(operation) = serde_json::from_slice::<ContextOp>(&frame.payload) else { break };
                        let reply = match host.context(&told.scope, operation).await {
                            Ok(value) => serde_json::json!({ "ok": value }),
                            Err(error) => serde_json::json!({ "error": error }),
                        };
                        let reply = frame_of(b'C', &[reply.to_string().as_bytes()]);
                        if writer.write_all(&reply).await.is_err() {
                            break;
                        }
                    }
                    _ => break,
                }
            }
            size = stdout.read(&mut out), if stdout_open => match size {
                Ok(size @ 1..) => logs.output(Stream::Stdout, out.get(..size).unwrap_or_default(), &show),
                _ => stdout_open = false,
            },
            size = stderr.read(&mut err), if stderr_open => match size {
                Ok(size @ 1..) => logs.output(Stream::Stderr, err.get(..size).unwrap_or_default(), &show),
                _ => stderr_open = false,
            },
        }
        logs.forget();
    }
    template.kill();
    logs.finish(&show);
}
