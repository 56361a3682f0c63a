//! Byte strings and hardware addresses, as they are written in a snapshot.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Bytes in memory order, written as lower-case hex.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{self}")
    }
}

/// The text is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    /// Not an even number of hex digits.
    #[error("not a string of hex digits")]
    Hex,
    /// Not six bytes with colons between.
    #[error("not a hardware address like 02:42:ac:11:00:02")]
    Mac,
}

impl FromStr for Bytes {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        if !text.len().is_multiple_of(2) {
            return Err(BytesError::Hex);
        }
        text.as_bytes().chunks(2).map(|pair| hex_byte(pair).ok_or(BytesError::Hex)).collect::<Result<_, _>>().map(Self)
    }
}

fn hex_byte(pair: &[u8]) -> Option<u8> {
    let &[high, low] = pair else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// An Ethernet hardware address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody's.
    pub(crate) const BROADCAST: Self = Self([0xff; 6]);

    /// Whether frames for it are for several: a broadcast or multicast address. IEEE 802-2014 §8.2.2.
    #[must_use]
    pub(crate) const fn is_group(self) -> bool {
        let Self([first, ..]) = self;
        first & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        let bytes: Vec<u8> = text.split(':').map(|pair| hex_byte(pair.as_bytes()).ok_or(BytesError::Mac)).collect::<Result<_, _>>()?;
        bytes.try_into().map(Self).map_err(|_| BytesError::Mac)
    }
}

macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}
serde_as_text!(Bytes, Mac);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_bytes_and_macs_is_read_back() {
        for bytes in [vec![], vec![0], vec![0xde, 0xad, 0xbe, 0xef]] {
            let bytes = Bytes(bytes);
            assert_eq!(bytes.to_string().parse::<Bytes>().unwrap(), bytes);
        }
        let mac = Mac([2, 0x42, 0xac, 0x11, 0, 2]);
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
    }

    #[test]
    fn wrong_text_is_refused() {
        for text in ["0", "0g", "é", "+1"] {
            assert_eq!(text.parse::<Bytes>(), Err(BytesError::Hex), "{text}");
        }
        for text in ["", "02:42", "02:42:ac:11:00:02:03", "0242ac110002"] {
            assert_eq!(text.parse::<Mac>(), Err(BytesError::Mac), "{text}");
        }
    }
}
