//! gRPC calls of prepared bytes, many at once over few connections. Decodes no answer, so that a call costs little; knows no
//! message.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A method, and the request to it.
#[derive(Clone, Debug)]
pub struct Call {
    path: PathAndQuery,
    request: Bytes,
}

/// How many calls went through, and how long each took.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Calls that were answered.
    pub calls: usize,
    /// Calls a second.
    pub rate: f64,
    /// Time of the call in the middle, seconds.
    pub p50: f64,
    /// Time that 99 of 100 calls kept, seconds.
    pub p99: f64,
}

/// Dials an address several times.
pub async fn dial(address: &str, connections: usize) -> Result<Vec<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.connect_timeout(Duration::from_secs(10));
    let mut channels = Vec::new();
    for _ in 0..connections {
        channels.push(endpoint.connect().await.with_context(|| format!("could not dial {address}"))?);
    }
    Ok(channels)
}

/// Keeps `at_once` calls going for a while, spread over the connections. Every answer has `bytes` bytes, or this fails.
pub async fn press(channels: &[Channel], call: &Call, bytes: usize, at_once: usize, lasting: Duration) -> Result<Pace> {
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for channel in channels.iter().cycle().take(at_once) {
        let (channel, call) = (channel.clone(), call.clone());
        callers.spawn(async move {
            let mut took = Vec::with_capacity(1 << 14);
            while start.elapsed() < lasting {
                let began = Instant::now();
                let answer = call.once(&channel).await?;
                took.push(began.elapsed());
                anyhow::ensure!(answer.len() == bytes, "an answer of {} bytes instead of {bytes}", answer.len());
            }
            Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(caller) = callers.join_next().await {
        took.extend(caller??);
    }
    let rate = took.len() as f64 / start.elapsed().as_secs_f64();
    took.sort();
    let at = |share: f64| took.get(((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1)));
    let at = |share| at(share).map(Duration::as_secs_f64).context("no call was answered");
    Ok(Pace { calls: took.len(), rate, p50: at(0.5)?, p99: at(0.99)? })
}

impl Call {
    /// A call of a method, e.g. `/package.Service/Method`.
    pub fn new(path: &'static str, request: &impl prost::Message) -> Call {
        Call { path: PathAndQuery::from_static(path), request: request.encode_to_vec().into() }
    }

    /// Calls once and gives the answer's bytes.
    pub async fn once(&self, channel: &Channel) -> Result<Bytes> {
        let mut client = Grpc::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        client.ready().await?;
        Ok(client.unary(Request::new(self.request.clone()), self.path.clone(), Raw).await?.into_inner())
    }

    /// Calls and gives the stream of answers.
    pub async fn stream(&self, channel: &Channel) -> Result<Streaming<Bytes>> {
        let mut client = Grpc::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        client.ready().await?;
        Ok(client.server_streaming(Request::new(self.request.clone()), self.path.clone(), Raw).await?.into_inner())
    }
}

/// Bytes as they come.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
