//! Containers stand still while the engine walks their files, and what would move them waits.
//!
//! Engines look up the paths of a container's mounts, and those that a copy names, one part after the other, while its processes may exchange a
//! directory for a link to one of the host's: a volume is mounted over the host's path then (GHSA-rg2x-37c3-w2rh, GHSA-vp62-88p7-qqf5), or an error
//! tells what is in it. So whatever copies has what the container is made of for itself, and whatever lets processes run shares it with others.

use crate::locks::Locks;

/// Places that are held while something is under way there: containers, those whose namespaces they share, what they mount. What begins to run has
/// them beside others, what stands still has them alone.
pub type Stills = Locks<String>;
