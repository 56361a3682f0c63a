//! Sockets. `include/uapi/linux/inet_diag.h`, `struct inet_diag_msg`.

use crate::uapi::AF_INET;
use std::net::IpAddr;

use super::DecodeError;
use super::attribute::{Attributes, address, be16_at, u32_at};
use crate::snapshot::Socket;

/// The length of `struct inet_diag_msg`.
const FIXED: usize = 72;

/// `SOCK_DIAG_BY_FAMILY`, asked for one protocol.
///
/// # Errors
/// When it is malformed.
pub fn socket(payload: &[u8], protocol: u8) -> Result<Socket, DecodeError> {
    const INET_DIAG_SKV6ONLY: u16 = 11;
    let what = "socket message";
    let truncated = DecodeError::Truncated { what };
    let family = *payload.first().ok_or(truncated.clone())?;
    let own: IpAddr = match family {
        AF_INET => payload.get(8..12).and_then(address),
        _ => payload.get(8..24).and_then(address),
    }
    .ok_or(truncated.clone())?;
    let attributes = payload.get(FIXED..).ok_or(truncated.clone())?;
    let attributes = Attributes::parse(attributes, what)?;
    Ok(Socket {
        protocol,
        address: own,
        port: be16_at(payload, 4).ok_or(truncated.clone())?,
        v6only: attributes.u8(INET_DIAG_SKV6ONLY).unwrap_or(0) != 0,
        link: u32_at(payload, 40).ok_or(truncated.clone())?,
        inode: u64::from(u32_at(payload, 68).ok_or(truncated.clone())?),
        uid: u32_at(payload, 64).ok_or(truncated)?,
        owner: None,
    })
}
