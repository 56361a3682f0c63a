//! Bytes that the kernel sends ▶ typed values, as pure functions.
//!
//! Nothing here panics or indexes: every read is bounded, and what is too short is a [`DecodeError`] that names what was read. What is
//! well-formed and not known becomes an `Opaque` value, so that the model can say *unknown* and never has to guess.
//!
//! | module | messages |
//! |---|---|
//! | [`attribute`] | the type-length-value coding that all of them share |
//! | [`message`] | the netlink envelope, and requests |
//! | [`link`] | `RTM_NEWLINK`, `RTM_NEWADDR`, `RTM_NEWNEIGH`, `RTM_NEWNETCONF`, bridge vlans |
//! | [`route`] | `RTM_NEWROUTE`, `RTM_NEWRULE` |
//! | [`table`] | nf_tables: tables, chains, rules, sets, elements, objects, flowtables |
//! | [`expression`] | nf_tables: instructions |
//! | [`compat`] | structures of iptables' matches and targets |
//! | [`ipset`] | ipsets |
//! | [`socket`] | `SOCK_DIAG_BY_FAMILY` |

pub mod attribute;
pub mod compat;
pub mod expression;
pub mod ipset;
pub mod link;
pub mod message;
pub mod route;
pub mod socket;
pub mod table;

/// A message that is not what the kernel's headers say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends within something.
    #[error("{what} is cut short")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// Something that is always there is not.
    #[error("{what} is missing")]
    Missing {
        /// What was expected.
        what: &'static str,
    },
    /// A value that cannot be.
    #[error("{what} has a value that cannot be")]
    Invalid {
        /// What was being read.
        what: &'static str,
    },
}

pub(crate) const fn missing(what: &'static str) -> DecodeError {
    DecodeError::Missing { what }
}
