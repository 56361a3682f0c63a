//! Whose turn it is to mount a volume in a new container.
//!
//! The engine fills an empty volume with what the image has in its place, by path and as root (moby daemon/create_unix.go, `populateVolumes`). A
//! process that has the volume meanwhile can put a symbolic link where the engine is about to write, and it writes where the link leads: anywhere on
//! the host. So a volume is filled only while no process has seen it (`unseen.rs`), and creates that name one volume come one after another: what mounts
//! it next is not there before it is full. A turn lasts until the engine has answered, whatever becomes of the client.

use crate::locks::Locks;

/// The order of creates.
pub type Turns = Locks<Turn>;

/// What creates take turns at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// The volume of this name.
    Volume(String),
    /// The volumes without a name of this tenant: creates that may make some come beside each other, one that mounts some by the name that the engine gave
    /// them comes alone. The last for whoever takes volumes too.
    Unnamed(String),
}
