//! Keeps the certificate authority in its Secret, its certificate as `caBundle` in the definition of databases and in the
//! ValidatingWebhookConfiguration, and a fresh certificate in use. Watches these three objects; knows nothing of what is converted.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::certs::{Authority, Served};
use super::{Options, SECRET};
use atomix_model::crd::definitions::DATABASES;
use atomix_model::limits;

const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
const EXPIRES: &str = "ca.expires";

/// Runs for ever. What the API server refuses is tried again, with back-off.
pub async fn sync(client: Client, options: &Options, served: &Served, ready: &watch::Sender<bool>) -> Infallible {
    let mut state = CaBundleSync {
        secrets: Api::namespaced(client.clone(), &options.namespace),
        definitions: Api::all(client.clone()),
        reviews: Api::all(client),
        review: None,
        secret: None,
        definition: None,
        serving: None,
    };
    let mut secrets =
        pin!(watcher::watch_object(state.secrets.clone(), SECRET).backoff(atomix_controller_io::cache::backoff()));
    let mut definitions =
        pin!(watcher::watch_object(state.definitions.clone(), DATABASES).backoff(atomix_controller_io::cache::backoff()));
    let mut reviews =
        pin!(watcher::watch_object(state.reviews.clone(), &options.service).backoff(atomix_controller_io::cache::backoff()));
    let mut failures = 0;
    loop {
        let pause = match state.sync(options, served).await {
            Ok(settled) => {
                failures = 0;
                if settled {
                    ready.send_if_modified(|ready| !std::mem::replace(ready, true));
                }
                Duration::from_secs(60 * 60) // a certificate is renewed within the hour of its time
            }
            Err(reason) => {
                failures += 1;
                tracing::warn!(reason = format!("{reason:#}"), "the webhook is not trusted yet");
                Duration::from_secs((1 << failures.min(10)).min(limits::WEBHOOK_RETRY_SECS_MAX))
            }
        };
        tokio::select! {
            Some(event) = secrets.next() => match event {
                Ok(secret) => state.secret = Some(secret),
                Err(reason) => tracing::warn!(%reason, "cannot watch Secret {}/{SECRET}", options.namespace),
            },
            Some(event) = definitions.next() => match event {
                Ok(definition) => state.observed(definition.as_ref().map(Definition::of)),
                Err(reason) => tracing::warn!(%reason, "cannot watch CustomResourceDefinition {DATABASES}"),
            },
            Some(event) = reviews.next() => match event {
                Ok(review) => state.review = review,
                Err(reason) => tracing::warn!(%reason, "cannot watch ValidatingWebhookConfiguration {}", options.service),
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct CaBundleSync {
    secrets: Api<Secret>,
    definitions: Api<CustomResourceDefinition>,
    reviews: Api<ValidatingWebhookConfiguration>,
    /// As last seen, if it is there: without it nothing is reviewed, and all else goes on.
    review: Option<ValidatingWebhookConfiguration>,
    /// As last seen; the outer `None` is "not yet", the inner one "not there".
    secret: Option<Option<Secret>>,
    definition: Option<Option<Definition>>,
    serving: Option<(Authority, OffsetDateTime)>,
}

/// What matters of a definition.
#[derive(Debug, PartialEq)]
struct Definition {
    uid: Option<String>,
    generation: Option<i64>,
    converts_by_webhook: bool,
    ca_bundle: Option<Vec<u8>>,
}

impl CaBundleSync {
    /// Records what the watch brings, unless it is older than our own write.
    fn observed(&mut self, seen: Option<Definition>) {
        if let (Some(Some(known)), Some(seen)) = (&self.definition, &seen)
            && known.uid == seen.uid
            && known.generation > seen.generation
        {
            return;
        }
        self.definition = Some(seen);
    }

    /// Does what is missing: an authority in the Secret, a certificate in service, the authority in the definition, in this
    /// order. True if nothing is missing any more.
    async fn sync(&mut self, options: &Options, served: &Served) -> anyhow::Result<bool> {
        let Some(secret) = self.secret.take() else { return Ok(false) };
        let secret = self.secret.insert(secret);
        let Some(secret) = secret else {
            anyhow::bail!("Secret {}/{SECRET} is missing: apply the controller's manifest again", options.namespace);
        };
        let now = OffsetDateTime::now_utc();
        let stored = authority_in(secret);
        let fresh = |it: &(Authority, OffsetDateTime)| {
            Some(&it.0) == stored.as_ref() && now - it.1 < time::Duration::hours(limits::CERTIFICATE_AGE_HOURS_MAX)
        };
        if !self.serving.as_ref().is_some_and(fresh) {
            let usable = stored.map(|it| it.certificate(&options.names(), now).map(|certificate| (it, certificate)));
            let (authority, certificate) = match usable {
                Some(Ok(usable)) => usable,
                broken => {
                    if let Some(Err(reason)) = broken {
                        tracing::warn!(reason = format!("{reason:#}"), "the webhook gets a new authority");
                    }
                    let authority = Authority::new(now)?;
                    let certificate = authority.certificate(&options.names(), now)?;
                    // its resourceVersion makes the first of two controllers win; the other sees that by its watch
                    let wanted = with_authority(secret.clone(), &authority);
                    *secret = self
                        .secrets
                        .replace(SECRET, &PostParams::default(), &wanted)
                        .await
                        .with_context(|| format!("could not keep the webhook's authority in Secret {SECRET}"))?;
                    (authority, certificate)
                }
            };
            served.replace(certificate);
            self.serving = Some((authority, now));
        }
        let is_patched = self.patch_definition().await?;
        self.patch_webhook_configuration().await?;
        Ok(is_patched)
    }

    /// Puts the authority into the configuration of reviews, if there is one, unless it is there.
    async fn patch_webhook_configuration(&mut self) -> anyhow::Result<()> {
        let (Some((authority, _)), Some(review)) = (&self.serving, &self.review) else { return Ok(()) };
        let name = review.metadata.name.clone().unwrap_or_default();
        let trusted = authority.certificate_pem.as_bytes();
        let webhooks = review.webhooks.as_deref().unwrap_or_default();
        let outdated = webhooks.iter().filter(|it| it.client_config.ca_bundle.as_ref().is_none_or(|it| it.0 != trusted));
        let bundle = ByteString(trusted.to_vec());
        let patches: Vec<_> = outdated.map(|it| json!({"name": it.name, "clientConfig": {"caBundle": bundle}})).collect();
        if patches.is_empty() {
            return Ok(());
        }
        let patch = Patch::Strategic(json!({"webhooks": patches}));
        let patched =
            self.reviews.patch(&name, &PatchParams::default(), &patch).await.with_context(|| {
                format!("could not put the webhook's authority into ValidatingWebhookConfiguration {name}")
            })?;
        self.review = Some(patched);
        Ok(())
    }

    /// Puts the authority into the definition, unless it is there.
    async fn patch_definition(&mut self) -> anyhow::Result<bool> {
        let (Some((authority, _)), Some(definition)) = (&self.serving, &self.definition) else { return Ok(false) };
        let Some(definition) = definition else {
            anyhow::bail!("CustomResourceDefinition {DATABASES} is missing: apply the controller's manifest again");
        };
        anyhow::ensure!(
            definition.converts_by_webhook,
            "CustomResourceDefinition {DATABASES} does not convert by webhook: apply the controller's manifest again"
        );
        if definition.ca_bundle.as_deref() == Some(authority.certificate_pem.as_bytes()) {
            return Ok(true);
        }
        let bundle = ByteString(authority.certificate_pem.clone().into_bytes());
        let patch = json!({"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": bundle}}}}});
        let patched =
            self.definitions.patch(DATABASES, &PatchParams::default(), &Patch::Merge(patch)).await.with_context(|| {
                format!("could not put the webhook's authority into CustomResourceDefinition {DATABASES}")
            })?;
        self.definition = Some(Some(Definition::of(&patched)));
        tracing::info!("the API server trusts the conversion webhook from now on");
        Ok(true)
    }
}

impl Definition {
    fn of(definition: &CustomResourceDefinition) -> Self {
        let conversion = definition.spec.conversion.as_ref();
        let config = conversion.and_then(|it| it.webhook.as_ref()).and_then(|it| it.client_config.as_ref());
        Self {
            uid: definition.metadata.uid.clone(),
            generation: definition.metadata.generation,
            converts_by_webhook: conversion.is_some_and(|it| it.strategy == "Webhook") && config.is_some(),
            ca_bundle: config.and_then(|it| it.ca_bundle.as_ref()).map(|it| it.0.clone()),
        }
    }
}

/// The authority that a Secret keeps, if it holds all parts of one.
fn authority_in(secret: &Secret) -> Option<Authority> {
    let text = |key| String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok();
    Some(Authority { certificate_pem: text(CERTIFICATE)?, key_pem: text(KEY)?, expires: text(EXPIRES)?.parse().ok()? })
}

fn with_authority(mut secret: Secret, authority: &Authority) -> Secret {
    let parts = [
        (CERTIFICATE, authority.certificate_pem.clone()),
        (KEY, authority.key_pem.clone()),
        (EXPIRES, authority.expires.to_string()),
    ];
    let data = secret.data.get_or_insert_default();
    data.extend(parts.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))));
    secret
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_secret_keeps_an_authority_and_an_empty_one_has_none() {
        let empty = Secret::default();
        assert_eq!(authority_in(&empty), None);
        let authority = Authority::new(OffsetDateTime::now_utc()).unwrap();
        let mut secret = with_authority(empty, &authority);
        assert_eq!(authority_in(&secret), Some(authority));
        secret.data.as_mut().unwrap().remove(KEY);
        assert_eq!(authority_in(&secret), None);
    }

    #[test]
    fn the_definition_that_is_shipped_trusts_no_authority_yet() {
        let shipped = atomix_model::crd::definitions::all().remove(0);
        assert_eq!(
            Definition::of(&shipped),
            Definition { uid: None, generation: None, converts_by_webhook: true, ca_bundle: None }
        );
    }
}
