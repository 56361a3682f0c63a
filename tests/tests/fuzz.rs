//! Mutated input: nothing panics, what is taken is taken again after it was written anew, and means the same. `FUZZ_CASES` says how many (20,000).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use engine::context::Context;
use engine::dockerfile::Dockerfile;
use engine::facts::Facts;
use engine::{Headers, Payload, Route, Version};
use policies::Policy;
use tests::mutate::{Random, cases, mutate};

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

const AUTH: &[u8] = br#"{"username":"u","password":"p","serveraddress":"registry.example.com"}"#;
const AUTH_CONFIG: &[u8] = br#"{"registry.example.com":{"username":"u","password":"p"}}"#;

/// The headers of a request that was written, as they are read.
fn encoded_headers<'h>(headers: &'h [(&'static str, String)]) -> Headers<'h> {
    let value = |name| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
    Headers { content_type: Some("application/json"), registry_auth: value("X-Registry-Auth"), registry_config: value("X-Registry-Config") }
}

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
        let auth = URL_SAFE.encode(mutate(AUTH, TOKENS, &mut random));
        let config = URL_SAFE.encode(mutate(AUTH_CONFIG, TOKENS, &mut random));
        // Most of the cases leave the headers out, so that the rest is reached.
        let plain = Headers { content_type: Some("application/json"), ..Headers::default() };
        let headers = if random.next(4) == 0 { Headers { registry_auth: Some(&auth), registry_config: Some(&config), ..plain } } else { plain };
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
            .decode(&encoded_headers(&encoded.headers), &json)
            .unwrap();
        assert_eq!(again.body, request.body, "{}", encoded.target);
        if !request.pulls() {
            // What a build pulls is pulled before it.
            assert_eq!(again.query, request.query, "{}", encoded.target);
        }
        assert_eq!((again.registry_auth, again.registry_config), (request.registry_auth, request.registry_config), "{}", encoded.target);
        assert_eq!(again.object, request.object, "{}", encoded.target);
    }
    assert!(taken > cases() / 200, "only {taken} requests were taken: nothing was tried");
}

/// What is written of a Dockerfile that was taken is taken again, names the same images and is written the same.
#[test]
fn dockerfiles_mean_the_same_once_written() {
    let seeds: [&[u8]; 4] = [
        b"# escape=\\\nARG B=alpine\nFROM ${B:-x} AS base\nRUN a \\\n b\nCOPY --from=base /a /b\nADD http://x /y\nONBUILD RUN z\n",
        b"# escape=`\nFROM --platform=linux/amd64 a\nCOPY --chown=1 --from=b /a /b\nLABEL a=\"b c\" d='e'\nRUN x `\n\n # c\n y\nWORKDIR /w",
        b"FROM a\r\nFROM a AS b\r\nCOPY --from=0 /a /b\r\nRUN [\"a\", \"b\\\\c\"]\r\n",
        b"ARG A\nARG B=${A:+x}\nFROM scratch\nENV A=b \\\n  C=d\\\ne\nEXPOSE 80\nHEALTHCHECK CMD x",
    ];
    let tokens: [&[u8]; 12] = [b"\\\n", b"\\", b"`", b"FROM ", b"${", b"<<EOF", b"--from=", b"#", b"\n", b" ", b"\"", b"\t"];
    let mut random = Random(0xD0C_E12);
    let mut taken = 0;
    let none = BTreeMap::new();
    for _ in 0..cases() {
        let text = mutate(seeds[random.next(seeds.len())], &tokens, &mut random);
        let Ok(read) = Dockerfile::parse(&text, &none) else { continue };
        taken += 1;
        let written = read.write(|image| image.name.clone()).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        let again = Dockerfile::parse(written.as_bytes(), &none).unwrap_or_else(|error| panic!("{error}: {:?} of {text:?}", written));
        assert_eq!(again.write(|image| image.name.clone()).as_deref(), Ok(&*written), "{text:?}");
        let uses = |read: &Dockerfile| read.images().iter().map(|image| (image.name.clone(), image.usage.clone())).collect::<Vec<_>>();
        assert_eq!(uses(&again), uses(&read), "{text:?}");
        assert_eq!(again.demands(&Facts::default()).len(), read.demands(&Facts::default()).len(), "{text:?}");
    }
    assert!(taken > cases() / 20, "only {taken} were taken: nothing was tried");
}

#[test]
fn archives_never_panic() {
    let mut random = Random(0xA2C_411);
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
        let mut context = Context::new("");
        for piece in mutate(&archive, &[b"\0", b"x", b"path="], &mut random).chunks(1 + random.next(600)) {
            if context.push(piece, &mut Vec::new()).is_err() {
                break;
            }
        }
    }
}

/// A policy that cannot be read says where: nothing in it is passed over.
#[test]
fn policies_are_read_or_refused() {
    let seeds: Vec<&str> = ["ci", "hardened", "read-only", "admin", "netcheck"].iter().filter_map(|name| policies::shipped::text(name)).collect();
    let tokens: [&[u8]; 16] =
        [b"\n", b"  ", b": ", b"- ", b"[", b"]", b"{", b"}", b"&a ", b"*a", b"!!binary ", b"own", b"all", b"\"", b"'", b"include: [ci]\n"];
    let mut random = Random(0x901_1C1);
    let mut taken = 0;
    // Each compiles a whole policy.
    for _ in 0..cases() / 10 {
        let text = mutate(seeds[random.next(seeds.len())].as_bytes(), &tokens, &mut random);
        let Ok(text) = String::from_utf8(text) else { continue };
        match Policy::compile("mutated", &text, &|_, include| Err(format!("no file `{include}`"))) {
            Ok(_) => taken += 1,
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    assert!(taken > 0, "none was taken: nothing was tried");
}
