//! Queries and contents that mean harm.

use proptest::prelude::*;

use super::super::settings::PAGE_REACH_MAX;
use super::*;

proptest! {
    #[test]
    fn hostile_queries_are_answered(
        path in prop::sample::select(Endpoint::ALL.map(Endpoint::path).to_vec()),
        names in prop::collection::vec(
            prop::sample::select(vec![
                "sort", "auth", "subs", "offset", "limit", "cid", "state", "user", "acc", "test",
                "mqtt_client", "unused", "all", "queues", "details", "stream", "raft",
            ]),
            0..5,
        ),
        values in prop::collection::vec(
            prop_oneof![
                Just("9223372036854775807".to_owned()),
                Just("-9223372036854775808".to_owned()),
                Just("18446744073709551615".to_owned()),
                Just("18446744073709551616".to_owned()),
                Just("1".to_owned()),
                Just("any".to_owned()),
                Just("%00%ff<\"".to_owned()),
                ".{0,12}",
            ],
            5,
        ),
    ) {
        let pairs: Vec<String> =
            names.iter().zip(&values).map(|(name, value)| format!("{name}={value}")).collect();
        let address = format!("{path}?{}", pairs.join("&"));
        let (_, query) = address.split_once('?').unwrap();
        let parsed = parse_request("", path.as_bytes(), query.as_bytes());
        if let Ok(request) = &parsed.outcome {
            let needs = request.needs(NOW);
            for rows in [&needs.conns, &needs.closed].into_iter().flatten() {
                prop_assert!(rows.rows_max <= PAGE_REACH_MAX);
            }
            prop_assert!(needs.subs.is_none_or(|subs| subs.rows_max <= PAGE_REACH_MAX));
        }
        let shards = [shard(0, vec![conn(1, "A")], vec![closed(2, "A")])];
        let response = ask_of(&address, &facts(), &shards);
        prop_assert!([200, 400, 404].contains(&response.status));
        if response.status == 200 && response.content_type == "application/json"
            && path != "/stacksz"
        {
            let read: Result<serde_json::Value, _> = serde_json::from_slice(&response.body);
            prop_assert!(read.is_ok());
        }
    }
}

#[test]
fn no_secret_of_the_command_line_is_shown_anywhere() {
    let mut facts = facts();
    let line = "shearwater --user s3cret --pass=s3cret --auth s3cret --routes nats://s3cret@h:1 \
                --cluster nats://u:s3cret@h:2";
    facts.command_line = line.split_whitespace().map(str::to_owned).collect();
    let mut token = conn(1, "A");
    token.user = REDACTED_USER.into();
    let shards = [shard(0, vec![token], vec![closed(2, "A")])];
    for endpoint in Endpoint::ALL {
        for query in ["", "?auth=1&subs=detail&state=any&acc=A", "?all=1&subs=1&unused=1"] {
            let response = ask_of(&format!("{}{query}", endpoint.path()), &facts, &shards);
            let text = String::from_utf8(response.body).unwrap();
            assert!(!text.contains("s3cret"), "{}{query}: {text}", endpoint.path());
        }
    }
}

#[test]
fn everything_can_travel_between_threads() {
    fn travels<T: Send + 'static>() {}
    travels::<GatherNeeds>();
    travels::<ShardSnapshot>();
    travels::<ServerFacts>();
    travels::<MonitorRequest>();
    travels::<Response>();
}
