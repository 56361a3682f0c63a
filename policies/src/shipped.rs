//! The policies that come with the program.

/// Name, what it is for, and text.
pub const SHIPPED: [(&str, &str, &str); 5] = [
    ("ci", "build and run unprivileged containers, own objects only; the default", include_str!("../shipped/ci.yaml")),
    ("hardened", "run hardened containers by digest, own objects only (CIS Docker Benchmark, section 5)", include_str!("../shipped/hardened.yaml")),
    ("read-only", "look at everything, change nothing", include_str!("../shipped/read-only.yaml")),
    ("netcheck", "what netcheck reads", include_str!("../shipped/netcheck.yaml")),
    ("admin", "everything that is understood", include_str!("../shipped/admin.yaml")),
];

/// The text of a shipped policy.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(shipped, _, _)| *shipped == name).map(|(_, _, text)| *text)
}

/// What to say of a name that is none.
#[must_use]
pub fn no_such(name: &str) -> String {
    let names: Vec<&str> = SHIPPED.iter().map(|(shipped, _, _)| *shipped).collect();
    let near = names.iter().map(|shipped| (strsim::damerau_levenshtein(shipped, name), *shipped)).min().filter(|(distance, _)| *distance <= 3);
    match near {
        Some((_, near)) => format!("there is no policy `{name}`, did you mean `{near}`?"),
        None => format!("there is no policy `{name}`: there are {}, and a file is named with its path, as `./{name}.yaml`", names.join(", ")),
    }
}
