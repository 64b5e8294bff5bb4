//! The walk of the README, typed and checked. The steps are data; the rest runs them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::assets::{self, print_progress};
use crate::dev_cluster::{self, Files};
use crate::{dist, paths, real_nodes};

/// One command of the walk.
struct Step {
    /// What it is for.
    purpose: &'static str,
    /// The command, as a person types it.
    run: &'static str,
    /// What its output must hold.
    expect: &'static [&'static str],
}

const STEPS: &[Step] = &[
    Step {
        purpose: "Teach the cluster Raft: a plugin in a ConfigMap, the kind of storage class that it serves, and what it may write.",
        run: "kubectl create -f dist/plugins/raft.yaml",
        expect: &["raftstorageclasses.storage.cloud.atomix.io created", "clusterrole", "configmap"],
    },
    Step {
        purpose: "The API server takes a moment until it serves the new kind.",
        run: "kubectl wait --for=condition=Established crd/raftstorageclasses.storage.cloud.atomix.io --timeout=30s",
        expect: &["condition met"],
    },
    Step {
        purpose: "A class of storage and a database of three partitions on it.",
        run: "kubectl create -f dist/examples/raft.yaml",
        expect: &["raftstorageclass.storage.cloud.atomix.io/raft created", "database.cloud.atomix.io/raft created"],
    },
    Step {
        purpose: "Wait until it is Ready.",
        run: "kubectl wait --for=condition=Ready database/raft --timeout=120s",
        expect: &["condition met"],
    },
    Step {
        purpose: "What came of it: three partitions, each on a Raft group of three (of stand-ins for the images of old).",
        run: "kubectl get databases,partitions,statefulsets,pods,services",
        expect: &[
            "database.cloud.atomix.io/raft",
            "3/3",
            "partition.cloud.atomix.io/raft-3",
            "statefulset.apps/raft-3",
            "pod/raft-1-0",
            "pod/raft-3-2",
            "service/raft-2",
            "5678/TCP",
        ],
    },
    Step { purpose: "Two partitions more.", run: "kubectl scale database/raft --replicas=5", expect: &["scaled"] },
    Step { purpose: "", run: "kubectl wait --for=condition=Ready database/raft --timeout=120s", expect: &["condition met"] },
    Step { purpose: "", run: "kubectl get database/raft", expect: &["5/5"] },
    Step { purpose: "", run: "kubectl get partitions,statefulsets", expect: &["raft-4", "raft-5"] },
    Step {
        purpose: "The same database in the older version of the API.",
        run: "kubectl get database.v1beta2.cloud.atomix.io/raft -o jsonpath={.spec}",
        expect: &[r#""clusters":5"#, r#""partitions":1"#],
    },
    Step { purpose: "What is deleted by mistake comes back.", run: "kubectl delete service/raft-2", expect: &["deleted"] },
    Step { purpose: "", run: "kubectl wait --for=create service/raft-2 --timeout=30s", expect: &["condition met"] },
    Step { purpose: "", run: "kubectl get service/raft-2", expect: &["5678/TCP"] },
    Step {
        purpose: "Which plugins serve, and whom.",
        run: "kubectl get storageplugins --namespace=kube-system",
        expect: &["raft", "Serving"],
    },
    Step { purpose: "What happened to the database.", run: "kubectl events --for=database/raft", expect: &["Ready"] },
    Step {
        purpose: "And what a program is told that asks over gRPC where the partitions answer.",
        run: r#"grpcurl -plaintext -d '{"id":{"name":"raft"}}' 127.0.0.1:5679 atomix.database.DatabaseService/GetDatabase"#,
        expect: &["raft-1.default.svc.cluster.local", "raft-5.default.svc.cluster.local", "5678"],
    },
];

/// What follows where storage can really run.
const STEPS_ON_REAL_NODES: &[Step] = &[
    Step {
        purpose: "Here containers run. Teach the cluster etcd, which is a storage of today.",
        run: "kubectl create -f dist/plugins/etcd.yaml",
        expect: &["etcdstorageclasses.storage.cloud.atomix.io created"],
    },
    Step {
        purpose: "",
        run: "kubectl wait --for=condition=Established crd/etcdstorageclasses.storage.cloud.atomix.io --timeout=30s",
        expect: &["condition met"],
    },
    Step {
        purpose: "A database of three partitions, each an etcd cluster of three members on volumes.",
        run: "kubectl create -f dist/examples/etcd.yaml",
        expect: &["database.cloud.atomix.io/etcd created"],
    },
    Step { purpose: "", run: "kubectl wait --for=condition=Ready database/etcd --timeout=180s", expect: &["condition met"] },
    Step { purpose: "", run: "kubectl get pods -o wide --selector=database=etcd.default", expect: &["etcd-3-2", "Running"] },
    Step {
        purpose: "Write to the second partition through its Service, and read it back through a member.",
        run: "kubectl exec etcd-1-0 -- etcdctl --endpoints=http://etcd-2:2379 put greeting hello",
        expect: &["OK"],
    },
    Step {
        purpose: "",
        run: "kubectl exec etcd-1-0 -- etcdctl --endpoints=http://etcd-2-1.etcd-2-hs:2379 get greeting",
        expect: &["greeting", "hello"],
    },
];

/// How many real nodes a walk takes where it can.
const REAL_NODES: usize = 3;

/// Where the gRPC API answers, unless a variable sets another address.
const GRPC: &str = "127.0.0.1:5679";

/// What an earlier walk left is removed first, so that the walk can be taken again.
const AGAIN: &[&str] = &[
    "kubectl delete databases --all --cascade=foreground",
    "kubectl delete -f dist/plugins/raft.yaml -f dist/plugins/etcd.yaml --ignore-not-found",
];

/// Whether there is any such.
const LEFT: &str = "kubectl get crd/raftstorageclasses.storage.cloud.atomix.io --ignore-not-found -o name";

/// Brings the cluster up and takes the walk, on real nodes where they can run. An error is what was not as it should be.
pub fn demo() -> Result<()> {
    let (nodes, left_out) = match dev_cluster::nodes_asked()? {
        Some(nodes) => (Some(nodes), None),
        None => match real_nodes::require() {
            Ok(()) => (Some(REAL_NODES), None),
            Err(why) => (None, Some(why)),
        },
    };
    dev_cluster::up(nodes, while_it_builds)?;
    if !capture(LEFT)?.1.is_empty() {
        heading("An earlier walk was here: its objects go first.");
        for command in AGAIN {
            run(command, &[])?;
        }
    }
    let further = if nodes.is_some() { STEPS_ON_REAL_NODES } else { &[] };
    for step in STEPS.iter().chain(further) {
        if !step.purpose.is_empty() {
            heading(step.purpose);
        }
        run(&step.run.replace(GRPC, &dev_cluster::grpc_address()?), step.expect)?;
    }
    if let Some(why) = left_out {
        heading(&format!("Left out here: real nodes, and an etcd database on them, written and read: {why:#}."));
    }
    heading("That is the walk. The cluster stays up: make up says how to use it, make down takes it down.");
    Ok(())
}

/// What can be seen before there is a cluster: which objects the plugin plans for the example.
fn while_it_builds() {
    if assets::are_built() {
        return;
    }
    heading(
        "Kubernetes is built next, which takes a while. Meanwhile: what the controller would write for the example, without a cluster.",
    );
    let (plugin, example) = (dist::wasm("raft"), dist::example("raft"));
    let shown = |path: &Path| path.strip_prefix(paths::root()).unwrap_or(path).display().to_string();
    println!("$ atomix-controller render --plugin {} -f {}", shown(&plugin), shown(&example));
    let rendered = paths::controller_program().and_then(|program| {
        let mut render = Command::new(program);
        render.arg("render").arg("--plugin").arg(plugin).arg("-f").arg(example).env_remove("KUBECONFIG");
        render.output().context("could not run the controller")
    });
    match rendered {
        Ok(output) => println!("{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim_end()),
        Err(error) => print_progress(&format!("{error:#}")), // the walk itself reports more
    }
}

fn heading(text: &str) {
    println!("\n# {text}");
}

fn run(command: &str, expect: &[&str]) -> Result<()> {
    println!("$ {command}");
    let _ = std::io::stdout().flush(); // the command is to be read while it runs
    let (success, output) = capture(command)?;
    println!("{}", output.trim_end());
    if !success {
        print_log()?;
        bail!("this failed: {command}");
    }
    match expect.iter().find(|text| !output.contains(**text)) {
        None => Ok(()),
        Some(missing) => {
            print_log()?;
            bail!("the output of this should hold {missing:?}: {command}")
        }
    }
}

/// Runs a command in the checkout as a person would after the `export` line; both outputs in one text.
fn capture(command: &str) -> Result<(bool, String)> {
    let files = Files::new();
    let mut words = command.split_whitespace().map(|word| word.trim_matches('\'')); // a shell takes the quotes away
    let program = words.next().context("a command has a name")?;
    let mut command = Command::new(files.bin().join(program));
    command
        .args(words)
        .current_dir(paths::root())
        .env("KUBECONFIG", files.kubeconfig())
        .env("KUBERC", "off")
        .stdin(Stdio::null());
    let output = command.output().with_context(|| format!("could not run {program}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

fn print_log() -> Result<()> {
    for command in ["kubectl get atomix,pods -o wide", "kubectl describe databases", "kubectl get storageplugins -A -o wide"]
    {
        println!("$ {command}\n{}", capture(command)?.1);
    }
    let log = paths::state().join("demo/state/log/atomix-controller.log");
    print_progress(&format!("last lines of the controller's log:\n{}", crate::guard::log_tail(&log, 30)));
    Ok(())
}
