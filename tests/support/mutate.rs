//! Mutated input: the same cases on every machine.

/// xorshift64*: the same cases on every machine.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below another.
    pub fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(mixed).unwrap() % below.max(1)
    }
}

/// How many cases: `FUZZ_CASES`, or 20,000.
#[must_use]
pub fn cases() -> usize {
    std::env::var("FUZZ_CASES").ok().and_then(|number| number.parse().ok()).unwrap_or(20_000)
}

/// Changes some bytes: flips, inserts tokens, cuts, doubles.
#[must_use]
pub fn mutate(seed: &[u8], tokens: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.next(4) {
        let at = random.next(bytes.len() + 1);
        match random.next(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.next(8),
            1 => drop(bytes.splice(at..at, tokens[random.next(tokens.len())].iter().copied())),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.next(20)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            _ if at < bytes.len() => drop(bytes.remove(at)),
            _ => {}
        }
    }
    bytes
}
