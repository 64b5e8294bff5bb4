//! What the catalog makes of plugins as they come, are loaded, refused and taken away: with real components, without a cluster.

use std::collections::{BTreeMap, BTreeSet};

use super::components::{self, sandbox};
use atomix_controller_io::metrics::PluginPhase;
use atomix_controller_kube::catalog::{Catalog, Found, Kept, Recorded, Source, config_map_name};
use atomix_model::condition::{PluginPhase as Phase, Reason};
use atomix_model::grants::Grants;
use serde_json::json;

const RAFT: &str = "atomix.raft.config.ProtocolConfig";

/// What is found of a plugin whose bytes are there and are not loaded, and which may write everything.
fn found(name: &str, bytes: Vec<u8>) -> Found {
    let stamp = format!("{:?}", &bytes[..8]);
    let source =
        Source { name: name.to_owned(), plugin: name.to_owned(), stamp, pinned: None, created: 1, bytes: Ok(bytes.into()) };
    let all = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let recorded = listing([kept("raft").digest]);
    Found { sources: vec![source], grants: Some(Grants::of(&all)), kept: vec![kept("raft")], recorded, ..Found::default() }
}

/// The state of a StoragePlugin that lists revisions, none of which served yet.
fn listing(digests: impl IntoIterator<Item = String>) -> Recorded {
    Recorded { listed: digests.into_iter().collect(), ..Recorded::default() }
}

/// The revision of a plugin, kept as it is in a cluster before it serves.
fn kept(name: &str) -> Kept {
    let digest = atomix_sandbox::digest_of(&components::bytes(name));
    Kept {
        config_map: config_map_name(name, &digest),
        uid: "uid".to_owned(),
        plugin: name.to_owned(),
        digest,
        version: "0.1.0".to_owned(),
        created: 1,
    }
}

#[test]
fn a_revision_serves_once_it_is_kept_and_listed_and_what_served_before_serves_at_once() {
    let (bytes, loaded) = (components::bytes("raft"), || Some(Ok(components::plugin("raft"))));
    let digest = atomix_sandbox::digest_of(&bytes);
    let unlisted = Recorded::default;
    let new = || Found { loaded: loaded(), kept: Vec::new(), recorded: unlisted(), ..found("raft", bytes.clone()) };
    let (catalog, serves) = (Catalog::default(), |catalog: &Catalog| catalog.serving("RaftStorageClass").is_some());
    catalog.settle("raft", new());
    assert!(!serves(&catalog), "it is not kept");
    let expected = "no plugin serves any kind; plugins that are being loaded: raft";
    assert_eq!(catalog.alternatives(), expected);
    assert_eq!(catalog.phases(), [Phase::Loading]);
    assert_eq!(catalog.to_keep("raft").map(|plugin| plugin.revision.digest().to_owned()), Some(digest.clone()));
    catalog.settle("raft", Found { kept: vec![kept("raft")], ..new() });
    assert!(!serves(&catalog) && catalog.to_keep("raft").is_none(), "a ConfigMap alone states nothing that is believed");
    catalog.settle("raft", Found { recorded: listing([digest.clone()]), ..new() });
    assert!(!serves(&catalog), "it is listed and not kept");
    catalog.settle("raft", Found { kept: vec![kept("raft")], recorded: listing([digest.clone()]), ..new() });
    assert!(serves(&catalog) && catalog.to_keep("raft").is_none());
    catalog.settle("raft", new());
    assert!(
        serves(&catalog) && catalog.to_keep("raft").is_some(),
        "what was kept was deleted: it serves on and is kept again"
    );

    let recorded = || Recorded { digest: Some(digest.clone()), ..Recorded::default() };
    let upgraded = Catalog::default();
    upgraded.settle("raft", Found { recorded: recorded(), ..new() });
    assert!(serves(&upgraded), "it served before anything was kept");
    let orphan = Catalog::default();
    let kept_loaded = vec![components::plugin("raft")];
    orphan.settle("raft", Found { sources: Vec::new(), loaded: None, kept_loaded, recorded: recorded(), ..new() });
    assert!(serves(&orphan) && orphan.phases() == [Phase::Removed]);
    assert_eq!(orphan.outdated("raft").map(|(reason, _)| reason), Some(Reason::Removed));
    let (mut other, both) = (bytes.clone(), Catalog::default());
    other.extend([0, 4, 1, b'x', 0, 0]); // a custom section
    let newest = sandbox().load("raft", &other).unwrap_or_else(|fault| panic!("{fault}"));
    let kept = vec![Kept { digest: newest.digest().to_owned(), ..kept("raft") }, kept("raft")];
    let kept_loaded = vec![components::plugin("raft")];
    let listed = [newest.digest().to_owned()].into();
    let recorded = Recorded { listed, ..recorded() };
    both.settle("raft", Found { loaded: Some(Ok(newest.clone())), kept_loaded, recorded, kept, ..new() });
    let serving = both.serving("RaftStorageClass").unwrap();
    assert_eq!(serving.revision.digest(), newest.digest());
    assert!(both.revision("raft", &digest).is_some(), "what served last is there for databases whose newer plan is held");
    assert_eq!(orphan.forget("raft"), ["RaftStorageClass".to_owned()].into());
    assert!(!serves(&orphan));
}

#[test]
fn a_plugin_reaches_every_phase_and_no_other() {
    let (catalog, bytes) = (Catalog::default(), components::bytes("raft"));
    let mut reached = BTreeSet::new();
    let mut settle = |what: Found| {
        catalog.settle("raft", what);
        let phases = catalog.phases();
        reached.extend(phases.iter().map(|phase| phase.to_string().to_lowercase()));
        phases
    };
    let loaded = || Some(Ok(components::plugin("raft")));
    assert_eq!(settle(found("raft", bytes.clone())), [Phase::Loading], "its first bytes");
    assert_eq!(settle(Found { loaded: loaded(), ..found("raft", bytes.clone()) }), [Phase::Serving]);
    assert_eq!(settle(found("raft", bytes.clone())), [Phase::Loading], "newer bytes, while the ones before serve");
    assert_eq!(settle(Found { loaded: loaded(), grants: None, ..found("raft", bytes.clone()) }), [Phase::Refused]);
    assert_eq!(settle(Found { loaded: loaded(), ..found("raft", bytes.clone()) }), [Phase::Serving]);
    assert_eq!(settle(Found { sources: Vec::new(), loaded: None, ..found("raft", vec![0; 8]) }), [Phase::Removed]);
    let recorded = pinning("0123456789ab", &bytes);
    assert_eq!(settle(Found { loaded: loaded(), recorded, ..found("raft", bytes.clone()) }), [Phase::RevisionNotKept]);
    let (newer, of_both) = newer_raft(&bytes);
    let recorded =
        Recorded { listed: of_both.iter().map(|it| it.digest.clone()).collect(), ..pinning(&kept("raft").digest, &bytes) };
    let found = Found { loaded: Some(Ok(newer)), recorded, kept: of_both, ..found("raft", bytes) };
    assert_eq!(settle(found), [Phase::Pinned]);
    let all: BTreeSet<_> = PluginPhase::ALL.into_iter().map(|phase| phase.word().to_owned()).collect();
    assert_eq!(reached, all, "each phase that is counted");
}

/// The state of a StoragePlugin that lists the revision of these bytes, and whose annotation names one.
fn pinning(value: &str, bytes: &[u8]) -> Recorded {
    Recorded { pinned: Some(value.to_owned()), ..listing([atomix_sandbox::digest_of(bytes)]) }
}

/// Raft with a custom section more, and the two revisions as they are kept.
fn newer_raft(bytes: &[u8]) -> (atomix_sandbox::Revision, Vec<Kept>) {
    let newer = [bytes, &[0, 4, 1, b'x', 0, 0]].concat();
    let newer = sandbox().load("raft", &newer).unwrap_or_else(|fault| panic!("{fault}"));
    let kept = vec![Kept { digest: newer.digest().to_owned(), ..kept("raft") }, kept("raft")];
    (newer, kept)
}

#[test]
fn the_revision_that_is_named_serves_and_no_newer_one() {
    let bytes = components::bytes("raft");
    let digest = kept("raft").digest;
    let (newer, kept) = newer_raft(&bytes);
    let listed: BTreeSet<String> = kept.iter().map(|it| it.digest.clone()).collect();
    let catalog = Catalog::default();
    let settle = |pinned: Option<&str>, kept: &[Kept], kept_loaded: Vec<atomix_sandbox::Revision>| {
        let recorded = Recorded { pinned: pinned.map(str::to_owned), ..listing(listed.clone()) };
        let loaded = Some(Ok(newer.clone()));
        catalog.settle("raft", Found { loaded, recorded, kept: kept.to_vec(), kept_loaded, ..found("raft", bytes.clone()) });
        let serving = catalog.serving("RaftStorageClass").map(|it| it.revision.digest().to_owned());
        (serving.unwrap_or_default(), catalog.phases()[0], catalog.outdated("raft").map(|(reason, _)| reason))
    };
    let newest = newer.digest().to_owned();
    assert_eq!(settle(None, &kept, Vec::new()), (newest.clone(), Phase::Serving, None));
    let start = &digest[..12];
    assert_eq!(settle(Some(start), &kept, Vec::new()), (newest.clone(), Phase::Loading, None), "it is not loaded yet");
    let old = || vec![components::plugin("raft")];
    let pinned = (digest.clone(), Phase::Pinned, Some(Reason::Pinned));
    assert_eq!(settle(Some(start), &kept, old()), pinned);
    assert_eq!(settle(Some(&digest), &kept, Vec::new()), pinned, "it stays, and its whole digest names it too");
    assert!(
        catalog.named("raft", &newest).is_ok() && catalog.revision("raft", &newest).is_some(),
        "a database may name the newest"
    );
    for unknown in ["0123456789ab", &digest[..11], "", &format!("{digest}0")] {
        let (serving, phase, _) = settle(Some(unknown), &kept, Vec::new());
        assert_eq!(
            (serving.as_str(), phase),
            (digest.as_str(), Phase::RevisionNotKept),
            "{unknown:?}: what served serves on"
        );
        let (reason, message) = catalog.named("raft", unknown).err().expect("no database can have it");
        assert!(
            reason == Reason::RevisionNotKept && message.contains(start) && message.contains(&newest[..12]),
            "{message}"
        );
    }
    assert_eq!(settle(None, &kept, Vec::new()), (newest.clone(), Phase::Serving, None), "nothing is named any more");
    assert_eq!(settle(Some(&newest), &kept, Vec::new()), (newest, Phase::Serving, None), "the newest is named");

    let forged = Catalog::default();
    let recorded = Recorded { pinned: Some(digest.clone()), ..listing([newer.digest().to_owned()]) };
    let loaded = Some(Ok(newer.clone()));
    forged.settle("raft", Found { loaded, recorded, kept, kept_loaded: old(), ..found("raft", bytes.clone()) });
    assert!(forged.serving("RaftStorageClass").is_none_or(|it| it.revision.digest() != digest), "it was never found good");
}

/// The bytes with one text in place of another of the same length.
fn replaced(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut bytes = bytes.to_vec();
    let at: Vec<_> = (0..bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old.as_bytes())).collect();
    assert!(!at.is_empty(), "{old} stands nowhere");
    at.into_iter().for_each(|at| bytes[at..at + new.len()].copy_from_slice(new.as_bytes()));
    bytes
}

#[test]
fn the_first_plugin_to_claim_a_protocol_keeps_it() {
    let sandbox = sandbox();
    let raft = components::bytes("raft");
    let catalog = Catalog::default();
    let settle = |name: &str, bytes: Vec<u8>| {
        let loaded = sandbox.load(name, &bytes).unwrap_or_else(|fault| panic!("{fault}"));
        let recorded = Recorded { digest: Some(loaded.digest().to_owned()), ..Recorded::default() };
        catalog.settle(name, Found { loaded: Some(Ok(loaded)), recorded, ..found(name, bytes) });
        catalog.refusal(name)
    };
    assert_eq!(settle("raft", raft.clone()), None);
    assert_eq!(settle("cache", components::bytes("cache")), None);
    let known: BTreeMap<String, String> = catalog.protocols().into_iter().collect();
    let cache = "atomix.cache.config.ProtocolConfig";
    assert_eq!(catalog.protocols(), [("cache".to_owned(), cache.to_owned()), ("raft".to_owned(), RAFT.to_owned())]);
    assert_eq!(known["cache"], cache);
    assert_eq!(catalog.for_protocol(RAFT).unwrap().revision.descriptor().name, "raft");
    assert!(catalog.for_protocol("atomix.other.Config").is_none());

    // The same plugin under another name and with another kind of class, but the same protocol.
    let other = replaced(&replaced(&raft, "raft0.1.0", "other.1.0"), "RaftStorageClass", "RiftStorageClass");
    let other = replaced(&other, "other.1.0", "rift0.1.0");
    let refused = settle("rift", other).expect("it is refused");
    assert!(refused.contains(&format!("protocol {RAFT} is already served by plugin raft, which came first")), "{refused}");
    assert_eq!(catalog.for_protocol(RAFT).unwrap().revision.descriptor().name, "raft");
    settle("raft", raft); // its own claim is none of another
    assert_eq!(catalog.refusal("raft"), None);
}
