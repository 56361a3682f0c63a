//! Ceilings of what a container may use.

use engine::demand::{Amount, Quantity};
use schemars::JsonSchema;
use serde::Deserialize;

/// The most that may be asked for: `unlimited`, or an amount. Bytes take `k`, `m`, `g`, `t` (of 1024) with or without `i` and `B`; CPUs are
/// counted, as `1.5`, and so are processes, ports, and seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "an amount (`2g`, `512MiB`, `100`, `1.5`) or `unlimited`")]
pub enum Ceiling {
    /// A number.
    Number(u64),
    /// Words.
    Words(String),
}

impl JsonSchema for Ceiling {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ceiling".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "integer", "number"], "examples": ["2g", "unlimited", 512] })
    }
}

impl Ceiling {
    /// The amount, in the units of a demand.
    ///
    /// # Errors
    /// It is none.
    pub fn amount(&self, quantity: Quantity) -> Result<Amount, String> {
        match self {
            Self::Number(number) => amount_from_words(quantity, &number.to_string()),
            Self::Words(words) => amount_from_words(quantity, words),
        }
    }
}

/// Reads an amount: bytes, a number, or CPUs in billionths.
///
/// # Errors
/// It is none.
pub fn amount_from_words(quantity: Quantity, words: &str) -> Result<Amount, String> {
    if words == "unlimited" {
        return Ok(Amount(None));
    }
    let bad = || format!("`{words}` is no amount of {}", quantity.word());
    let amount = match quantity {
        Quantity::Pids | Quantity::Ports | Quantity::StopTimeout => words.parse().map_err(|_| bad())?,
        Quantity::Cpus => {
            let (whole, part) = words.split_once('.').unwrap_or((words, ""));
            if part.len() > 9 || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad());
            }
            let billionths: u64 = format!("{part:0<9}").parse().map_err(|_| bad())?;
            whole
                .parse::<u64>()
                .ok()
                .and_then(|whole| whole.checked_mul(1_000_000_000))
                .and_then(|whole| whole.checked_add(billionths))
                .ok_or_else(bad)?
        }
        Quantity::Memory | Quantity::Shm | Quantity::Swap | Quantity::Tmpfs => {
            let digits = words.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let unit = words.strip_prefix(digits).unwrap_or_default().to_ascii_lowercase();
            let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
                "" => 0,
                "k" => 10,
                "m" => 20,
                "g" => 30,
                "t" => 40,
                _ => return Err(bad()),
            };
            digits.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)).ok_or_else(bad)?
        }
    };
    if amount == 0 { Err(format!("{}: leave it out to grant none, or write `unlimited`", bad())) } else { Ok(Amount(Some(amount))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_their_units() {
        for (quantity, words, amount) in [
            (Quantity::Memory, "2g", Some(Some(2 << 30))),
            (Quantity::Memory, "512MiB", Some(Some(512 << 20))),
            (Quantity::Memory, "100", Some(Some(100))),
            (Quantity::Memory, "unlimited", Some(None)),
            (Quantity::Memory, "2x", None),
            (Quantity::Memory, "0", None),
            (Quantity::Memory, "99999999999g", None),
            (Quantity::Cpus, "1.5", Some(Some(1_500_000_000))),
            (Quantity::Cpus, "2", Some(Some(2_000_000_000))),
            (Quantity::Pids, "1k", None),
        ] {
            assert_eq!(amount_from_words(quantity, words).ok(), amount.map(Amount), "{words}");
        }
    }
}
