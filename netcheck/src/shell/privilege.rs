//! What this process may do, and giving up what it does not need.

use miette::miette;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// Needed to enter a namespace, and to read its rules.
const NEEDED: [(CapabilitySet, &str); 2] = [(CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"), (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN")];

const HELP: &str = "run it as root, or in a container with `--cap-add SYS_ADMIN --cap-add NET_ADMIN --network host --pid host`; \
    a snapshot that was collected elsewhere is analysed without any privilege: `netcheck check --from FILE`";

const HELP_TWIN: &str = "run it as root, or in a container with `--cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add NET_RAW`; with `--from FILE` \
    it can run on any machine, and touches no namespace but those that it makes";

/// Keeps what collecting needs and drops the rest, for this thread and those that it starts.
pub(crate) fn keep_only_what_is_needed() -> miette::Result<()> {
    keep(&NEEDED, HELP, "collecting")
}

/// The same for a twin, which also sends packets of its own making.
pub(crate) fn keep_only_what_a_twin_needs() -> miette::Result<()> {
    let [enter, read] = NEEDED;
    keep(&[enter, read, (CapabilitySet::NET_RAW, "CAP_NET_RAW")], HELP_TWIN, "a twin")
}

fn keep(needed: &[(CapabilitySet, &str)], help: &'static str, what: &str) -> miette::Result<()> {
    let mine = capabilities(None).map_err(|error| miette!("cannot read capabilities: {error}"))?;
    let missing: Vec<&str> = needed.iter().filter(|(capability, _)| !mine.effective.contains(*capability)).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        let missing = missing.join(" and ");
        return Err(miette!(help = help, "{what} needs {missing}, which this process does not have"));
    }
    let keep = needed.iter().fold(CapabilitySet::SYS_PTRACE, |all, (capability, _)| all | *capability);
    let kept = mine.effective.intersection(keep);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(|error| miette!("cannot drop capabilities: {error}"))
}
