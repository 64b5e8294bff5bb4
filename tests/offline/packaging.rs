//! What is handed out beside the manifests is made of them: chart, kustomization, image.

use std::path::Path;
use std::process::Command;

use harness::{assets, dist, paths};
use serde_json::Value;

/// What the chart adds to each definition of the manifest.
const KEEP: &str = "  annotations:\n    helm.sh/resource-policy: keep\n";

/// The objects in YAML text, in a fixed order; 1.0 is written as 1, as JSON makes no difference between them.
fn objects(yaml: &str) -> Vec<String> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    objects.iter_mut().for_each(whole_numbers);
    let mut texts: Vec<String> = objects.iter().filter(|object| !object.is_null()).map(Value::to_string).collect();
    texts.sort();
    texts
}

fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|float| float.fract() == 0.0) {
                *value = (float as i64).into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn chart_and_kustomization_render_to_the_manifest() {
    dist::build_unless_prebuilt().unwrap();
    let manifest = std::fs::read_to_string(dist::file("atomix-controller.yaml")).unwrap();
    let helm = assets::helm().unwrap();
    let chart = dist::file("helm/atomix-controller");
    let rendered = printed(Command::new(&helm).args(["template", "atomix"]).arg(&chart));
    assert_eq!(rendered.matches(KEEP).count(), manifest.matches("kind: CustomResourceDefinition\n").count());
    assert_eq!(objects(&rendered.replace(KEEP, "")), objects(&manifest));
    let other = printed(Command::new(&helm).args(["template", "atomix", "--set", "image=example.test/mine:1"]).arg(&chart));
    assert!(other.contains("image: example.test/mine:1\n"));
    printed(Command::new(&helm).arg("lint").arg(&chart));

    let kubectl = assets::build().unwrap().program("kubectl").to_owned();
    let kustomized = printed(Command::new(kubectl).arg("kustomize").arg(dist::file("kustomize")));
    assert_eq!(objects(&kustomized), objects(&manifest));
}

/// Two archives of one program are the same bytes. That two builds of the program are the same is not tested here: it takes as long
/// as everything else together.
#[test]
fn an_image_is_the_same_bytes_whenever_it_is_made() {
    let dir = paths::state().join("tests");
    std::fs::create_dir_all(&dir).unwrap();
    let made = ["first", "second"].map(|name| {
        let out = dir.join(format!("image-{name}.tar"));
        let program = Path::new("/proc/self/exe");
        (dist::image_of(program, &out).unwrap(), std::fs::read(out).unwrap())
    });
    assert_eq!(made[0], made[1]);
    assert!(made[0].0.starts_with("sha256:"));
}
