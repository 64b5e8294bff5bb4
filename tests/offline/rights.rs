//! Each right that `deploy/` gives the controller stands in `tests/rights.yaml`, with a test that fails without it. Which rights were used
//! at all is seen after the tests on control planes: `atomix-cluster rights`.

use std::collections::BTreeSet;

use harness::{paths, rights};

#[test]
fn each_right_has_a_test_that_fails_without_it() {
    let rows = rights::table().unwrap();
    let allowed: BTreeSet<String> = rights::allowed().unwrap().iter().map(ToString::to_string).collect();
    let named: BTreeSet<String> = rows.iter().flat_map(|row| row.rights.clone()).collect();
    let (without_test, not_given): (Vec<_>, Vec<_>) =
        (allowed.difference(&named).collect(), named.difference(&allowed).collect());
    assert!(without_test.is_empty(), "rights that stand in deploy/ and not in tests/rights.yaml: {without_test:#?}");
    assert!(not_given.is_empty(), "rights that stand in tests/rights.yaml and not in deploy/: {not_given:#?}");

    let folder = paths::root().join("tests/controlplane");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).filter(|file| file.is_file());
    let text: String = files.map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let lost: Vec<_> =
        rows.iter().filter(|row| !text.contains(&format!("#[tokio::test]\nasync fn {}(", row.test))).collect();
    let lost: Vec<_> = lost.iter().map(|row| &row.test).collect();
    assert!(lost.is_empty(), "tests that tests/rights.yaml names and that are not there: {lost:?}");
}
