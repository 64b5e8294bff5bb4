//! Any text that a client uses as a name becomes a name that Kubernetes accepts, always the same, and never that of another.

use atomix_model::{labels, names};
use harness::seed;
use kube::core::ObjectMeta;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

fn config() -> Config {
    let cases = 2000_u32.saturating_mul(seed::times());
    Config { cases, rng_seed: RngSeed::Fixed(seed::seed()), failure_persistence: None, ..Config::default() }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[-./a-zA-Z0-9ä]{0,100}", (0..400_usize).prop_map(|count| "ä".repeat(count))]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_name_is_legal_and_its_own(readable in text(), parts in prop::collection::vec(text(), 0..4), others in prop::collection::vec(text(), 0..4)) {
        let of = |parts: &[String]| names::object_name(&readable, &parts.iter().map(String::as_str).collect::<Vec<_>>());
        let name = of(&parts);
        prop_assert!(names::is_label(&name), "{name}");
        prop_assert_eq!(name == of(&others), parts == others);
    }

    #[test]
    fn a_label_of_a_database_is_short_and_its_own(namespace in text(), name in text(), other in text()) {
        let label = names::database_label(&namespace, &name);
        prop_assert!(label.len() <= 63, "{label}");
        if !name.contains('.') && !other.contains('.') && !namespace.contains('.') {
            prop_assert_eq!(label == names::database_label(&namespace, &other), name == other);
        }
    }

    #[test]
    fn what_is_taken_for_a_name_leads_nowhere_else(group in text(), kind in prop::sample::select(vec!["Service", "CronJob", "StatefulSet", "Namespace", "X"]), name in text()) {
        if names::expected(&group, kind, &name).is_none() || names::is_subdomain(&name) {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
            prop_assert!(!name.is_empty() && name.chars().all(legal) && name.split('.').all(|part| !part.is_empty()), "{name:?}");
        }
    }

    #[test]
    fn labels_are_copied_whatever_a_database_lists(keys in prop::collection::btree_map(text(), text(), 0..6), named in text()) {
        let annotations = Some([(names::COPY_LABELS.to_owned(), named)].into());
        let copied = labels::copied(&ObjectMeta { labels: Some(keys.clone()), annotations, ..ObjectMeta::default() });
        prop_assert!(copied.iter().all(|(key, value)| keys.get(key) == Some(value)));
        prop_assert!(keys.keys().filter(|key| !key.contains('/')).all(|key| copied.contains_key(key)));
    }

    #[test]
    fn what_is_printed_of_others_is_one_line(text in text()) {
        let plain = atomix_model::contract::plain(&text);
        prop_assert!(!plain.contains(char::is_control) && plain.chars().count() == text.chars().count());
        prop_assert!(atomix_model::contract::short(&text).chars().count() <= 81);
    }
}
