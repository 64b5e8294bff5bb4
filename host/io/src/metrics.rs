//! The numbers that the controller counts, as OpenMetrics text. Knows words for outcomes, no errors and no objects.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use atomix_model::limits;

/// Media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The label under which writes of further kinds are counted once there are too many kinds.
const OTHER_KINDS: &str = "other";

/// Everything that is counted. Cheap to share, counting never waits for anything slow.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<OfPass, Counter>,
    reconcile_seconds: Histogram,
    plans: Family<OfPlugin, Counter>,
    plan_seconds: Histogram,
    writes: Family<OfKind, Counter>,
    /// Kinds that have series: they come from plugins, so that there must be an end to them.
    kinds: Mutex<BTreeSet<String>>,
    plugins: Family<PluginsIn, Gauge>,
    databases: Family<DatabasesIn, Gauge>,
    leader: Gauge,
    calls: Family<OfCall, Counter>,
    call_seconds: Family<OfMethod, Histogram, fn() -> Histogram>,
}

impl Metrics {
    /// Counts one pass over a database.
    pub fn reconciled(&self, result: Reconciled, took: Duration) {
        self.reconciles.get_or_create(&OfPass { result }).inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// Counts one call of a plugin for a plan.
    pub fn planned(&self, plugin: &str, result: Planned, took: Duration) {
        self.plans.get_or_create(&OfPlugin { plugin: plugin.into(), result }).inc();
        self.plan_seconds.observe(took.as_secs_f64());
    }

    /// Counts one write of an object of `kind`.
    pub fn wrote(&self, kind: &str, result: Written) {
        let mut kinds = self.kinds.lock();
        let known = kinds.contains(kind) || (kinds.len() < limits::KINDS_COUNTED_MAX && kinds.insert(kind.to_owned()));
        drop(kinds);
        let kind = if known { kind } else { OTHER_KINDS };
        self.writes.get_or_create(&OfKind { kind: kind.into(), result }).inc();
    }

    /// Sets how many plugins are in a phase.
    pub fn plugins(&self, phase: PluginPhase, count: usize) {
        self.plugins.get_or_create(&PluginsIn { phase }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets how many databases are in a phase.
    pub fn databases(&self, phase: DatabasePhase, count: usize) {
        self.databases.get_or_create(&DatabasesIn { phase }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Counts one gRPC call that has ended: a name of a method and a code of gRPC's. A stream takes as long as it is open.
    pub fn called(&self, method: &'static str, code: &'static str, took: Duration) {
        self.calls.get_or_create(&OfCall { method, code }).inc();
        self.call_seconds.get_or_create(&OfMethod { method }).observe(took.as_secs_f64());
    }

    /// Drops the series of a plugin that is gone, so that series are bounded by what is installed.
    pub fn forget_plugin(&self, plugin: &str) {
        for result in Planned::ALL {
            self.plans.remove(&OfPlugin { plugin: plugin.into(), result });
        }
    }

    /// All numbers as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to a String cannot fail");
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        // From a look into a cache to a pass that waits for a slow API server: 1 ms to 16 s.
        let pass = Histogram::new(exponential_buckets(0.001, 2.0, 15));
        // From a small native-speed plan to one that runs out of fuel: 50 µs to 1.6 s.
        let plan = Histogram::new(exponential_buckets(0.000_05, 2.0, 16));
        let mut metrics = Self {
            registry: Registry::with_prefix("atomix"),
            reconciles: Family::default(),
            reconcile_seconds: pass,
            plans: Family::default(),
            plan_seconds: plan,
            writes: Family::default(),
            kinds: Mutex::default(),
            plugins: Family::default(),
            databases: Family::default(),
            leader: Gauge::default(),
            calls: Family::default(),
            // From an answer out of memory to a stream of a day: 50 µs to 14 h.
            call_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_05, 4.0, 16))),
        };
        let r = &mut metrics.registry;
        r.register("reconciles", "Passes over a database, by how they ended", metrics.reconciles.clone());
        r.register("reconcile_seconds", "Time of one pass over a database", metrics.reconcile_seconds.clone());
        r.register("plans", "Plans asked of plugins, by how it ended", metrics.plans.clone());
        r.register("plan_seconds", "Time of one plan", metrics.plan_seconds.clone());
        r.register("writes", "Objects written, by kind and by what came of it", metrics.writes.clone());
        r.register("plugins", "Plugins, by phase", metrics.plugins.clone());
        r.register("databases", "Databases, by phase", metrics.databases.clone());
        r.register("leader", "Whether this replica reconciles (1) or stands by (0)", metrics.leader.clone());
        r.register("grpc_calls", "gRPC calls that have ended, by method and code", metrics.calls.clone());
        r.register("grpc_call_seconds", "Time of one gRPC call, by method", metrics.call_seconds.clone());
        // Every word is there from the start: a rate over a series that appears with its first error shows nothing.
        for result in Reconciled::ALL {
            drop(metrics.reconciles.get_or_create(&OfPass { result }));
        }
        PluginPhase::ALL.into_iter().for_each(|phase| metrics.plugins(phase, 0));
        DatabasePhase::ALL.into_iter().for_each(|phase| metrics.databases(phase, 0));
        metrics
    }
}

/// An enum whose variants are fixed label values.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The label value.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
                self.word().encode(encoder)
            }
        }
    };
}

words! {
    /// How a pass over a database ended: by who must act.
    Reconciled {
        /// Everything is written; nobody must act.
        Settled = "settled",
        /// Something is not there yet and will be announced.
        Waiting = "waiting",
        /// The user must change something.
        User = "user",
        /// The plugin broke its contract.
        Plugin = "plugin",
        /// The cluster may recover by itself; tried again.
        Cluster = "cluster",
        /// A plan is held until it is accepted.
        Held = "held",
    }
}

words! {
    /// What came of asking a plugin for a plan.
    Planned {
        /// A plan.
        Plan = "plan",
        /// The plugin returned why there is none.
        Refusal = "refusal",
        /// A trap, a limit or a malformed answer.
        Broken = "broken",
        /// A plan that may not be written.
        NotAdmitted = "not-admitted",
    }
}

words! {
    /// What came of writing an object.
    Written {
        /// It changed.
        Changed = "changed",
        /// It was as it should be.
        Unchanged = "unchanged",
        /// It is gone, as no plan holds it any more.
        Pruned = "pruned",
        /// The name belongs to another owner.
        NameTaken = "name-taken",
        /// The API server refused it for good.
        Refused = "refused",
        /// The cluster failed; tried again.
        Failed = "failed",
    }
}

words! {
    /// What became of a plugin.
    PluginPhase {
        /// Its newest bytes serve.
        Serving = "serving",
        /// Its newest bytes are being loaded; an older revision may serve meanwhile.
        Loading = "loading",
        /// Its newest bytes were refused.
        Refused = "refused",
        /// Its bytes are gone; what runs is left alone.
        Removed = "removed",
        /// An annotation names the revision that serves, and its newest bytes do not.
        Pinned = "pinned",
        /// An annotation names a revision that is not kept.
        RevisionNotKept = "revisionnotkept",
    }
}

words! {
    /// How a database goes.
    DatabasePhase {
        /// All partitions answer.
        Ready = "ready",
        /// On its way.
        Progressing = "progressing",
        /// It answers, but something is missing.
        Degraded = "degraded",
        /// It cannot go on until somebody acts.
        Blocked = "blocked",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCall {
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMethod {
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPass {
    result: Reconciled,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginsIn {
    phase: PluginPhase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DatabasesIn {
    phase: DatabasePhase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPlugin {
    plugin: String,
    result: Planned,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: String,
    result: Written,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_counted_is_in_the_text() {
        let metrics = Metrics::default();
        metrics.reconciled(Reconciled::Cluster, Duration::from_millis(5));
        metrics.planned("sample", Planned::NotAdmitted, Duration::from_micros(200));
        metrics.wrote("ConfigMap", Written::Changed);
        metrics.plugins(PluginPhase::Serving, 2);
        metrics.databases(DatabasePhase::Blocked, 3);
        metrics.leads(true);
        let text = metrics.text();
        for line in [
            r#"atomix_reconciles_total{result="cluster"} 1"#,
            r#"atomix_reconciles_total{result="plugin"} 0"#,
            "atomix_reconcile_seconds_count 1",
            r#"atomix_plans_total{plugin="sample",result="not-admitted"} 1"#,
            "atomix_plan_seconds_count 1",
            r#"atomix_writes_total{kind="ConfigMap",result="changed"} 1"#,
            r#"atomix_plugins{phase="serving"} 2"#,
            r#"atomix_plugins{phase="refused"} 0"#,
            r#"atomix_databases{phase="blocked"} 3"#,
            "atomix_leader 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
        }
    }

    #[test]
    fn kinds_of_plugins_that_come_and_go_make_no_series_without_end() {
        let metrics = Metrics::default();
        (0..10_000).for_each(|at| metrics.wrote(&format!("Kind{at}"), Written::Changed));
        metrics.wrote("Kind0", Written::Changed);
        let text = metrics.text();
        let series = text.lines().filter(|line| line.starts_with("atomix_writes_total{")).count();
        assert_eq!(series, limits::KINDS_COUNTED_MAX + 1);
        assert!(text.contains(r#"atomix_writes_total{kind="Kind0",result="changed"} 2"#));
        let others = 10_000 - limits::KINDS_COUNTED_MAX;
        assert!(text.contains(&format!(r#"atomix_writes_total{{kind="other",result="changed"}} {others}"#)));
    }

    #[test]
    fn a_plugin_that_is_gone_leaves_no_series() {
        let metrics = Metrics::default();
        metrics.planned("gone", Planned::Broken, Duration::ZERO);
        metrics.planned("stays", Planned::Plan, Duration::ZERO);
        metrics.forget_plugin("gone");
        let text = metrics.text();
        assert!(!text.contains("gone") && text.contains("stays"), "{text}");
    }
}
