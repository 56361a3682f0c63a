//! Which flows between containers, the host and outside are allowed, and which must be there.
//!
//! ```yaml
//! version: 1
//! preset: docker-default          # docker-default | strict | none
//! attacker: net-raw               # process | net-raw | net-admin
//! groups:
//!   web: { project: shop, service: web }
//!   db:  { label: tier=db }
//!   lan: { cidr: 192.168.0.0/16 }
//! allow:
//!   - { from: web, to: db, tcp: [5432] }
//!   - { from: outside, to: web, tcp: [443, 8000-8999], icmp: true }
//! require:
//!   - { from: web, to: db, tcp: [5432] }
//! exceptions:
//!   - { from: web, to: host, tcp: [9100], until: 2027-01-01, reason: node exporter }
//! unknown: fail                   # fail | warn
//! ```
//!
//! Like the policies of the proxy it only ever adds: a preset and `allow` are sets of flows, their union is allowed, order means nothing,
//! and there is no rule that denies. `require` is the other bound: flows that must be there. An exception is an allowed flow that ends.
//!
//! `from` and `to` name a group, a container, or one of `host`, `outside`, `metadata`, `containers` and `any`; or they are a selector as in
//! `groups`. A container whose own name is one of these words is `container:host`. A flow rule without protocols allows all of them.

mod file;
mod party;
mod ports;
mod preset;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_saphyr::Spanned;
use thiserror::Error;

use file::{PortList, RuleFile, SelectorFile, Selectors, Side};
pub use party::{Membership, Party, PartyKind, Publication};
pub use ports::{Flows, Ports, Protocol};
pub use preset::Preset;

/// What a policy says of isolation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// What it is called: a preset, or its file.
    pub name: String,
    /// What is allowed without being listed.
    pub preset: Preset,
    /// What senders are supposed to be able to do, if the policy says.
    pub attacker: Option<Attacker>,
    /// Whether what is not known counts as a violation.
    pub unknown: Unknown,
    allow: Vec<Rule>,
    require: Vec<Rule>,
    exceptions: Vec<Exception>,
}

/// What senders are supposed to be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attacker {
    /// Its own addresses, routes and rules: CAP_NET_ADMIN.
    NetAdmin,
    /// Any packet: CAP_NET_RAW.
    NetRaw,
    /// Sockets.
    Process,
}

/// What follows from not knowing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// It is treated as a violation.
    #[default]
    Fail,
    /// It is only reported.
    Warn,
}

/// Flows from some parties to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    from: Vec<Named>,
    to: Vec<Named>,
    /// Which flows.
    pub flows: Flows,
    /// Where it is written.
    pub line: u64,
}

/// An allowed flow that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Which flows.
    pub rule: Rule,
    /// The first day on which it is not allowed any more, as `2027-01-01`.
    pub until: String,
    /// Why it is needed.
    pub reason: String,
}

/// A policy that cannot be read. Its text points at the place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IsolationError {
    /// The file is not a policy. The text shows the line.
    #[error("{file}: {text}")]
    Syntax {
        /// The file.
        file: String,
        /// The message, with the lines around the place.
        text: String,
    },
    /// A value is none.
    #[error("{file}:{line}: {why}\n  {line} | {excerpt}\n{help}")]
    Value {
        /// The file.
        file: String,
        /// The line.
        line: u64,
        /// The line's text.
        excerpt: String,
        /// What is wrong.
        why: String,
        /// What to do.
        help: String,
    },
}

/// Whom a rule names: a group, a word of the language, a container, or a selector.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    /// As it is written.
    name: String,
    any_of: Vec<Selector>,
}

/// Which parties are meant: all conditions that are there must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Selector {
    Any,
    Containers,
    Host,
    Metadata,
    Outside,
    Where {
        name: Option<String>,
        label: Option<(String, Option<String>)>,
        network: Option<String>,
        project: Option<String>,
        service: Option<String>,
        cidr: Option<IpNet>,
    },
}

impl Isolation {
    /// A policy that is nothing but a preset.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        let name = preset.name().to_owned();
        Self { name, preset, attacker: None, unknown: Unknown::Fail, allow: Vec::new(), require: Vec::new(), exceptions: Vec::new() }
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// With the line, when it is not one.
    pub fn parse(name: &str, text: &str) -> Result<Self, IsolationError> {
        let syntax = |text: String| IsolationError::Syntax { file: name.to_owned(), text };
        if text.trim().is_empty() {
            return Err(syntax("the file is empty; the policy that is used without one is `{version: 1, preset: docker-default}`".to_owned()));
        }
        let file = file::read(text).map_err(syntax)?;
        let reader = Reader { name, text, groups: groups(name, text, file.groups)? };
        if file.version.value != 1 {
            let why = format!("version {} of the language is not known", file.version.value);
            return Err(reader.wrong(file.version.referenced.line(), why, "write `version: 1`"));
        }
        Ok(Self {
            name: name.to_owned(),
            preset: file.preset,
            attacker: file.attacker,
            unknown: file.unknown,
            allow: reader.rules(file.allow)?,
            require: reader.rules(file.require)?,
            exceptions: file.exceptions.into_iter().map(|rule| reader.exception(rule)).collect::<Result<_, _>>()?,
        })
    }

    /// Flows that are allowed from one party to another.
    #[must_use]
    pub fn allowed(&self, from: &Party, to: &Party) -> Flows {
        if from.namespace.is_some() && from.namespace == to.namespace {
            return Flows::all();
        }
        let listed = self.allow.iter().chain(&self.require).filter(|rule| rule.is_about(from, to));
        listed.fold(self.preset.allowed(from, to), |all, rule| all.union(&rule.flows))
    }

    /// Flows that are excepted on a day, as `2026-11-24`, with why and until when.
    pub fn excepted<'a>(&'a self, from: &'a Party, to: &'a Party, today: &'a str) -> impl Iterator<Item = &'a Exception> {
        self.exceptions.iter().filter(move |exception| today < exception.until.as_str() && exception.rule.is_about(from, to))
    }

    /// Exceptions that have ended on a day.
    pub fn ended<'a>(&'a self, today: &'a str) -> impl Iterator<Item = &'a Exception> {
        self.exceptions.iter().filter(move |exception| today >= exception.until.as_str())
    }

    /// Flows that must be there from one party to another.
    #[must_use]
    pub fn required(&self, from: &Party, to: &Party) -> Flows {
        let about = self.require.iter().filter(|rule| rule.is_about(from, to));
        about.fold(Flows::default(), |all, rule| all.union(&rule.flows))
    }

    /// Rules of what must be there.
    #[must_use]
    pub fn requirements(&self) -> &[Rule] {
        &self.require
    }

    /// Rules of what is allowed, for good or until a day.
    pub fn permissions(&self) -> impl Iterator<Item = &Rule> {
        self.allow.iter().chain(self.exceptions.iter().map(|exception| &exception.rule))
    }
}

impl Rule {
    /// Whether it is about what one party sends to another. The metadata service sends nothing.
    #[must_use]
    pub fn is_about(&self, from: &Party, to: &Party) -> bool {
        from.name != to.name && from.kind != PartyKind::Metadata && selects(&self.from, from) && selects(&self.to, to)
    }

    /// Whom it names and nobody is, in words: a name that is misspelt, or a container that is gone. None when there is somebody for each.
    #[must_use]
    pub fn nobody(&self, parties: &[Party]) -> Option<String> {
        let missing = self.from.iter().chain(&self.to).filter(|named| !parties.iter().any(|party| named.selects(party)));
        let names: BTreeSet<String> = missing.map(|named| format!("`{}`", named.name)).collect();
        if !names.is_empty() {
            return Some(format!("nobody is {}", names.into_iter().collect::<Vec<_>>().join(" or ")));
        }
        let somebody = parties.iter().any(|from| parties.iter().any(|to| self.is_about(from, to)));
        (!somebody).then(|| format!("nobody is left who could send from `{}` to `{}`", self.from(), self.to()))
    }

    /// Whom it is from, as it is written.
    #[must_use]
    pub fn from(&self) -> String {
        written(&self.from)
    }

    /// Whom it is to, as it is written.
    #[must_use]
    pub fn to(&self) -> String {
        written(&self.to)
    }
}

fn selects(side: &[Named], party: &Party) -> bool {
    side.iter().any(|named| named.selects(party))
}

fn written(side: &[Named]) -> String {
    side.iter().map(|named| named.name.as_str()).collect::<Vec<_>>().join(", ")
}

impl Named {
    fn selects(&self, party: &Party) -> bool {
        self.any_of.iter().any(|selector| selector.selects(party))
    }
}

impl Selector {
    fn selects(&self, party: &Party) -> bool {
        match self {
            Self::Any => true,
            Self::Containers => party.kind == PartyKind::Container,
            Self::Host => party.kind == PartyKind::Host,
            Self::Metadata => party.kind == PartyKind::Metadata,
            Self::Outside => party.kind == PartyKind::Outside,
            Self::Where { name, label, network, project, service, cidr } => {
                let same = |wanted: &Option<String>, found: Option<&str>| {
                    wanted.as_deref().is_none_or(|wanted| found.is_some_and(|found| glob(wanted, found)))
                };
                let labelled = |(key, value): &(String, Option<String>)| {
                    party.labels.get(key).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
                };
                same(name, Some(&party.name))
                    && same(project, party.project.as_deref())
                    && same(service, party.service.as_deref())
                    && label.as_ref().is_none_or(labelled)
                    && network.as_ref().is_none_or(|network| party.networks.keys().any(|found| glob(network, found)))
                    && cidr.is_none_or(|cidr| party.addresses.iter().any(|address| cidr.contains(address)))
            }
        }
    }
}

/// `*` stands for any characters.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            // A star takes as little as it can, and more if the rest does not match.
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| rest.get(at..).is_some_and(|rest| glob(after, rest)))
        }),
    }
}

/// Where values come from, for messages.
struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    groups: BTreeMap<String, Vec<Selector>>,
}

fn groups(name: &str, text: &str, file: BTreeMap<String, Selectors>) -> Result<BTreeMap<String, Vec<Selector>>, IsolationError> {
    let reader = Reader { name, text, groups: BTreeMap::new() };
    let mut groups = BTreeMap::new();
    for (group, selectors) in file {
        let line = text.lines().position(|line| line.trim_start().starts_with(&group)).map_or(1, |index| index + 1);
        let line = u64::try_from(line).unwrap_or(1);
        if builtin(&group).is_some() {
            return Err(reader.wrong(line, format!("`{group}` has a meaning of its own and cannot be a group"), "choose another name"));
        }
        if selectors.0.is_empty() {
            return Err(reader.wrong(line, "an empty list selects nobody".to_owned(), "name somebody, or take the group away"));
        }
        let selectors = selectors.0.into_iter().map(|one| reader.selector(one, line)).collect::<Result<_, _>>()?;
        groups.insert(group, selectors);
    }
    Ok(groups)
}

/// Whether a name means something else than a container or a namespace that has it: a word of the language, an address, or a name that says
/// of what it is one. Who has such a name anyway is called `container:NAME`, or `netns:NAME`.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let says_of_what = name.starts_with("container:") || name.starts_with("netns:");
    says_of_what || builtin(name).is_some() || name.parse::<IpAddr>().is_ok()
}

fn builtin(name: &str) -> Option<Selector> {
    match name {
        "any" => Some(Selector::Any),
        "containers" => Some(Selector::Containers),
        "host" => Some(Selector::Host),
        "metadata" => Some(Selector::Metadata),
        "outside" => Some(Selector::Outside),
        _ => None,
    }
}

impl Reader<'_> {
    fn wrong(&self, line: u64, why: String, help: &str) -> IsolationError {
        let index = usize::try_from(line.saturating_sub(1)).unwrap_or(0);
        let excerpt = self.text.lines().nth(index).unwrap_or_default().to_owned();
        IsolationError::Value { file: self.name.to_owned(), line, excerpt, why, help: format!("  help: {help}") }
    }

    fn rules(&self, rules: Vec<Spanned<RuleFile>>) -> Result<Vec<Rule>, IsolationError> {
        rules.into_iter().map(|rule| self.plain_rule(rule)).collect()
    }

    fn plain_rule(&self, file: Spanned<RuleFile>) -> Result<Rule, IsolationError> {
        let line = file.referenced.line();
        if file.value.until.is_some() {
            return Err(self.wrong(line, "`until` is only for exceptions".to_owned(), "move the rule to `exceptions`"));
        }
        self.rule(file.value, line)
    }

    fn rule(&self, file: RuleFile, line: u64) -> Result<Rule, IsolationError> {
        let ports = |list: Option<PortList>| match list {
            None => Ok(Ports::default()),
            Some(list) => list.0.iter().try_fold(Ports::default(), |all, text| Ok(all.union(&self.ports(&text.0, line)?))),
        };
        let everything = file.tcp.is_none() && file.udp.is_none() && file.icmp.is_none();
        let icmp = file.icmp.unwrap_or(false);
        let flows = if everything { Flows::all() } else { Flows { tcp: ports(file.tcp)?, udp: ports(file.udp)?, icmp, icmpv6: icmp } };
        if flows.is_empty() {
            let why = "the rule is about nothing: what it says of protocols (`icmp: false`, `tcp: []`, `udp: []`) leaves none";
            let help = "say what is meant, as in `tcp: [443]`; take the rule away if it is nothing; a rule without protocols is about all of them";
            return Err(self.wrong(line, why.to_owned(), help));
        }
        let from = self.side(file.from, line)?;
        if from.iter().any(|named| named.any_of.iter().all(|selector| *selector == Selector::Metadata)) {
            let help = "write it as `to`, or take the rule away; answers need no rule";
            return Err(self.wrong(line, "the metadata service only receives: nothing is `from: metadata`".to_owned(), help));
        }
        Ok(Rule { from, to: self.side(file.to, line)?, flows, line })
    }

    fn exception(&self, file: Spanned<RuleFile>) -> Result<Exception, IsolationError> {
        let line = file.referenced.line();
        let (until, reason) = (file.value.until.clone(), file.value.reason.clone());
        let help = "as in `{ from: web, to: host, tcp: [9100], until: 2027-01-01, reason: node exporter }`";
        let until = until
            .filter(|until| is_date(until))
            .ok_or_else(|| self.wrong(line, "an exception ends: `until` needs a date like 2027-01-01".to_owned(), help))?;
        let reason =
            reason.filter(|reason| !reason.trim().is_empty()).ok_or_else(|| self.wrong(line, "an exception needs a `reason`".to_owned(), help))?;
        Ok(Exception { rule: self.rule(file.value, line)?, until, reason })
    }

    fn ports(&self, text: &str, line: u64) -> Result<Ports, IsolationError> {
        Ports::parse(text).ok_or_else(|| self.wrong(line, format!("`{text}` is not a port or a range of ports"), "write 443, or 8000-8999"))
    }

    fn side(&self, side: Side, line: u64) -> Result<Vec<Named>, IsolationError> {
        match side {
            Side::Names(names) if names.is_empty() => {
                Err(self.wrong(line, "an empty list selects nobody".to_owned(), "name somebody, or `any`; or take the rule away"))
            }
            Side::Names(names) => names.into_iter().map(|name| self.named(name, line)).collect(),
            Side::Selector(selector) => Ok(vec![Named { name: selector.to_string(), any_of: vec![self.selector(selector, line)?] }]),
        }
    }

    /// A group, something built in, or else a container.
    fn named(&self, name: String, line: u64) -> Result<Named, IsolationError> {
        let known = self.groups.get(&name).cloned().or_else(|| builtin(&name).map(|selector| vec![selector]));
        let any_of = match known {
            Some(selectors) => selectors,
            None => vec![self.selector(SelectorFile { name: Some(name.clone()), ..SelectorFile::default() }, line)?],
        };
        Ok(Named { name, any_of })
    }

    fn selector(&self, file: SelectorFile, line: u64) -> Result<Selector, IsolationError> {
        let SelectorFile { name, label, network, project, service, cidr } = file;
        if name.is_none() && label.is_none() && network.is_none() && project.is_none() && service.is_none() && cidr.is_none() {
            return Err(self.wrong(
                line,
                "a selector without conditions selects nobody".to_owned(),
                "use one of name, label, network, project, service, cidr; or `any`",
            ));
        }
        let cidr = cidr.map(|cidr| {
            let help = "write 192.168.0.0/16, or fd00::/8";
            cidr.parse::<IpNet>().map_err(|_| self.wrong(line, format!("`{cidr}` is not a network: an address, and the length of its prefix"), help))
        });
        let label = label.map(|label| match label.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (label, None),
        });
        Ok(Selector::Where { name, label, network, project, service, cidr: cidr.transpose()? })
    }
}

/// `2027-01-01`, so that dates compare as text.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return false };
    let number = |part: &str, length: usize, low: u32, high: u32| {
        part.len() == length && part.parse::<u32>().is_ok_and(|number| (low..=high).contains(&number))
    };
    number(year, 4, 1970, 9999) && number(month, 2, 1, 12) && number(day, 2, 1, 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "version: 1
preset: none
attacker: net-raw
groups:
  web: { project: shop, service: web }
  db: [{ label: tier=db }, { name: 'pg-*' }]
allow:
  - { from: web, to: db, tcp: [5432, 8000-8999] }
  - { from: outside, to: web, icmp: true }
require:
  - { from: web, to: db, tcp: [5432] }
exceptions:
  - { from: web, to: host, tcp: [9100], until: 2027-01-01, reason: node exporter }
unknown: warn
";

    fn party(name: &str, kind: PartyKind) -> Party {
        Party { name: name.to_owned(), kind, ..Party::default() }
    }

    #[test]
    fn the_example_means_what_it_says() {
        let policy = Isolation::parse("example.yaml", EXAMPLE).unwrap();
        let web = Party { project: Some("shop".to_owned()), service: Some("web".to_owned()), ..party("shop-web-1", PartyKind::Container) };
        let db = party("pg-1", PartyKind::Container);
        let (host, outside) = (party("host", PartyKind::Host), party("outside", PartyKind::Outside));
        let allowed = policy.allowed(&web, &db);
        assert!(allowed.tcp.contains(5432) && allowed.tcp.contains(8500) && !allowed.tcp.contains(80));
        assert!(!allowed.icmp && allowed.udp.is_empty());
        assert!(policy.allowed(&db, &web).is_empty());
        assert!(policy.allowed(&outside, &web).icmp);
        assert!(policy.required(&web, &db).tcp.contains(5432));
        assert_eq!(policy.excepted(&web, &host, "2026-11-24").count(), 1);
        assert_eq!(policy.excepted(&web, &host, "2027-01-01").count(), 0);
        assert_eq!(policy.ended("2027-01-01").count(), 1);
        assert_eq!(policy.unknown, Unknown::Warn);
    }

    #[test]
    fn a_wrong_policy_is_refused_with_its_line() {
        let cases = [
            ("version: 2", "1", "version 2"),
            ("version: 1\nallow:\n  - { from: a, to: b, tcp: [0] }", "3", "not a port"),
            ("version: 1\nallow:\n  - { from: a, to: b, tcp: [9-1] }", "3", "not a port"),
            ("version: 1\nexceptions:\n  - { from: a, to: b, reason: x }", "3", "ends"),
            ("version: 1\nexceptions:\n  - { from: a, to: b, until: 2027-01-01 }", "3", "reason"),
            ("version: 1\nallow:\n  - { from: {}, to: b }", "3", "selects nobody"),
            ("version: 1\ngroups:\n  host: { name: x }", "3", "meaning of its own"),
            ("version: 1\nallow:\n  - { from: any, to: any, icmp: false }", "3", "about nothing"),
            ("version: 1\nallow:\n  - { from: any, to: any, tcp: [] }", "3", "about nothing"),
            ("version: 1\nrequire:\n  - { from: any, to: any, tcp: [], udp: [], icmp: false }", "3", "about nothing"),
            ("version: 1\nallow:\n  - from: any\n    to: any\n    tcp:\n", "5", "tcp"),
            ("version: 1\nallow:\n  - from: any\n    to: any\n    icmp: ~\n", "5", "icmp"),
            ("version: 1\nallow:\n  - { from: { project: shop, service: }, to: any }", "3", "service"),
            ("version: 1\nattacker:\n", "2", "attacker"),
            ("version: 1\nallow:\n  - { from: [], to: any }", "3", "nobody"),
            ("version: 1\ngroups:\n  web: []", "3", "nobody"),
            ("version: 1\nallow:\n  - { from: metadata, to: any }", "3", "only receives"),
            ("version: 1\nrequire:\n  - { from: [web, metadata], to: web }", "3", "only receives"),
            ("version: 1\nexceptions:\n  - { from: metadata, to: web, until: 2027-01-01, reason: x }", "3", "only receives"),
            ("version: 1\ndeny: []", "2", "deny"),
            ("version: 1\npreset: docker", "2", "docker"),
        ];
        for (text, line, message) in cases {
            let error = Isolation::parse("p.yaml", text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
            assert!(error.contains(line), "{text}: {error}");
        }
    }

    #[test]
    fn a_wrong_value_is_told_with_its_path_and_what_is_expected() {
        let cases = [
            ("groups:\n  web: db", "`groups.web`", "string \"db\", expected a selector like"),
            ("groups:\n  web: { projekt: a }", "`groups.web.projekt`", "unknown field `projekt`, expected one of name"),
            ("groups:\n  web: [{ name: a }, db]", "`groups.web[1]`", "expected keys with values"),
            ("groups:\n  web: { cidr: 10.0.0.300 }", "p.yaml:3", "`10.0.0.300` is not a network"),
            ("groups:\n  web: { project: }", "`groups.web.project`", "no value"),
            ("allow:\n  - { from: 7, to: any }", "`allow[0].from`", "integer `7`, expected a name, a list of names, or a selector"),
            ("allow:\n  - { from: any, to: { names: [a] } }", "`allow[0].to.names`", "unknown field `names`"),
            ("allow:\n  - { from: a, to: any, tcp: 80 }", "`allow[0].tcp`", "integer `80`, expected a list of ports"),
            ("allow:\n  - { from: a, to: any, tcp: [true] }", "`allow[0].tcp[0]`", "boolean `true`, expected a port"),
            ("allow:\n  - { from: a, to: any, icmp: ja }", "`allow[0].icmp`", "expected `true` or `false`"),
            ("allow: { from: a, to: any }", "`allow`", "expected a list"),
        ];
        for (text, path, message) in cases {
            let error = Isolation::parse("p.yaml", &format!("version: 1\n{text}\n")).unwrap_err().to_string();
            assert!(error.contains(path) && error.contains(message), "{text}: {error}");
            assert!(!error.contains("enum") && !error.contains("File"), "{text}: {error}");
        }
    }

    #[test]
    fn a_word_of_the_language_is_never_a_container() {
        for name in ["any", "containers", "host", "metadata", "outside", "10.1.1.2", "fd00::1", "container:web", "netns:web"] {
            assert!(is_reserved(name), "{name}");
        }
        assert!(!is_reserved("web") && !is_reserved("hosts") && !is_reserved("container"));
        let policy = Isolation::parse("p.yaml", "version: 1\npreset: none\nallow: [{ from: 'container:host', to: host }]").unwrap();
        let (host, container) = (party("host", PartyKind::Host), party("container:host", PartyKind::Container));
        assert_eq!(policy.allowed(&container, &host), Flows::all());
        assert!(policy.allowed(&host, &container).is_empty());
    }

    #[test]
    fn a_rule_says_whom_it_names_and_nobody_is() {
        let metadata = party("metadata", PartyKind::Metadata);
        let parties = [party("web", PartyKind::Container), party("db", PartyKind::Container), party("host", PartyKind::Host), metadata];
        let cases = [
            ("{ from: web, to: db }", None),
            ("{ from: any, to: web }", None),
            ("{ from: web, to: bd }", Some("nobody is `bd`")),
            ("{ from: [web, worker], to: [db, cache] }", Some("nobody is `cache` or `worker`")),
            ("{ from: outside, to: web }", Some("nobody is `outside`")),
            ("{ from: { label: tier=db, network: front }, to: web }", Some("nobody is `{ label: tier=db, network: front }`")),
            ("{ from: web, to: web }", Some("nobody is left who could send from `web` to `web`")),
            ("{ from: { name: metadata }, to: [web, db] }", Some("nobody is left who could send from `{ name: metadata }` to `web, db`")),
        ];
        for (rule, expected) in cases {
            let policy = Isolation::parse("p.yaml", &format!("version: 1\nrequire: [{rule}]")).unwrap();
            assert_eq!(policy.requirements()[0].nobody(&parties).as_deref(), expected, "{rule}");
        }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, expected) in
            [("a*", "abc", true), ("*c", "abc", true), ("a*c*", "abcd", true), ("a*d", "abc", false), ("", "", true), ("*", "", true)]
        {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
