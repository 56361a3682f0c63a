//! Amounts with their unit in the text: `90s`, `4MiB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time as people write it: whole numbers with a unit, largest first (`1h30m`, `2d`, `500ms`).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(pub Duration);

/// A number of bytes: `4MiB`, `512KiB`, `100B` (IEC 80000-13 prefixes; no decimal ones, they only confuse).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

/// Why a text is not an amount.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AmountError {
    /// Not a [`Period`].
    #[error("`{0}` is not a length of time: expected a number with `ms`, `s`, `m`, `h` or `d`, as in `90s` or `1h30m`")]
    Period(String),
    /// Not a [`ByteSize`].
    #[error("`{0}` is not a size: expected a number with `B`, `KiB`, `MiB` or `GiB`, as in `4MiB`")]
    ByteSize(String),
}

impl FromStr for Period {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let whole = || AmountError::Period(text.to_owned());
        let mut rest = text;
        let mut millis: u64 = 0;
        let mut smallest = u64::MAX;
        while !rest.is_empty() {
            let (number, unit, behind) = amount(rest).ok_or_else(whole)?;
            let scale = millis_of(unit).filter(|scale| *scale < smallest).ok_or_else(whole)?;
            smallest = scale;
            millis = number.checked_mul(scale).and_then(|part| millis.checked_add(part)).ok_or_else(whole)?;
            rest = behind;
        }
        if text.is_empty() { Err(whole()) } else { Ok(Self(Duration::from_millis(millis))) }
    }
}

impl FromStr for ByteSize {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let whole = || AmountError::ByteSize(text.to_owned());
        let (number, unit, behind) = amount(text).ok_or_else(whole)?;
        let scale = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(whole()),
        };
        if behind.is_empty() { number.checked_mul(scale).map(Self).ok_or_else(whole) } else { Err(whole()) }
    }
}

/// Splits `90s…` into the number, its unit and what follows.
fn amount(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at_checked(digits)?;
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, behind) = rest.split_at_checked(letters)?;
    Some((number.parse().ok()?, unit, behind))
}

fn millis_of(unit: &str) -> Option<u64> {
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, millis)| *millis)
}

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, millis) in UNITS {
            if rest >= millis {
                write!(f, "{}{unit}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, scale) in [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= scale && self.0.is_multiple_of(scale) {
                return write!(f, "{}{unit}", self.0 / scale);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl TryFrom<String> for Period {
    type Error = AmountError;

    fn try_from(text: String) -> Result<Self, AmountError> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

impl TryFrom<String> for ByteSize {
    type Error = AmountError;

    fn try_from(text: String) -> Result<Self, AmountError> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lengths_of_time() {
        for (text, millis) in [
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("2d", Some(172_800_000)),
            ("500ms", Some(500)),
            ("0s", Some(0)),
            ("", None),
            ("90", None),
            ("s", None),
            ("30m1h", None),
            ("1s1s", None),
            ("-1s", None),
            ("1.5h", None),
            ("1 h", None),
            ("99999999999999999999d", None),
            ("9999999999999999d", None),
        ] {
            let period = text.parse::<Period>().ok();
            assert_eq!(period, millis.map(|ms| Period(Duration::from_millis(ms))), "{text}");
        }
        assert_eq!(Period(Duration::from_millis(5_400_500)).to_string(), "1h30m500ms");
    }

    #[test]
    fn reads_sizes() {
        for (text, bytes) in [
            ("4MiB", Some(4 << 20)),
            ("1GiB", Some(1 << 30)),
            ("100B", Some(100)),
            ("100", None),
            ("4MB", None),
            ("4MiB1B", None),
            ("99999999999999GiB", None),
        ] {
            assert_eq!(text.parse::<ByteSize>().ok(), bytes.map(ByteSize), "{text}");
        }
        assert_eq!(ByteSize(4 << 20).to_string(), "4MiB");
    }
}
