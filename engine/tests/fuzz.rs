//! Mutated requests: decoding never panics, and what it takes it takes again after encoding. `FUZZ_CASES` says how many (20,000).

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on says so")]

use engine::context::Context;
use engine::dockerfile::Dockerfile;
use engine::facts::Facts;
use engine::{Headers, Payload, Route, Version};

/// xorshift64*: the same cases on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(mixed).unwrap() % below.max(1)
    }
}

fn cases() -> usize {
    std::env::var("FUZZ_CASES").ok().and_then(|number| number.parse().ok()).unwrap_or(20_000)
}

/// Changes some bytes: flips, inserts tokens, cuts, doubles.
fn mutate(seed: &[u8], tokens: &[&[u8]], random: &mut Random) -> Vec<u8> {
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

const TARGETS: &[&str] = &[
    "/v1.41/containers/create?name=x&platform=linux",
    "/v1.44/containers/json?all=1&filters=%7B%22label%22%3A%5B%22a%22%5D%7D",
    "/_ping",
    "/v1.41/images/docker.io%2Flibrary%2Falpine:3/json",
    "/v1.41/containers/abc/archive?path=%2Fetc",
    "/v1.41/networks/n/connect",
    "/v1.41/exec/e/start",
    "/v1.41/build?t=app&t=b&dockerfile=Dockerfile&buildargs=%7B%22A%22%3Anull%7D&labels=%7B%7D&cachefrom=%5B%5D&ulimits=null",
    "/v1.41/volumes/create",
    "/v1.41/images/create?fromImage=alpine&tag=3",
    "/v1.41/networks/create",
    "/v1.41/containers/c/update",
    "/v1.41/containers/c/exec",
];
const BODIES: &[&str] = &[
    r#"{"Image":"alpine","Cmd":["x"],"HostConfig":{"Binds":["/a:/b:ro"],"NetworkMode":"container:x","Memory":1,"PortBindings":{"80/tcp":[{"HostPort":"80"}]},"SecurityOpt":["seccomp=unconfined"],"Mounts":[{"Type":"volume","Target":"/x","Source":"v"}]},"NetworkingConfig":{"EndpointsConfig":{"n":{"NetworkID":"x"}}}}"#,
    r#"{"Cmd":["id"],"Privileged":true}"#,
    r#"{"Name":"v","DriverOpts":{"device":"/"}}"#,
    r#"{"Container":"c","EndpointConfig":{}}"#,
    r#"{"Detach":true}"#,
    r#"{"Name":"n","IPAM":{"Config":[{"Subnet":"10.0.0.0/8"}]}}"#,
    "",
];
const TOKENS: &[&[u8]] = &[
    b"%2F",
    b"%",
    b"//",
    b"..",
    b"?",
    b"&",
    b"=",
    b";",
    b"\"Privileged\":true,",
    b"{",
    b"}",
    b"[",
    b"null",
    b"\xc5\xbf",
    b"\xe2\x84\xaa",
    b"\0",
    b"\n",
    b"\\u0000",
    b"/v1.99",
    b"HostConfig",
    b"-1",
    b"9999999999999999999",
    b"1e9",
    b":",
    b",",
];

#[test]
fn requests_are_refused_or_survive() {
    let mut random = Random(0x5EA_0A11);
    let mut taken = 0;
    for _ in 0..cases() {
        let target = mutate(TARGETS[random.next(TARGETS.len())].as_bytes(), TOKENS, &mut random);
        let body = mutate(BODIES[random.next(BODIES.len())].as_bytes(), TOKENS, &mut random);
        // Every other case keeps the target, so that bodies are reached.
        let target = if random.next(2) == 0 { String::from_utf8_lossy(&target).into_owned() } else { TARGETS[random.next(TARGETS.len())].to_owned() };
        let method = ["GET", "POST", "PUT", "DELETE", "HEAD"][random.next(5)];
        let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
        let Ok(route) = Route::parse(method, &target) else { continue };
        let Ok(mut request) = route.decode(&headers, &body) else { continue };
        if !request.operation.is_typed() {
            continue;
        }
        taken += 1;
        request.bind(&Facts::default());
        assert!(!request.demands(&Facts::default()).is_empty());
        let version = Version::new(41).unwrap();
        let encoded = request.encode(request.version.unwrap_or(version));
        let json = match &encoded.payload {
            Payload::Json(json) => json.clone(),
            Payload::None | Payload::Stream => Vec::new(),
        };
        let again = Route::parse(encoded.method, &encoded.target)
            .unwrap_or_else(|error| panic!("{}: {error}", encoded.target))
            .decode(&headers, &json)
            .unwrap();
        assert_eq!(again.body, request.body, "{}", encoded.target);
        assert_eq!(again.query, request.query, "{}", encoded.target);
        assert_eq!(again.object, request.object, "{}", encoded.target);
    }
    assert!(taken > cases() / 200, "only {taken} requests were taken: nothing was tried");
}

#[test]
fn dockerfiles_and_archives_never_panic() {
    let mut random = Random(0xD0C_E12);
    let dockerfile = b"# escape=\\\nARG B=alpine\nFROM ${B:-x} AS base\nRUN a \\\n b\nCOPY --from=base /a /b\nADD http://x /y\nONBUILD RUN z\n";
    let mut archive = vec![0_u8; 512];
    archive[..10].copy_from_slice(b"Dockerfile");
    archive[124..135].copy_from_slice(b"00000000004");
    archive[156] = b'0';
    archive[148..156].copy_from_slice(b"        ");
    let sum: u32 = archive.iter().map(|b| u32::from(*b)).sum();
    archive[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    archive.extend_from_slice(b"FROM");
    archive.resize(2048, 0);
    for _ in 0..cases() {
        let _ = Dockerfile::parse(
            &mutate(dockerfile, &[b"\\\n", b"FROM ", b"${", b"<<EOF", b"--from=", b"#"], &mut random),
            &std::collections::BTreeMap::new(),
        );
        let mut context = Context::new("");
        for piece in mutate(&archive, &[b"\0", b"x", b"path="], &mut random).chunks(1 + random.next(600)) {
            if context.push(piece, &mut Vec::new()).is_err() {
                break;
            }
        }
    }
}
