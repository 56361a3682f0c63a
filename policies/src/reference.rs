//! The language's reference, written from the types that read it.

use std::fmt::Write;

use engine::demand::{Flag, Quantity};
use engine::operation::{Family, OPERATIONS};

/// The reference of the policy language, as Markdown.
#[must_use]
pub fn markdown() -> String {
    let schema = schemars::schema_for!(crate::syntax::PolicyFile);
    let mut out = String::from(INTRODUCTION);
    let definitions = schema.get("$defs");
    for (key, property) in schema.get("properties").and_then(|properties| properties.as_object()).into_iter().flatten() {
        let text = |value: &serde_json::Value| value.get("description").and_then(|text| text.as_str()).unwrap_or_default().replace('\n', " ");
        let _ = writeln!(out, "### `{key}`\n\n{}\n", text(property));
        let item = property.get("items").or_else(|| property.get("additionalProperties")).unwrap_or(property);
        let referred = item.get("$ref").and_then(|link| link.as_str()).and_then(|link| link.rsplit('/').next());
        if let Some(definition) = referred.and_then(|name| definitions.and_then(|all| all.get(name))) {
            for (name, field) in definition.get("properties").and_then(|fields| fields.as_object()).into_iter().flatten() {
                let _ = writeln!(out, "- `{name}`: {}", text(field));
            }
            let example = if referred == Some("Pattern") { None } else { definition.get("examples") };
            if let Some(example) = example.and_then(|examples| examples.get(0)) {
                let _ = writeln!(out, "Example: `{key}: [{}]`", example.as_str().unwrap_or_default());
            }
            out.push('\n');
        }
    }
    words(&mut out);
    operations(&mut out);
    out
}

const INTRODUCTION: &str = "# The policy language

A policy is a YAML file. It grants; nothing in it takes away, and order means nothing. A request is permitted when everything that it demands is
granted. The absence of hardening is a demand too: a container without a memory limit demands `limits: { memory: unlimited }`, one with a writable
root filesystem demands `allow: [writable-rootfs]`. `seawall policy explain` shows the demands of a request.

This page is written from the types that read policies.

## Keys

";

fn words(out: &mut String) {
    out.push_str("## Words of `allow`\n\n| word | what it is |\n|---|---|\n");
    for flag in Flag::ALL {
        let _ = writeln!(out, "| `{}` | {} |", flag.word(), flag.meaning());
    }
    out.push_str("\n## Keys of `limits`\n\n| key | unit |\n|---|---|\n");
    for quantity in Quantity::ALL {
        let _ = writeln!(out, "| `{}` | {} |", quantity.word(), quantity.meaning());
    }
}

fn operations(out: &mut String) {
    out.push_str("\n## Operations\n\nThose with `–` in the last column are refused whatever the policy: their bodies are not decoded yet.\n\n");
    out.push_str("| family | effect | operation | method and path | API | decoded |\n|---|---|---|---|---|---|\n");
    for family in Family::ALL {
        for operation in OPERATIONS.iter().filter(|operation| operation.family == family) {
            let decoded = if operation.is_typed() { "yes" } else { "–" };
            let _ = writeln!(
                out,
                "| {} | {} | `{}` | `{} {}` | {}–{} | {decoded} |",
                family.name(),
                operation.effect.name(),
                operation.id,
                operation.method,
                operation.path,
                operation.since,
                operation.until,
            );
        }
    }
}
