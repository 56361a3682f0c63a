//! A connection after 101: bytes both ways.

use engine::Body;
use engine::operation::Answer;
use http::{StatusCode, header};
use tokio::io::AsyncWriteExt;

use crate::attached::Waiting;
use crate::audit::Open;
use crate::dial::{Download, head as request_head};
use crate::receive::{Head, Receiver};
use crate::relay::{End, Moved, relay};
use crate::respond::Refusal;
use crate::serve::refuse;

use super::give::send;
use super::{Exchange, Next};

impl Exchange<'_> {
    pub(super) fn is_tunnel(&self) -> bool {
        let request = self.permitted.request();
        let detached = matches!(&request.body, Body::ExecStart(start) if start.detach == Some(true));
        request.operation.answer == Answer::Tunnel && !detached
    }

    /// Asks for a tunnel, and keeps it until it ends.
    pub(super) async fn tunnel<S: End>(&self, mut receiver: Receiver<S>, head: &Head, open: &mut Open) -> Next<S> {
        let asked = match request_head(&self.permitted.encode(self.version())) {
            Ok(mut request) => {
                request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
                request.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("tcp"));
                let engine = self.shared.resolver.engine();
                tokio::select! {
                    biased;
                    answered = engine.exchange_alone(request) => answered,
                    () = receiver.gone() => return Next::Over,
                }
            }
            Err(error) => Err(error),
        };
        let answered = match asked {
            Ok(answered) => answered,
            Err(error) => {
                let good = refuse(&mut receiver, open, &Refusal::Engine(error), false).await;
                return if good && !head.close { Next::Another(receiver) } else { Next::Over };
            }
        };
        open.record.status = answered.response.status().as_u16();
        if answered.response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return match self.give(&mut receiver, (answered, None), head, open).await {
                Ok(()) if !head.close => Next::Another(receiver),
                Ok(()) | Err(()) => Next::Over,
            };
        }
        let (response, _) = answered.into_parts();
        let kind = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or("application/vnd.docker.raw-stream")
            .to_owned();
        let Download::Alone(alone) = response.into_body() else { return Next::Over };
        let Some((mut engine, first)) = alone.into_stream() else { return Next::Over };
        // A client that did not ask for an upgrade gets what the engine gives one: 200, and the same bytes.
        let reply = match &head.upgrade {
            Some(_) => format!("HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"),
            None => format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n"),
        };
        if send(&mut receiver, reply.as_bytes()).await.is_err() {
            return Next::Over;
        }
        let (mut client, early) = receiver.into_parts();
        let attached = self.waits(Waiting::ForItsOutput);
        let moved = tokio::select! {
            (moved, _) = relay(&mut client, &mut engine, early, first) => moved,
            // Its container will not start: the engine would keep the stream open for ever, and the client would wait for it.
            () = attached.ended() => Moved::default(),
        };
        open.record.bytes = [open.record.bytes[0] + moved.up, moved.down];
        let _ = client.shutdown().await;
        Next::Over
    }
}
