//! The contract of a sink, on a standard queue and on a FIFO queue of moto.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use async_trait::async_trait;
use cognigy_core::{DeadLetterSink, testing::sink_conformance::SinkFixture};
use cognigy_sink_sqs::SqsSink;
use common::{Moto, options};

struct Queue {
    sink: SqsSink,
    moto: Moto,
    url: String,
}

impl Queue {
    async fn called(name: &str) -> Self {
        let moto = Moto::start();
        let url = moto.queue(name, &[]).await;
        let sink = SqsSink::connect_with(&url, options(&moto.endpoint)).await.unwrap();
        Self { sink, moto, url }
    }
}

#[async_trait]
impl SinkFixture for Queue {
    fn sink(&self) -> &dyn DeadLetterSink {
        &self.sink
    }

    async fn messages(&self) -> Vec<String> {
        let messages = self.moto.drain(&self.url).await;
        messages.into_iter().map(|message| message.body.unwrap()).collect()
    }
}

mod standard {
    use super::*;

    async fn fresh() -> Queue {
        Queue::called("dlq").await
    }

    cognigy_core::sink_conformance!(#[tokio::test], fresh);
}

mod fifo {
    use super::*;

    async fn fresh() -> Queue {
        Queue::called("dlq.fifo").await
    }

    cognigy_core::sink_conformance!(#[tokio::test], fresh);
}
