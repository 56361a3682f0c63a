//! `netcheck explain`.

use std::str::FromStr;

use miette::miette;
use netcheck::analyse::{Question, explain};
use netcheck::model::Model;
use netcheck::packet::Protocol;
use netcheck::report::text;

use super::output::Output;
use super::{ExplainArguments, ExplainFormat, Failure, Outcome, source};

/// `tcp/80`, `icmp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Service {
    protocol: Protocol,
    port: Option<u16>,
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, port) = match text.split_once('/') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        };
        let protocol =
            Protocol::named(name).ok_or_else(|| format!("`{name}` is none of tcp, udp, icmp, icmpv6; other protocols are not looked at"))?;
        let port = match (port, protocol.has_ports()) {
            (Some(port), true) => Some(port.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("`{port}` is not a port from 1 to 65535"))?),
            (None, true) => return Err(format!("{name} needs a port, as in {name}/80")),
            (Some(_), false) => return Err(format!("{name} has no ports")),
            (None, false) => None,
        };
        Ok(Self { protocol, port })
    }
}

/// Answers and prints.
pub(crate) fn run(arguments: &ExplainArguments) -> Result<Outcome, Failure> {
    let snapshot = source::snapshot(&arguments.source)?;
    let model = Model::new(&snapshot);
    let question = Question {
        from: arguments.sender.clone(),
        to: arguments.receiver.clone(),
        protocol: arguments.service.protocol,
        port: arguments.service.port,
        attacker: arguments.attacker.into(),
    };
    let answer = explain(&model, &question).map_err(|error| {
        let names: Vec<&str> = model.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        let help = format!("endpoints: {}", names.join(", "));
        Failure::Usage(miette!(help = help, "{error}"))
    })?;
    let content = match arguments.format {
        ExplainFormat::Json => serde_json::to_string_pretty(&answer).map_err(|error| Failure::Usage(miette!("cannot write the answer: {error}")))?,
        ExplainFormat::Text => text::explanation(&answer),
    };
    Output::Standard.write(format!("{}\n", content.trim_end()).as_bytes())?;
    Ok(Outcome::Conforms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_a_protocol_and_a_port_where_there_is_one() {
        let cases = [
            ("tcp/80", true),
            ("udp/65535", true),
            ("icmp", true),
            ("icmpv6", true),
            ("tcp", false),
            ("tcp/0", false),
            ("tcp/65536", false),
            ("icmp/8", false),
            ("sctp/1", false),
            ("", false),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Service>().is_ok(), expected, "{text}");
        }
    }
}
