//! Things that have a name: capabilities, drivers, options, profiles.

use engine::demand::Name;

use super::from_yaml_string;

/// A name, where `*` stands for any characters. Without `=` it covers every value of an option; without `:` every access to a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(String);

from_yaml_string!(Pattern, "net.ipv4.*");

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err("a name, or a pattern with `*`, is needed here".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether it covers a name of a kind.
    #[must_use]
    pub fn covers(&self, kind: Name, value: &str) -> bool {
        #[expect(clippy::wildcard_enum_match_arm, reason = "most names are compared as they are, or by the key of an option")]
        match kind {
            Name::Capability => self.covers_capability(value),
            Name::Subnet => self.covers_subnet(value),
            Name::Device => glob(&self.0, value) || (!self.0.contains(':') && value.rsplit_once(':').is_some_and(|(path, _)| glob(&self.0, path))),
            // An option's key and value are matched apart: a `*` in the one never reaches into the other.
            _ => match (self.0.split_once('='), value.split_once('=')) {
                (Some((key, wanted)), Some((given, set))) => glob(key, given) && glob(wanted, set),
                (None, Some((given, _))) => glob(&self.0, given),
                (Some(_) | None, None) => glob(&self.0, value),
            },
        }
    }

    /// `default`: what Docker gives without being asked, so nothing that is added (`+`). `*` or `ALL`: everything.
    fn covers_capability(&self, value: &str) -> bool {
        match self.0.as_str() {
            "default" => engine::types::DEFAULT_CAPABILITIES.contains(&value),
            "*" => true,
            name if name.eq_ignore_ascii_case("all") => true,
            name => name.to_ascii_uppercase().trim_start_matches("CAP_") == value.trim_start_matches('+'),
        }
    }

    fn covers_subnet(&self, value: &str) -> bool {
        match (self.0.parse::<ipnet::IpNet>(), value.parse::<ipnet::IpNet>()) {
            (Ok(granted), Ok(asked)) => granted.contains(&asked),
            _ => self.0 == "*",
        }
    }
}

/// Whether a pattern with `*` matches the whole of a text.
#[must_use]
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            match rest.find(middle).and_then(|at| rest.get(at + middle.len()..)) {
                Some(after) => rest = after,
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_texts() {
        for (pattern, text, matches) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acb", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("ab*ba", "aba", false),
            ("", "", true),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn an_option_is_covered_by_its_key_or_by_key_and_value() {
        let covers = |pattern: &str, kind, value| Pattern::parse(pattern).unwrap().covers(kind, value);
        assert!(covers("net.ipv4.*", Name::Sysctl, "net.ipv4.ip_forward=1"));
        assert!(covers("net.ipv4.ip_forward=1", Name::Sysctl, "net.ipv4.ip_forward=1"));
        assert!(!covers("net.ipv4.ip_forward=0", Name::Sysctl, "net.ipv4.ip_forward=1"));
        assert!(covers("/dev/fuse", Name::Device, "/dev/fuse:rwm"));
        assert!(!covers("/dev/fuse:r", Name::Device, "/dev/fuse:rwm"));
        assert!(!covers("net.ipv6.conf.*.disable_ipv6", Name::Sysctl, "net.ipv6.conf.all.forwarding=1.disable_ipv6"));
        assert!(covers("10.0.0.0/8", Name::Subnet, "10.1.0.0/16"));
        assert!(!covers("10.1.0.0/16", Name::Subnet, "10.0.0.0/8"));
        assert!(covers("default", Name::Capability, "NET_RAW") && !covers("default", Name::Capability, "+ALL"));
        assert!(!covers("default", Name::Capability, "+CHOWN") && covers("CHOWN", Name::Capability, "+CHOWN"));
        assert!(covers("cap_sys_ptrace", Name::Capability, "SYS_PTRACE"));
    }
}
