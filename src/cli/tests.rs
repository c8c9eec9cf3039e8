//! The command line against what nats-server 2.15.1 was seen to do with the same arguments.

use super::*;

fn args(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn serve(text: &str) -> Flags {
    match parse(&args(text)) {
        Ok(Command::Serve(flags)) => *flags,
        other => panic!("{text}: {other:?}"),
    }
}

/// Exit code, first line of standard output, first line of standard error; `None` when the
/// arguments go on to the server, the check or the signal.
fn outcome(args: &[String]) -> Option<(u8, String, String)> {
    let (code, printout) = match parse(args) {
        Ok(Command::Print(printout)) => (EXIT_OK, printout),
        Ok(_) => return None,
        Err(error) => (error.exit_code(), error.printout()),
    };
    let first = |text: &str| text.trim_start().lines().next().unwrap_or_default().to_owned();
    Some((code, first(&printout.stdout), first(&printout.stderr)))
}

/// Recorded from nats-server 2.15.1: arguments, exit code, kind of standard output (`U`sage,
/// `V`ersion, `T`LS help, `-` nothing), first line of standard error.
const RECORDED: &[(&str, u8, char, &str)] = &[
    ("--bogus", 0, 'U', "flag provided but not defined: -bogus"),
    ("-bogus=3", 0, 'U', "flag provided but not defined: -bogus"),
    ("-VERSION version", 0, 'U', "flag provided but not defined: -VERSION"),
    ("--p", 0, 'U', "flag needs an argument: -p"),
    ("-c", 0, 'U', "flag needs an argument: -c"),
    ("-sl", 0, 'U', "flag needs an argument: -sl"),
    ("-p abc", 0, 'U', "invalid value \"abc\" for flag -p: parse error"),
    ("--port=abc", 0, 'U', "invalid value \"abc\" for flag -port: parse error"),
    ("-p=", 0, 'U', "invalid value \"\" for flag -p: parse error"),
    ("-p 08 -v", 0, 'U', "invalid value \"08\" for flag -p: parse error"),
    ("-p 1__0 -v", 0, 'U', "invalid value \"1__0\" for flag -p: parse error"),
    ("-profile x", 0, 'U', "invalid value \"x\" for flag -profile: parse error"),
    ("-log_size_limit 1k", 0, 'U', "invalid value \"1k\" for flag -log_size_limit: parse error"),
    (
        "-p 99999999999999999999 -v",
        0,
        'U',
        "invalid value \"99999999999999999999\" for flag -p: value out of range",
    ),
    ("-D=maybe", 0, 'U', "invalid boolean value \"maybe\" for -D: parse error"),
    ("-D=", 0, 'U', "invalid boolean value \"\" for -D: parse error"),
    ("-D=yes", 0, 'U', "invalid boolean value \"yes\" for -D: parse error"),
    ("-v=", 0, 'U', "invalid boolean value \"\" for -v: parse error"),
    ("-=x", 0, 'U', "bad flag syntax: -=x"),
    ("---p", 0, 'U', "bad flag syntax: ---p"),
    ("-h -bogus", 0, 'U', "flag provided but not defined: -bogus"),
    ("-v -bogus", 0, 'U', "flag provided but not defined: -bogus"),
    ("foo", 1, '-', "nats-server: unrecognized command: \"foo\""),
    ("-", 1, '-', "nats-server: unrecognized command: \"-\""),
    ("-- foo", 1, '-', "nats-server: unrecognized command: \"foo\""),
    ("-- -v", 1, '-', "nats-server: unrecognized command: \"-v\""),
    ("-D foo", 1, '-', "nats-server: unrecognized command: \"foo\""),
    ("foo version", 1, '-', "nats-server: unrecognized command: \"foo\""),
    ("-t foo", 1, '-', "nats-server: unrecognized command: \"foo\""),
    ("-sl stop=99999999 foo", 1, '-', "nats-server: unrecognized command: \"foo\""),
    (
        "-t",
        1,
        '-',
        "nats-server: must specify [-c, --config] option to check configuration file syntax",
    ),
    (
        "-v=false -t",
        1,
        '-',
        "nats-server: must specify [-c, --config] option to check configuration file syntax",
    ),
    ("version", 0, 'V', ""),
    ("VERSION", 0, 'V', ""),
    ("version foo", 0, 'V', ""),
    ("version -D", 0, 'V', ""),
    ("-D -V version", 0, 'V', ""),
    ("-v", 0, 'V', ""),
    ("--version", 0, 'V', ""),
    ("-v foo", 0, 'V', ""),
    ("-h -v", 0, 'V', ""),
    ("-t -v", 0, 'V', ""),
    ("-sl stop -v", 0, 'V', ""),
    ("-DV=false -v", 0, 'V', ""),
    ("-p 0x10 -v", 0, 'V', ""),
    ("-p -1 -v", 0, 'V', ""),
    ("-c= -v", 0, 'V', ""),
    ("-store_dir= -l= -P= -v", 0, 'V', ""),
    ("help", 0, 'U', ""),
    ("HELP", 0, 'U', ""),
    ("-h", 0, 'U', ""),
    ("--h", 0, 'U', ""),
    ("-h=true", 0, 'U', ""),
    ("-h foo", 0, 'U', ""),
    ("-help_tls -h", 0, 'U', ""),
    ("-sl reload -h", 0, 'U', ""),
    ("-help_tls", 0, 'T', ""),
    ("-help_tls foo", 0, 'T', ""),
];

#[test]
fn streams_and_exit_codes_are_nats_servers() {
    for (line, code, kind, stderr) in RECORDED {
        let (got_code, stdout, got_stderr) =
            outcome(&args(line)).unwrap_or_else(|| panic!("{line}: goes on"));
        assert_eq!(got_code, *code, "{line}");
        let expected = match kind {
            'U' => "Usage: ",
            'V' => "nats-server: v2.15.1",
            'T' => "TLS ",
            _ => "",
        };
        assert!(stdout.starts_with(expected), "{line}: {stdout}");
        assert_eq!(stdout.is_empty(), *kind == '-', "{line}: {stdout}");
        // Our own version stands on standard error beside nats-server's.
        let said = if *kind == 'V' { "" } else { got_stderr.as_str() };
        assert_eq!(said, *stderr, "{line}");
    }
    assert_eq!(
        outcome(&[String::new()]).map(|(code, _, stderr)| (code, stderr)),
        Some((1, "nats-server: unrecognized command: \"\"".into()))
    );
}

#[test]
fn the_version_output_is_exactly_nats_servers() {
    let Ok(Command::Print(printout)) = parse(&args("-v")) else { panic!("prints") };
    assert_eq!(printout.stdout, "nats-server: v2.15.1\n");
    assert_eq!(printout.stderr, format!("shearwater: v{SHEARWATER_VERSION}\n"));
}

#[test]
fn an_earlier_fault_wins() {
    let fault = |text: &str| parse(&args(text)).unwrap_err().to_string();
    assert_eq!(fault("-p abc -bogus"), "invalid value \"abc\" for flag -p: parse error");
    assert_eq!(fault("-m 1 -p=x -m y"), "invalid value \"x\" for flag -p: parse error");
    assert_eq!(fault("-D=x -c"), "invalid boolean value \"x\" for -D: parse error");
    // The faulty one of two spellings is named.
    assert_eq!(fault("-p 1 --port y"), "invalid value \"y\" for flag -port: parse error");
}

#[test]
fn every_spelling_reaches_its_field() {
    let flags = serve("-a h -p -1 -n s -P p -m 2 -ms 3 -c f -l l -r u -sd d --ports_file_dir q");
    assert_eq!(flags.host.as_deref(), Some("h"));
    assert_eq!(flags.port, Some(-1));
    assert_eq!(flags.server_name.as_deref(), Some("s"));
    assert_eq!(flags.pid_file, Some("p".into()));
    assert_eq!((flags.http_port, flags.https_port), (Some(2), Some(3)));
    assert_eq!(flags.config_file(), Some("f".into()));
    assert_eq!(flags.log_file, Some("l".into()));
    assert_eq!(flags.remote_syslog.as_deref(), Some("u"));
    assert_eq!(flags.store_dir, Some("d".into()));
    assert_eq!(flags.ports_file_dir, Some("q".into()));
    assert_eq!(serve("--net h").host, serve("-addr=h").host);
    assert_eq!(serve("--server_name s").server_name, serve("--name=s").server_name);
    let flags = serve(
        "--user u --pass p --auth t --tls --tlsverify --tlscert c --tlskey k --tlscacert a \
         --routes nats://a,nats://b --cluster nats://c --cluster_name n --no_advertise \
         --cluster_advertise x --connect_retries 3 --profile 4 -js --client_advertise y \
         --log_size_limit 5 --max_traced_msg_len 6 -s -T=false --logtime_utc",
    );
    assert_eq!(flags.user.as_deref(), Some("u"));
    assert_eq!(flags.pass.as_ref().map(Secret::as_str), Some("p"));
    assert_eq!(flags.auth.as_ref().map(Secret::as_str), Some("t"));
    assert_eq!((flags.tls, flags.tlsverify), (Some(true), Some(true)));
    assert_eq!(flags.tlscert, Some("c".into()));
    assert_eq!(flags.tlskey, Some("k".into()));
    assert_eq!(flags.tlscacert, Some("a".into()));
    assert_eq!(flags.route_urls().collect::<Vec<_>>(), ["nats://a", "nats://b"]);
    assert_eq!(flags.cluster.as_ref().map(Secret::as_str), Some("nats://c"));
    assert_eq!(flags.cluster_name.as_deref(), Some("n"));
    assert_eq!(flags.no_advertise, Some(true));
    assert_eq!(flags.cluster_advertise.as_deref(), Some("x"));
    assert_eq!((flags.connect_retries, flags.profile), (Some(3), Some(4)));
    assert_eq!(flags.jetstream, Some(true));
    assert_eq!(flags.client_advertise.as_deref(), Some("y"));
    assert_eq!((flags.log_size_limit, flags.max_traced_msg_len), (Some(5), Some(6)));
    assert_eq!((flags.syslog, flags.logtime, flags.logtime_utc), {
        (Some(true), Some(false), Some(true))
    });
    assert_eq!(serve("--cluster_listen x").cluster, serve("--cluster x").cluster);
}

#[test]
fn the_last_of_several_wins() {
    assert_eq!(serve("-p 1 --port 2 -p=3").port, Some(3));
    assert_eq!(serve("-D --debug=false").debug, Some(false));
    assert_eq!(serve("--cluster a --cluster_listen=").cluster, Some(Secret::new("")));
}

#[test]
fn levels_fold() {
    let levels = |text: &str| {
        let LevelFlags { debug, trace, trace_verbose } = serve(text).log_levels();
        (debug, trace, trace_verbose)
    };
    assert_eq!(levels(""), (None, None, None));
    assert_eq!(levels("-D=false"), (Some(false), None, None));
    assert_eq!(levels("-V"), (None, Some(true), None));
    assert_eq!(levels("-VV"), (None, Some(true), Some(true)));
    assert_eq!(levels("-DV"), (Some(true), Some(true), None));
    assert_eq!(levels("-DVV"), (Some(true), Some(true), Some(true)));
    assert_eq!(levels("-DV=false"), (None, None, None));
}

#[test]
fn our_flags_are_read() {
    let flags = serve("--shards 4 --cpus 0-3,8 -spin=always");
    assert_eq!(flags.shards, Some(4));
    assert_eq!(flags.cpus.as_ref().map(CpuList::cpus), Some(&[0, 1, 2, 3, 8][..]));
    assert_eq!(flags.spin, Some(SpinMode::Always));
    let fault = parse(&args("--cpus 3-1")).unwrap_err().to_string();
    assert!(fault.starts_with("invalid value \"3-1\" for flag -cpus: "), "{fault}");
}

#[test]
fn commands_are_told_apart() {
    assert!(matches!(parse(&args("-sl reload=1 -t")), Ok(Command::Signal(text))
        if text == "reload=1"));
    assert!(matches!(parse(&args("-t -c x")), Ok(Command::Check(_))));
    assert!(matches!(parse(&args("-sl=")), Ok(Command::Serve(_))));
    assert!(matches!(parse(&[]), Ok(Command::Serve(flags)) if *flags == Flags::default()));
}

#[test]
fn secrets_do_not_show_in_debug_text() {
    let shown = format!("{:?}", serve("--pass hush1 --auth hush2 --routes nats://a:hush3@h"));
    assert!(!shown.contains("hush"), "{shown}");
}

#[test]
fn the_usage_names_every_spelling() {
    let usage = text::usage();
    for heading in
        ["Server", "Logging", "JetStream", "Authorization", "TLS", "Cluster", "Profiling", "Common"]
    {
        assert!(usage.contains(&format!("\n{heading} Options:\n")), "{heading}");
    }
    for (name, ..) in argv::SPELLINGS {
        let dashes = if name.len() > 2 && *name != "DVV" { "--" } else { "-" };
        let spelled = format!("{dashes}{name}");
        assert!(
            usage.split([' ', ',', '\n']).any(|word| word == spelled),
            "{spelled} is not in the usage"
        );
    }
}

#[test]
fn clap_finds_no_fault_in_the_definition() {
    <Flags as clap::CommandFactory>::command().debug_assert();
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    /// Arguments that are likely to mean something.
    fn argument() -> impl Strategy<Value = String> {
        let spelling = proptest::sample::select(argv::SPELLINGS).prop_map(|(name, ..)| name);
        prop_oneof![
            spelling.clone().prop_map(|name| format!("-{name}")),
            (spelling, ".{0,8}").prop_map(|(name, value)| format!("--{name}={value}")),
            "-{0,3}[a-zA-Z]{0,4}=?.{0,4}",
            "[0-9]{0,20}",
        ]
    }

    /// One flag with its value, if it needs one.
    fn whole_flag() -> impl Strategy<Value = Vec<String>> {
        let spelling = proptest::sample::select(argv::SPELLINGS);
        (spelling, "--?", ".{0,8}", any::<bool>()).prop_map(
            |((name, _, kind), dashes, value, inline)| match (inline, kind) {
                (true, _) => vec![format!("{dashes}{name}={value}")],
                (false, argv::Kind::Switch) => vec![format!("{dashes}{name}")],
                (false, argv::Kind::Value) => vec![format!("{dashes}{name}"), value],
            },
        )
    }

    proptest! {
        #[test]
        fn any_arguments_are_answered(args in prop::collection::vec(argument(), 0..8)) {
            match parse(&args) {
                Ok(Command::Print(printout)) => prop_assert!(!printout.stdout.is_empty()),
                Ok(_) => {}
                Err(error) => prop_assert!(error.printout().stderr.ends_with('\n')),
            }
        }

        #[test]
        fn no_secret_survives_redaction(
            before in prop::collection::vec(whole_flag(), 0..4),
            flag in proptest::sample::select(&["user", "pass", "auth", "routes", "cluster_listen"]),
            dashes in "--?",
            inline in any::<bool>(),
        ) {
            let secret = "hush-hush";
            let mut args = before.concat();
            if inline {
                args.push(format!("{dashes}{flag}={secret}"));
            } else {
                args.extend([format!("{dashes}{flag}"), secret.to_owned()]);
            }
            let shown = redacted(&args);
            prop_assert_eq!(shown.len(), args.len());
            prop_assert!(!shown.concat().contains(secret), "{:?}", shown);
        }

        #[test]
        fn decimal_integers_are_read_as_written(number in any::<i64>()) {
            prop_assert_eq!(go_int(&number.to_string()), Ok(number));
        }
    }
}
