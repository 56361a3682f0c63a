//! What one container create costs in the pure crates: read, bound, judged and written anew, on one core.

use std::hint::black_box;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use engine::facts::{Facts, Object, ObjectKind, Owner, Reference};
use engine::{Headers, Route, Version};
use policies::Policy;

/// A create as docker compose sends it: every field that it knows, most of them zero.
pub(crate) const CREATE: &str = include_str!("create.json");

const TARGET: &str = "/v1.51/containers/create?name=shop-web-1";
const GOAL: Duration = Duration::from_micros(15);
const ROUNDS: usize = 200;
const IN_A_ROUND: u32 = 200;

pub(crate) fn run() -> anyhow::Result<()> {
    let policy = Policy::shipped("ci")?;
    let facts = facts();
    let version = Version::new(51).context("API 1.51")?;
    let whole = || create(&policy, &facts, version);
    let decode = || -> anyhow::Result<usize> {
        let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
        Ok(Route::parse("POST", TARGET)?.decode(&headers, CREATE.as_bytes())?.references().len())
    };
    let ping = || -> anyhow::Result<usize> {
        let request = Route::parse("GET", "/v1.51/_ping")?.decode(&Headers::default(), b"")?;
        let demands = request.demands(&Facts::default());
        let permitted = policy.decide(request, &demands, "bench").ok().context("denied")?;
        Ok(permitted.encode(version).target.len())
    };
    let mut out = std::io::stdout();
    writeln!(out, "a container create of {} bytes, µs per iteration:", CREATE.len())?;
    let median = print(&mut out, "decode alone", decode)?;
    writeln!(out, "  (the rest is fill, bind, demands, decide, encode)")?;
    let whole = print(&mut out, "decode to encode", whole)?;
    print(&mut out, "_ping, decode to encode", ping)?;
    let met = if whole <= GOAL { "met" } else { "not met" };
    writeln!(out, "goal for decode to encode: at most {} µs: {met} ({:.1} of it decoding)", GOAL.as_micros(), micros(median))?;
    Ok(())
}

/// The order in which the proxy does it.
fn create(policy: &Policy, facts: &Facts, version: Version) -> anyhow::Result<usize> {
    let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
    let mut request = Route::parse("POST", TARGET)?.decode(&headers, CREATE.as_bytes())?;
    policy.fill(&mut request);
    black_box(request.references());
    request.bind(facts);
    let demands = request.demands(facts);
    match policy.decide(request, &demands, "bench") {
        Ok(permitted) => match permitted.encode(version).payload {
            engine::Payload::Json(json) => Ok(json.len()),
            engine::Payload::None | engine::Payload::Stream => bail!("a create without a body"),
        },
        Err(denial) => bail!("denied: {denial}"),
    }
}

/// What the engine would say of the image; the network is one that every engine has.
fn facts() -> Facts {
    let mut facts = Facts::default();
    let id = format!("sha256:{}", "5".repeat(64));
    let references = vec!["alpine:3".to_owned()];
    let image = Rc::new(Object { id: id.clone(), references, ..Object::named(ObjectKind::Image, "alpine:3", Owner::Nobody) });
    for name in ["alpine:3", "docker.io/library/alpine:3", &id] {
        facts.insert(Reference { kind: ObjectKind::Image, name: name.to_owned() }, Some(Rc::clone(&image)));
    }
    facts
}

/// Prints minimum and median over rounds, and gives the median.
fn print(out: &mut impl Write, name: &str, work: impl Fn() -> anyhow::Result<usize>) -> anyhow::Result<Duration> {
    work()?;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..IN_A_ROUND {
            black_box(work()?);
        }
        rounds.push(began.elapsed() / IN_A_ROUND);
    }
    rounds.sort();
    let min = rounds.first().copied().unwrap_or_default();
    let median = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
    writeln!(out, "  {name:<24} min {:>6.2}   median {:>6.2}", micros(min), micros(median))?;
    Ok(median)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
