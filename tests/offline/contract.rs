//! Components that were built from the SDK of each version of the contract, kept as bytes: they load and plan as they did on
//! the day, for ever. Beside the bytes stand their source, their descriptors, and golden cases.

use std::fs;

use atomix_model::contract::Request;
use harness::{golden, paths};

use super::components::sandbox;

#[test]
fn components_of_every_version_plan_as_they_did() {
    let folder = paths::root().join("tests/contract");
    let served =
        fs::read_dir(paths::root().join("wit")).unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let versions: Vec<_> = served.filter(|name| name.starts_with('v')).collect();
    assert!(!versions.is_empty());
    for version in versions {
        let kept = folder.join(&version);
        let bytes = fs::read(kept.join("component.wasm"))
            .unwrap_or_else(|error| panic!("{}: no component of {version} is kept: {error}", kept.display()));
        let revision = sandbox().load(&version, &bytes).unwrap_or_else(|fault| panic!("{version}: {fault}"));
        let compare = |file: &str, text: String| {
            let expected = fs::read_to_string(kept.join(file)).unwrap_or_default();
            let line = text.lines().zip(expected.lines()).find(|(now, then)| now != then);
            assert!(text == expected, "tests/contract/{version}/{file} was another on the day: {line:?}");
        };
        compare("descriptor.yaml", golden::yaml(revision.descriptor()));
        let mut cases = 0;
        for case in fs::read_dir(kept.join("cases")).unwrap().map(|case| case.unwrap().path()) {
            let name = case.file_name().unwrap().to_string_lossy().into_owned();
            let answer = revision.plan(&golden::given::<Request>(&case)).unwrap_or_else(|fault| panic!("{name}: {fault}"));
            compare(&format!("cases/{name}/answer.yaml"), golden::yaml(&answer));
            cases += 1;
        }
        assert!(cases > 1, "{version} has cases");
    }
}
