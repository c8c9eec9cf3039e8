//! Requests: paths, the order in which parameters are judged, bounds, counting.

use super::*;

fn parsed(address: &str) -> Parsed {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    parse_request("", path.as_bytes(), query.as_bytes())
}

fn fault(address: &str) -> String {
    let response = parsed(address).outcome.unwrap_err();
    assert_eq!(response.status, 400, "{address}");
    String::from_utf8(response.body).unwrap()
}

fn connz(address: &str) -> ConnzOptions {
    match parsed(address).outcome {
        Ok(MonitorRequest::Connz(options)) => options,
        other => panic!("{address}: {other:?}"),
    }
}

#[test]
fn paths_and_base_paths() {
    for endpoint in Endpoint::ALL {
        assert_eq!(Endpoint::find("", endpoint.path().as_bytes()), Some(endpoint));
        assert_eq!(Endpoint::ALL[endpoint as usize], endpoint);
    }
    for base in ["/nats", "nats", "/nats/"] {
        assert_eq!(Endpoint::find(base, b"/nats"), Some(Endpoint::Root));
        assert_eq!(Endpoint::find(base, b"/nats/varz"), Some(Endpoint::Varz));
        for missing in ["/", "/varz", "/nats/", "/natsvarz", "/nats/nope", "nats/varz"] {
            assert_eq!(Endpoint::find(base, missing.as_bytes()), None, "{missing}");
        }
    }
    for missing in ["/nope", "/varz/", "/Varz", "/varz/x", "/varz%2f", "/%zz", "", "varz"] {
        assert_eq!(parsed(missing).outcome.unwrap_err().status, 404, "{missing}");
    }
    assert_eq!(parsed("/%76arz").outcome.unwrap(), MonitorRequest::Varz);
    assert_eq!(parsed("/subscriptionsz").counted, Some(Endpoint::Subsz));
}

#[test]
fn the_first_wrong_parameter_is_reported() {
    let order = ["auth=x", "subs=x", "offset=x", "limit=x", "cid=x", "state=x"];
    for (at, pair) in order.iter().enumerate() {
        let name = pair.split('=').next().unwrap();
        let text = fault(&format!("/connz?{}", order[at..].join("&")));
        assert!(text.starts_with("Error decoding "), "{text}");
        assert!(text.contains(name), "{text}");
    }
    assert_eq!(fault("/connz?state=1"), "Error decoding state for 1");
    assert_eq!(fault("/connz?state=%20open"), "Error decoding state for  open");
    let jsz = ["accounts", "streams", "consumers", "direct-consumers", "config"];
    let rest = ["offset", "limit", "leader-only", "raft", "stream-leader-only"];
    let order: Vec<_> = jsz.iter().chain(&rest).map(|name| format!("{name}=x")).collect();
    for (at, pair) in order.iter().enumerate() {
        let name = format!("'{}'", pair.split('=').next().unwrap());
        assert!(fault(&format!("/jsz?{}", order[at..].join("&"))).contains(&name));
    }
    assert!(fault("/gatewayz?accs=x&subs=y").contains("'subs'"));
    assert!(fault("/healthz?details=x&js-meta-only=y").contains("'js-meta-only'"));
}

#[test]
fn connz_values_are_checked_and_bounded() {
    assert_eq!(fault("/connz?sort=CID"), "invalid sorting option: CID");
    assert_eq!(fault("/connz?sort=stop"), "sort by stop only valid on closed connections");
    assert_eq!(
        fault("/connz?sort=reason&state=any"),
        "sort by reason only valid on closed connections"
    );
    assert_eq!(connz("/connz?sort=stop&state=CLOSED").sort, SortKey::Stop);
    assert_eq!(connz("/connz?sort=").sort, SortKey::Cid);
    assert_eq!(connz("/connz?limit=-1").page, Page::default());
    assert_eq!(connz("/connz?limit=0&offset=-5").page, Page::default());
    assert_eq!(connz("/connz?cid=7&limit=9&offset=3").page, Page { offset: 3, limit: 1 });
    assert_eq!(connz("/connz?cid=0").cid, None);
    let extreme = connz("/connz?limit=9223372036854775807&offset=9223372036854775807");
    assert_eq!(extreme.page, Page { offset: i64::MAX, limit: PAGE_ROWS_MAX });
    let lowest = "/connz?limit=-9223372036854775808&offset=-9223372036854775808";
    assert_eq!(connz(lowest).page, Page::default());
}

#[test]
fn subsz_test_subjects_are_literal() {
    for wrong in ["x.*", "x..a", ">", ".", ".a", "a."] {
        let text = "invalid test subject, must be valid publish subject: ";
        assert_eq!(fault(&format!("/subsz?test={wrong}")), format!("{text}{wrong}"));
    }
    for fine in ["x.a", "a%20b", "a*.b>", "", "$SYS.x"] {
        assert!(parsed(&format!("/subsz?test={fine}")).outcome.is_ok());
    }
}

#[test]
fn requests_are_counted_as_nats_server_counts() {
    for (address, counted) in [
        ("/", Some(Endpoint::Root)),
        ("/connz?auth=x", None),
        ("/connz?sort=x", Some(Endpoint::Connz)),
        ("/routez?subs=x", None),
        ("/gatewayz?subs=x", Some(Endpoint::Gatewayz)),
        ("/healthz?details=x", Some(Endpoint::Healthz)),
        ("/ipqueuesz", None),
        ("/raftz", None),
        ("/debug/vars", None),
        ("/nope", None),
        ("//varz", None),
    ] {
        assert_eq!(parsed(address).counted, counted, "{address}");
    }
    let mut counts = RequestCounts::default();
    counts.record(Endpoint::Subsz);
    counts.record(Endpoint::Subsz);
    counts.record(Endpoint::Root);
    assert_eq!(counts.by_path(), BTreeMap::from([("/", 1), ("/subsz", 2)]));
}
