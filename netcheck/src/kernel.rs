//! Speaking with the kernel: netlink sockets, and threads that enter network namespaces.
//!
//! The collector reads through it, and the [`twin`](crate::twin) is built through it.

pub mod enter;
pub mod netlink;
pub mod routing;
