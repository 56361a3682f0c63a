//! What the engine would do for a request in its own memory and time, where no limit of a container holds; and how much of a request is looked at.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use engine::demand::{Demand, Flag};
use engine::facts::Facts;
use engine::stored::{Defaults, Stored};
use engine::{DecodeError, Headers, Route};

const JSON: Headers<'_> = Headers { content_type: Some("application/json"), registry_auth: None, registry_config: None };

fn refused(options: &str) -> Option<String> {
    not_understood(&format!("\"HostConfig\":{{\"LogConfig\":{{\"Type\":\"json-file\",\"Config\":{options}}}}}"))
}

fn not_understood(member: &str) -> Option<String> {
    let body = format!("{{\"Image\":\"a\",{member}}}");
    let route = Route::parse("POST", "/v1.41/containers/create").unwrap();
    let demands = route.decode(&JSON, body.as_bytes()).unwrap().demands(&Facts::default());
    demands.iter().find_map(|demanded| if let Demand::NotUnderstood(what) = &demanded.demand { Some(what.clone()) } else { None })
}

/// A string of options is one value, and each of them a demand.
#[test]
fn a_request_makes_no_more_demands_than_can_be_wanted() {
    let tmpfs = |mounts: usize| {
        let options = ",exec".repeat(100);
        let mounts: Vec<String> = (0..mounts).map(|n| format!("\"/t{n}\":\"size=1m{options}\"")).collect();
        let body = format!("{{\"Image\":\"a\",\"HostConfig\":{{\"Tmpfs\":{{{}}}}}}}", mounts.join(","));
        Route::parse("POST", "/v1.41/containers/create").unwrap().decode(&JSON, body.as_bytes()).unwrap().demands(&Facts::default())
    };
    let too_many = |demand: &Demand| matches!(demand, Demand::NotUnderstood(why) if why == "more than 4096 demands");
    assert!(!tmpfs(30).iter().any(|demanded| too_many(&demanded.demand)));
    let many = tmpfs(5000);
    assert_eq!(many.iter().count(), 4097);
    assert_eq!(many.iter().filter(|demanded| too_many(&demanded.demand)).count(), 1);
}

/// Where a path leads is looked up part by part, while a process may put a link in its place.
#[test]
fn what_is_walked_or_committed_by_path_is_demanded() {
    let demanded = |method: &str, target: &str, flag: Flag| {
        let demands = Route::parse(method, target).unwrap().decode(&Headers::default(), b"").unwrap().demands(&Facts::default());
        demands.iter().any(|demanded| demanded.demand == Demand::Flag(flag))
    };
    for (method, target, flag, expected) in [
        ("GET", "/v1.41/containers/json?size=1", Flag::ContainerSizes, true),
        ("GET", "/v1.41/containers/json?size=0&all=1", Flag::ContainerSizes, false),
        ("GET", "/v1.41/containers/a/json?size=true", Flag::ContainerSizes, true),
        ("GET", "/v1.41/containers/a/json", Flag::ContainerSizes, false),
        ("POST", "/v1.41/build?networkmode=container%3Aa", Flag::RacyCopy, true),
        ("POST", "/v1.41/build?networkmode=bridge", Flag::RacyCopy, false),
    ] {
        assert_eq!(demanded(method, target, flag), expected, "{method} {target}");
    }
}

/// `CMD` without a word ends engines of before 2026-05, and with a restart policy again and again.
#[test]
fn a_health_check_is_something_to_run() {
    for (test, understood) in [
        ("[]", true),
        ("null", true),
        (r#"["NONE"]"#, true),
        (r#"["CMD","true"]"#, true),
        (r#"["CMD-SHELL","curl -f localhost || exit 1"]"#, true),
        (r#"["CMD"]"#, false),
        (r#"["CMD-SHELL"]"#, false),
        (r#"["cmd","true"]"#, false),
        (r#"[""]"#, false),
    ] {
        let check = format!("{{\"Test\":{test},\"Interval\":1000000000}}");
        let why = not_understood(&format!("\"Healthcheck\":{check}"));
        assert_eq!(why.is_none(), understood, "{test}: {why:?}");
        let json = format!("{{\"Id\":\"c\",\"Image\":\"i\",\"Config\":{{\"Healthcheck\":{check}}},\"HostConfig\":{{}}}}");
        let demands = Stored::decode(json.as_bytes()).unwrap().demands(&Facts::default(), &Defaults::default());
        assert_eq!(demands.iter().all(|demanded| demanded.at != "Healthcheck.Test"), understood, "stored: {test}");
    }
}

#[test]
fn options_of_a_log_are_what_the_engine_can_bear() {
    for usual in [
        r#"{"max-size":"10m","max-file":"3","compress":"true","labels":"a,b"}"#,
        r#"{"max-size":"-1","mode":"non-blocking","max-buffer-size":"4m"}"#,
        r#"{"max-size":"512KB"}"#,
        r#"{"tag":"{{.Name}}/{{ .ID }}"}"#,
        r#"{"tag":"plain { text }"}"#,
        r#"{"tag":""}"#,
    ] {
        assert_eq!(refused(usual), None, "{usual}");
    }
    for (odd, key) in [
        (r#"{"tag":"{{pad \"x\" 70368744177664 0}}"}"#, "tag"),
        (r#"{"tag":"{{if eq .Name \"boom\"}}x{{end}}"}"#, "tag"),
        (r#"{"tag":"{{.ID}}{{/* x */}}"}"#, "tag"),
        (r#"{"tag":"{{.ID | json}}"}"#, "tag"),
        (r#"{"tag":"{{- .ID -}}"}"#, "tag"),
        (r#"{"tag":"{{.ID"}"#, "tag"),
        (r#"{"tag":"}}{{.ID}}"}"#, "tag"),
        (r#"{"tag":"{{.Label \"x\"}}"}"#, "tag"),
        (r#"{"max-file":"9000000000000000000"}"#, "max-file"),
        (r#"{"max-file":"0"}"#, "max-file"),
        (r#"{"max-file":"-1"}"#, "max-file"),
        (r#"{"max-size":"1"}"#, "max-size"),
        (r#"{"max-size":"0"}"#, "max-size"),
        (r#"{"max-size":"-2"}"#, "max-size"),
        (r#"{"max-size":"+10m"}"#, "max-size"),
        (r#"{"max-buffer-size":"3g"}"#, "max-buffer-size"),
        (r#"{"max-buffer-size":"99999999999999999999g"}"#, "max-buffer-size"),
    ] {
        assert!(refused(odd).is_some_and(|what| what.starts_with(&format!("log option `{key}="))), "{odd}");
    }
}

#[test]
fn a_body_has_so_many_values() {
    let route = |target| Route::parse("POST", target).unwrap();
    let many = |count: usize| vec!["\"A,{[\\\"\""; count].join(",");
    let body = |count: usize| format!("{{\"Image\":\"a\",\"HostConfig\":{{\"CapDrop\":[{}]}}}}", many(count));
    assert!(route("/v1.41/containers/create").decode(&JSON, body(16_000).as_bytes()).is_ok(), "what is in strings is not counted");
    let error = route("/v1.41/containers/create").decode(&JSON, body(17_000).as_bytes()).unwrap_err();
    assert!(matches!(&error, DecodeError::Body { why, .. } if why == "more than 16384 values"), "{error}");
    let nulls = format!("{{{}}}", (0..17_000).map(|n| format!("\"k{n}\":null")).collect::<Vec<_>>().join(","));
    assert!(route("/v1.41/containers/c/wait").decode(&JSON, nulls.as_bytes()).is_err());
    assert!(route("/v1.41/containers/c/exec").decode(&JSON, nulls.as_bytes()).is_err());
}
