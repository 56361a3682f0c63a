//! The part that touches the machine: it finds namespaces, enters them, reads, and hands over a [`netcheck::snapshot::Snapshot`].
//!
//! It only reads; what `verify` builds is made elsewhere, in namespaces of its own. It needs CAP_SYS_ADMIN (to enter) and CAP_NET_ADMIN (to
//! read rules), CAP_SYS_PTRACE to find namespaces by their processes, and gives up everything else before it looks at anything.

pub(crate) mod collect;
pub(crate) mod discover;
pub(crate) mod engine;
pub(crate) mod events;
pub(crate) mod file;
pub(crate) mod metrics;
pub(crate) mod privilege;
pub(crate) mod procfs;
pub(crate) mod read;
pub(crate) mod rules;
pub(crate) mod tls;
