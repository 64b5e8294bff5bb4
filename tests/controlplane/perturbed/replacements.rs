//! A plugin is replaced every second, each time by other bytes that plan the same, while a database lives.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::dist;
use harness::eventually::{Eventually, eventually};
use harness::kubectl::Kubectl;

use super::walk::{Ground, STEPS, Step};

/// How long each step goes on under replacements: a minute in all.
const EACH: Duration = Duration::from_secs(12);
/// What is kept once all is quiet: the revision that serves, three that served before, and the newest three.
const KEPT_MAX: usize = 7;

/// The plugin's bytes with a number in a custom section: another digest, the same plans.
fn numbered(number: u16) -> Result<Vec<u8>> {
    let mut bytes = std::fs::read(dist::wasm("raft"))?;
    let [high, low] = number.to_be_bytes();
    bytes.extend([0, 4, 1, b'n', high, low]); // section 0 (custom) of four bytes: a name of one, and two more
    Ok(bytes)
}

async fn replace(ground: &Ground, number: &mut u16) -> Result<Infallible> {
    loop {
        *number += 1;
        ground.overwrite_plugin(&numbered(*number)?).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn walk(ground: &Ground) -> Result<u16> {
    let mut number = 0;
    for step in STEPS.into_iter().filter(|step| !matches!(step, Step::ReplacePlugin | Step::Accept | Step::CleanUp)) {
        let take = async {
            ground.take(step).await?;
            tokio::time::sleep(EACH).await;
            anyhow::Ok(())
        };
        tokio::select! {
            replaced = replace(ground, &mut number) => match replaced? {},
            taken = take => taken?,
        }
        ground.replace_plugin(&std::fs::read(dist::wasm("raft"))?).await?;
        ground.ends_as_expected(step).await?;
    }
    ground.take(Step::CleanUp).await?;
    ground.ends_as_expected(Step::CleanUp).await?;
    Ok(number)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_may_be_replaced_every_second() {
    let ground = Ground::new("replacements", 1).await;
    let replaced = walk(&ground).await.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(replaced >= 10, "{replaced} replacements in a minute"); // each takes a moment besides
    ground.is_silent().await;
    let kubectl = Kubectl::new(&ground.plane).namespace("kube-system");
    let left = eventually(Duration::from_secs(30), "older revisions are let go", || async {
        let args = ["get", "configmaps", "-l", "storage.cloud.atomix.io/revision-of=raft", "-o", "name"];
        let printed = kubectl.run(args).await.context("listing revisions")?;
        Ok(Eventually::when(printed.lines().count() <= KEPT_MAX, || printed))
    });
    left.await.unwrap();
}
