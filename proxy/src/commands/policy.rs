//! `seawall policy`.
