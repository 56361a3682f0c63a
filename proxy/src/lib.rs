//! placeholder
pub mod cert;
pub mod commands {
    //! One file a command: its arguments, its help, its run.
    pub mod cert;
}
pub mod config;
pub mod identity;
pub mod listener;
pub mod tls;
