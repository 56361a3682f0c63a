//! Lists that are to begin or end at an object.

use std::rc::Rc;

use engine::Version;
use engine::facts::{Facts, Object, ObjectKind, Owner, Reference};
use engine::{Headers, Route};
use policies::Policy;
use policies::decide::DenialKind;

#[test]
fn a_list_begins_at_a_container_of_ones_own() {
    let kind = ObjectKind::Container;
    let mut facts = Facts::default();
    for (name, owner) in [("mine", Owner::Own), ("hers", Owner::Other)] {
        let object = Rc::new(Object { id: format!("id-of-{name}"), ..Object::named(kind, name, owner) });
        for name in [name.to_owned(), object.id.clone()] {
            facts.insert(Reference { kind, name }, Some(Rc::clone(&object)));
        }
    }
    let decide = |policy: &str, filters: &str| {
        let target = format!("/v1.41/containers/json?filters={}", filters.replace('"', "%22"));
        let mut request = Route::parse("GET", &target).unwrap().decode(&Headers::default(), b"").unwrap();
        request.bind(&facts);
        let demands = request.demands(&facts);
        let sent = |permitted: policies::Permitted<'_>| permitted.encode(Version::new(41).unwrap()).target;
        Policy::shipped(policy).unwrap().decide(request, &demands, "me").map(sent)
    };
    for key in ["since", "before"] {
        let of = |name: &str| format!("{{\"{key}\":[\"{name}\"]}}");
        let sent = decide("ci", &of("mine")).unwrap();
        assert!(sent.contains("id-of-mine") && sent.contains("seawall.tenant"), "{sent}");
        let (foreign, missing) = (decide("ci", &of("hers")).unwrap_err(), decide("ci", &of("nobody")).unwrap_err());
        assert_eq!((foreign.kind(), missing.kind()), (DenialKind::Hidden, DenialKind::Hidden), "{key}");
        assert_eq!(foreign.to_string().replace("hers", "nobody"), missing.to_string());
        assert!(decide("ci", &format!("{{\"{key}\":[\"mine\",\"hers\"]}}")).is_err(), "{key}: one of two");
        assert!(decide("ci", &of("")).is_err(), "{key}");
        assert!(decide("admin", &of("hers")).is_ok(), "{key}");
    }
}
