//! One run: the request, what the policy asks and says meanwhile, and its answer.

use std::future::Future;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until};

use crate::host::{ContextOp, Host};
use crate::logs::{LogRecord, Logs, Stream, WireRecord};
use crate::process::describe;
use crate::template::{Child, Ended, Ready, WireFault};
use crate::{Fault, Limit, Limits, LogSink, RuntimeConfig};

/// What a frame may be longer than a result: its wrapping, or a fault with its traceback.
pub(crate) const FRAME_SLACK: usize = 64 << 10;
pub(crate) const HEADER: usize = 5;
/// The kernel limits the exact CPU time, but reports it in ticks.
const CPU_SLACK: Duration = Duration::from_millis(250);

/// The worker's answer to an operation.
#[derive(Debug, Deserialize)]
pub(crate) struct Reply {
    pub(crate) result: Box<RawValue>,
    #[serde(default)]
    pub(crate) settings: Option<Box<RawValue>>,
    #[serde(default)]
    pub(crate) parameters: Option<Box<RawValue>>,
}

/// A run's surroundings.
pub(crate) struct Conversation<'a> {
    pub(crate) host: &'a dyn Host,
    pub(crate) uri: &'a str,
    pub(crate) limits: &'a Limits,
    pub(crate) config: &'a RuntimeConfig,
    pub(crate) sink: Option<LogSink<'a>>,
}

/// Why a conversation ended without a reply.
pub(crate) enum Broken {
    /// The other side closed: it has ended, or will.
    Closed,
    /// It sent what no worker sends.
    Protocol,
    Fault(Fault),
}

pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<serde_json::Value, String>> + Send + 'a>>;

impl Conversation<'_> {
    /// Have `child` do what `request` (a whole frame) says.
    pub(crate) async fn hold(
        &self,
        mut child: Child,
        request: &[u8],
    ) -> (Result<Reply, Fault>, Vec<LogRecord>) {
        let mut logs = Logs::new(self.config.log_limit);
        let show = |record: &LogRecord| self.show(record);
        let Some(io) = child.io() else { return (Err(Fault::Internal("no child".to_owned())), Vec::new()) };
        let ended = self.exchange(io, request, &mut logs).await;
        drain(&io.stdout, Stream::Stdout, &mut logs, self.config.output_limit, &show);
        drain(&io.stderr, Stream::Stderr, &mut logs, self.config.output_limit, &show);
        let result = match ended {
            Ok(frame) => {
                let result = self.reply(&frame);
                match &result {
                    // Memory that ran out may have left the process in any state.
                    Err(Fault::Limit(_)) => drop(child),
                    _ => child.done(),
                }
                result
            }
            Err(Broken::Fault(fault)) => {
                child.end().await;
                Err(fault)
            }
            Err(Broken::Protocol) => {
                child.end().await;
                Err(Fault::Crashed { how: "wrote to its own connection to the host".to_owned() })
            }
            Err(Broken::Closed) => Err(self.crash(child.end().await)),
        };
        (result, logs.finish(&show))
    }

    fn show(&self, record: &LogRecord) {
        self.host.log(self.uri, record);
        if let Some(sink) = self.sink {
            sink(record);
        }
    }

    async fn exchange(&self, io: &mut Ready, request: &[u8], logs: &mut Logs) -> Result<Frame, Broken> {
        let deadline = sleep_until(Instant::now() + self.limits.timeout);
        tokio::pin!(deadline);
        let show = |record: &LogRecord| self.show(record);
        let (mut reader, mut writer) = io.socket.split();
        let most = self.config.result_limit + FRAME_SLACK;
        let mut frames = Frames::new(most);
        let mut unsent = request.to_vec();
        let mut sent = match writer.try_write(&unsent) {
            Ok(size) => size,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(_) => return Err(Broken::Closed),
        };
        let mut answer: Option<Answer<'_>> = None;
        let (mut stdout_open, mut stderr_open) = (true, true);
        let (mut out, mut err) = ([0_u8; 8192], [0_u8; 8192]);
        loop {
            if logs.seen() > self.config.output_limit {
                return Err(Broken::Fault(Fault::Limit(Limit::Output(self.config.output_limit))));
            }
            tokio::select! {
                biased;
                () = &mut deadline => return Err(Broken::Fault(Fault::Limit(Limit::Timeout(self.limits.timeout)))),
                frame = frames.next(&mut reader) => {
                    let frame = frame?;
                    match frame.kind {
                        b'D' | b'E' => return Ok(frame),
                        b'L' => {
                            let record = serde_json::from_slice::<WireRecord>(&frame.payload).map_err(|_| Broken::Protocol)?;
                            logs.record(record.into(), frame.payload.len(), &show);
                        }
                        b'X' if answer.is_none() => {
                            let operation = serde_json::from_slice::<ContextOp>(&frame.payload).map_err(|_| Broken::Protocol)?;
                            answer = Some(self.host.context(self.uri, operation));
                        }
                        _ => return Err(Broken::Protocol),
                    }
                }
                written = writer.write(unsent.get(sent..).unwrap_or_default()), if sent < unsent.len() => {
                    sent += written.map_err(|_| Broken::Closed)?;
                }
                value = async { match answer.as_mut() { Some(answer) => answer.await, None => std::future::pending().await } } => {
                    answer = None;
                    let reply = match value {
                        Ok(value) => serde_json::json!({ "ok": value }),
                        Err(error) => serde_json::json!({ "error": error }),
                    };
                    unsent.drain(..sent);
                    sent = 0;
                    unsent.extend(frame_of(b'C', &[reply.to_string().as_bytes()]));
                }
                size = io.stdout.read(&mut out), if stdout_open => match size {
                    Ok(size) if size > 0 => logs.output(Stream::Stdout, out.get(..size).unwrap_or_default(), &show),
                    _ => stdout_open = false,
                },
                size = io.stderr.read(&mut err), if stderr_open => match size {
                    Ok(size) if size > 0 => logs.output(Stream::Stderr, err.get(..size).unwrap_or_default(), &show),
                    _ => stderr_open = false,
                },
            }
        }
    }

    fn reply(&self, frame: &Frame) -> Result<Reply, Fault> {
        let forged = |_| Fault::Crashed { how: "wrote to its own connection to the host".to_owned() };
        if frame.kind == b'D' {
            let reply: Reply = serde_json::from_slice(&frame.payload).map_err(forged)?;
            return if reply.result.get().len() > self.config.result_limit {
                Err(Fault::Limit(Limit::Result(self.config.result_limit)))
            } else {
                Ok(reply)
            };
        }
        let fault = serde_json::from_slice(&frame.payload).map_err(forged)?;
        Err(fault_of(fault, self.limits, self.config.result_limit))
    }

    fn crash(&self, ended: Option<Ended>) -> Fault {
        let Some(ended) = ended else { return Fault::Crashed { how: "ended".to_owned() } };
        let killed = ended.status.code().is_none();
        match self.limits.cpu_seconds {
            Some(seconds) if killed && ended.cpu + CPU_SLACK >= Duration::from_secs(seconds) => {
                Fault::Limit(Limit::Cpu(seconds))
            }
            // The signal that ends a child without an answer is the host's own, unless it had ended by itself.
            _ if std::os::unix::process::ExitStatusExt::signal(&ended.status) == Some(libc::SIGKILL) => {
                Fault::Crashed { how: "closed its connection to the host, or was killed".to_owned() }
            }
            _ => Fault::Crashed { how: describe(ended.status) },
        }
    }
}

/// A worker's fault in the runtime's terms.
pub(crate) fn fault_of(wire: WireFault, limits: &Limits, result_limit: usize) -> Fault {
    let WireFault { fault, kind, message, traceback } = wire;
    match fault.as_str() {
        "load" => Fault::Load { kind, message, traceback },
        "memory" => Fault::Limit(Limit::Memory(limits.memory_mb)),
        "cpu" => Fault::Limit(Limit::Cpu(limits.cpu_seconds.unwrap_or_default())),
        "result" => Fault::Limit(Limit::Result(result_limit)),
        "not_json" => Fault::OutputNotJson { place: message },
        "no_management" => Fault::NoManagement,
        _ => Fault::Failed { kind, message, traceback },
    }
}

/// A worker's fault out of its JSON; `None` when no worker would send it.
pub(crate) fn fault_of_wire(payload: &[u8], limits: &Limits, result_limit: usize) -> Option<Fault> {
    serde_json::from_slice(payload).ok().map(|wire| fault_of(wire, limits, result_limit))
}

/// A frame: kind, length, and a payload of several parts.
pub(crate) fn frame_of(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(HEADER + size);
    frame.push(kind);
    frame.extend((size as u32).to_le_bytes());
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}

/// Kind and payload's length of the frame that `buffer` begins with, once its header is there.
pub(crate) fn header(buffer: &[u8]) -> Option<(u8, usize)> {
    let [kind, a, b, c, d] = *buffer.first_chunk::<HEADER>()?;
    Some((kind, u32::from_le_bytes([a, b, c, d]) as usize))
}

/// What has arrived of the next frame. Survives a read that is given up half-way.
pub(crate) struct Frames {
    buffer: Vec<u8>,
    most: usize,
}

impl Frames {
    /// Frames of at most so many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { buffer: Vec::new(), most }
    }

    pub(crate) async fn next(
        &mut self,
        reader: &mut tokio::net::unix::ReadHalf<'_>,
    ) -> Result<Frame, Broken> {
        loop {
            if let Some((kind, size)) = header(&self.buffer) {
                if size > self.most {
                    return Err(Broken::Protocol);
                }
                if let Some(payload) = self.buffer.get(HEADER..HEADER + size) {
                    let frame = Frame { kind, payload: payload.to_vec() };
                    self.buffer.drain(..HEADER + size);
                    return Ok(frame);
                }
            }
            self.buffer.reserve(8192);
            match reader.read_buf(&mut self.buffer).await {
                Ok(size) if size > 0 => {}
                _ => return Err(Broken::Closed),
            }
        }
    }
}

/// What is in a pipe right now. The event loop may not have seen it yet, so the pipe itself is asked.
fn drain(pipe: &impl AsFd, stream: Stream, logs: &mut Logs, limit: usize, show: &dyn Fn(&LogRecord)) {
    let mut buffer = [0; 8192];
    while let Ok(size @ 1..) = nix::unistd::read(pipe.as_fd(), &mut buffer) {
        logs.output(stream, buffer.get(..size).unwrap_or_default(), show);
        if logs.seen() > limit {
            return;
        }
    }
}
