//! `seawall policy`: what policies there are, what they grant, and why a request is permitted or denied.

use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args as ClapArgs, Subcommand};
use engine::facts::{Facts, Object, Owner, Reference};
use engine::{Headers, Request, Route};
use policies::{Policy, shipped};

use crate::clients::load;
use crate::config::PolicyRef;
use crate::receive::{Bounds, Framing, Receiver};

/// Look at policies.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Check a policy file.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Say whether a request would be permitted, and why: its demands, and what would grant those that are not granted.
    Explain {
        /// The policy: a shipped one's name, or a file.
        #[arg(long, value_name = "NAME|FILE", default_value = "ci")]
        policy: PolicyRef,
        /// Who asks: the tenant that owned objects belong to.
        #[arg(long, value_name = "TENANT", default_value = "you")]
        identity: String,
        /// Whose the objects are that the request names: `own`, `other`, or `nobody` (not there, or made by somebody else).
        #[arg(long, value_name = "OWNER", default_value = "own")]
        objects: Owned,
        /// The HTTP request in a file, or `-` for standard input. Lines may end with LF.
        request: PathBuf,
    },
    /// List the shipped policies.
    List,
    /// Print the JSON Schema of policies.
    Schema,
    /// Print a shipped policy, or with `--matrix` which operations it grants, and on whose objects.
    Show {
        /// Its name, or a file.
        name: PolicyRef,
        /// Families against effects.
        #[arg(long)]
        matrix: bool,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Owned {
    Nobody,
    Other,
    Own,
}

/// Runs `seawall policy`.
///
/// # Errors
/// The policy or the request cannot be read, or the request is denied.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<bool> {
    match &args.step {
        Step::Check { file } => {
            let policy = load(&PolicyRef::File(file.clone()))?;
            writeln!(out, "{}: good ({})", file.display(), policy.fingerprint())?;
        }
        Step::Explain { policy, identity, objects, request } => return explain(&load(policy)?, identity, *objects, request, out),
        Step::List => {
            for (name, purpose, _) in shipped::SHIPPED {
                writeln!(out, "{name:<10} {purpose}")?;
            }
        }
        Step::Schema => write!(out, "{}", policies::syntax::schema())?,
        Step::Show { name, matrix: true } => write!(out, "{}", load(name)?.matrix())?,
        Step::Show { name: PolicyRef::Shipped(name), matrix: false } => match shipped::text(name) {
            Some(text) => write!(out, "{text}")?,
            None => anyhow::bail!(shipped::no_such(name)),
        },
        Step::Show { name: PolicyRef::File(path), matrix: false } => {
            load(&PolicyRef::File(path.clone()))?;
            write!(out, "{}", std::fs::read_to_string(path)?)?;
        }
    }
    Ok(true)
}

fn explain(policy: &Policy, tenant: &str, objects: Owned, path: &Path, out: &mut impl Write) -> anyhow::Result<bool> {
    let text = read(path)?;
    let (head, body) = parse(&text)?;
    let route = Route::parse(head.method, &head.target)?;
    let operation = route.operation;
    if !operation.is_typed() {
        writeln!(out, "denied: {} is not mediated: its body is not decoded yet, so no policy can grant it", operation.id)?;
        return Ok(false);
    }
    let headers = Headers {
        content_type: head.content_type.as_deref(),
        registry_auth: head.registry_auth.as_deref(),
        registry_config: head.registry_config.as_deref(),
    };
    let mut request = route.decode(&headers, &body)?;
    policy.fill(&mut request);
    let facts = assume(&request, objects);
    request.bind(&facts);
    let demands = request.demands(&facts);
    writeln!(out, "{} {}, decided by `{}`", operation.id, operation.path, policy.name())?;
    for demanded in demands.iter() {
        let covered = policy.covers(&demanded.demand);
        write!(out, "  {} {:<34} {}", if covered { "granted" } else { "MISSING" }, demanded.at, demanded.demand)?;
        match Policy::remedy(&demanded.demand).filter(|_| !covered) {
            Some(remedy) => writeln!(out, "\n          add: {remedy}")?,
            None => writeln!(out)?,
        }
    }
    let decided = policy.decide(request, &demands, tenant);
    writeln!(out, "{}", if decided.is_ok() { "permitted" } else { "denied" })?;
    Ok(decided.is_ok())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut text).context("cannot read standard input")?;
    } else {
        text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(text)
}

/// Reads a request as the proxy would, after giving it CRLF and what people leave out: `Host`, and the length of the body.
fn parse(text: &[u8]) -> anyhow::Result<(crate::receive::Head, bytes::Bytes)> {
    let text = String::from_utf8_lossy(text).replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
    let body = body.trim_end_matches('\n');
    let mut wire = head.trim_end().lines().collect::<Vec<_>>().join("\r\n");
    let has = |name: &str| head.lines().any(|line| line.to_ascii_lowercase().starts_with(name));
    if !has("host:") {
        wire.push_str("\r\nHost: docker");
    }
    if !has("content-length:") && !has("transfer-encoding:") && !body.is_empty() {
        wire.push_str(&format!("\r\nContent-Length: {}", body.len()));
    }
    if !has("content-type:") && body.starts_with('{') {
        wire.push_str("\r\nContent-Type: application/json");
    }
    wire.push_str("\r\n\r\n");
    wire.push_str(body);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let mut receiver = Receiver::new(wire.as_bytes(), Bounds::default());
        let head = receiver.head(|_| true).await?.context("there is no request")?;
        let body = if head.framing == Framing::None { bytes::Bytes::new() } else { receiver.body(head.framing, |_| true).await? };
        Ok((head, body))
    })
}

/// Facts as they are assumed: everything that is named is there, and whose it is was said.
fn assume(request: &Request<'_>, objects: Owned) -> Facts {
    let owner = match objects {
        Owned::Nobody => Owner::Nobody,
        Owned::Other => Owner::Other,
        Owned::Own => Owner::Own,
    };
    let mut facts = Facts::default();
    for Reference { kind, name } in request.references() {
        // A volume or a name that is asked for is usually new, and an image usually somebody's whom nobody has labelled.
        let image = kind == engine::facts::ObjectKind::Image;
        let owner = if image && owner == Owner::Own { Owner::Nobody } else { owner };
        let object = Object { references: vec![name.clone()], ..Object::named(kind, &name, owner) };
        facts.insert(Reference { kind, name }, Some(object.into()));
    }
    for path in request.host_paths(&facts) {
        facts.insert_plain_path(path);
    }
    facts
}
