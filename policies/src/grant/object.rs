//! Other objects: networks that a container may be on, volumes that it may mount, containers whose namespaces and mounts it may take.

use engine::demand::UsedObject;
use engine::facts::Owner;

use super::from_yaml_string;
use super::name::glob;

macro_rules! object_pattern {
    ($(#[$doc:meta])* $name:ident, $example:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Whose);

        from_yaml_string!($name, $example);

        impl $name {
            pub(crate) fn parse(text: &str) -> Result<Self, String> {
                Whose::parse(text).map(Self)
            }

            /// Whether it covers a use.
            #[must_use]
            pub fn covers(&self, object: &UsedObject) -> bool {
                self.0.covers(object)
            }
        }
    };
}

object_pattern!(
    /// Networks that a container may be attached to: `own` (the tenant's), `all`, or a name; `bridge` and `none` are names.
    NetworkPattern, "own"
);
object_pattern!(
    /// Volumes that a container may mount: `own` (the tenant's, and new ones, which become its own), `all`, or a name.
    VolumePattern, "own"
);
object_pattern!(
    /// Containers whose namespaces, mounts and links another may take, and that may be connected to networks: `own`, `all`, or a name.
    ContainerPattern, "own"
);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    All,
    Named(String),
    Own,
}

impl Whose {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("`own`, `all` or a name is needed here".to_owned()),
            "all" => Ok(Self::All),
            "own" => Ok(Self::Own),
            name => Ok(Self::Named(name.to_owned())),
        }
    }

    fn covers(&self, object: &UsedObject) -> bool {
        match (self, object) {
            // What would be looked for later may be anybody's then.
            (_, UsedObject::Missing(..)) => false,
            (Self::All, _) | (Self::Own, UsedObject::New(..)) => true,
            (Self::Own, UsedObject::Known(object)) => object.owner == Owner::Own,
            (Self::Named(pattern), UsedObject::Known(object)) => object.owner != Owner::Other && glob(pattern, &object.name),
            (Self::Named(pattern), UsedObject::New(_, name)) => glob(pattern, name),
        }
    }
}
