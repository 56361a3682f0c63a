//! Grants: one kind a file, each with its syntax, what it covers, and the line that a refusal suggests.

mod bind;
mod image;
mod limit;
mod name;
mod object;
mod operation;
mod port;

pub use bind::{BindGrant, BindMode, HostPath};
pub use image::{ImagePattern, RepositoryPattern, TagPattern, is_official};
pub use limit::{Ceiling, amount_from_words};
pub use name::Pattern;
pub use object::{ContainerPattern, NetworkPattern, VolumePattern};
pub use operation::{OperationKey, Operations, Scope, Scopes};
pub use port::PortGrant;

/// Makes a type that is read from one YAML string: `parse` says what is wrong with it, and the reader points at the line.
macro_rules! from_yaml_string {
    ($name:ident, $example:literal) => {
        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                Self::parse(&text)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "examples": [$example] })
            }
        }
    };
}
pub(crate) use from_yaml_string;
