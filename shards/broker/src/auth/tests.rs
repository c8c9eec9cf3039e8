//! Logins: the matrix of what is configured against who comes, as nats-server 2.15.1 answers it.

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signer, SigningKey};
use wire::nkey::{KeyKind, encode_public};

use super::*;

const NONCE: &[u8] = b"jJ6z0bQ0n1gTq3w";
/// What a bcrypt password looks like; no test here verifies one.
const BCRYPT: &str = "$2a$11$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234";

fn connect(json: &str) -> Connect {
    Connect::parse(json.as_bytes()).unwrap()
}

fn table(settings: &AuthSettings) -> AuthTable {
    AuthTable::new(settings).unwrap()
}

/// `user@account`, or the reason of the refusal.
fn shown(login: Login) -> String {
    match login {
        Login::Accept(identity) => format!("{}@{}", identity.user, identity.account),
        Login::Reject(reason) => format!("{reason:?}"),
        Login::VerifyPassword(_) => "VerifyPassword".to_owned(),
    }
}

fn login(table: &AuthTable, json: &str) -> String {
    shown(table.begin(&connect(json), ConnectionKind::Standard, NONCE))
}

fn account(name: &str, users: &[UserSettings]) -> AccountSettings {
    AccountSettings { name: name.into(), users: users.to_vec(), default_permissions: None }
}

/// The system account with user `s` and nothing else.
fn only_system() -> AuthSettings {
    AuthSettings {
        accounts: vec![account("SYS", &[UserSettings::with_password("s", "p")])],
        system_account: Some("SYS".into()),
        ..AuthSettings::default()
    }
}

/// Users `a` in the global account.
fn one_user() -> AuthSettings {
    AuthSettings {
        authorization_present: true,
        users: vec![UserSettings::with_password("a", "b")],
        ..AuthSettings::default()
    }
}

/// A row of the matrix: what INFO says, and what comes of a first verb that is not CONNECT, of a
/// CONNECT without credentials, and of one with credentials that nobody has.
fn row(settings: &AuthSettings) -> (bool, [String; 3]) {
    let table = table(settings);
    let strangers = r#"{"user":"x","pass":"y"}"#;
    let no_auth = shown(table.no_auth_identity(ConnectionKind::Standard));
    (table.auth_required(), [no_auth, login(&table, "{}"), login(&table, strangers)])
}

fn assert_row(settings: &AuthSettings, auth_required: bool, expected: [&str; 3]) {
    let (required, logins) = row(settings);
    assert_eq!(logins, expected, "{settings:?}");
    assert_eq!(required, auth_required, "{settings:?}");
}

const REFUSED: [&str; 3] = ["NoCredentials", "NoCredentials", "UnknownUser"];

#[test]
fn matrix_of_who_may_come_without_credentials() {
    assert_row(&AuthSettings::default(), false, ["@$G", "@$G", "x@$G"]);
    let implicit = ["nats-default@$G", "nats-default@$G", "UnknownUser"];
    assert_row(&only_system(), true, implicit);
    let no_users = AuthSettings { accounts: vec![account("SYS", &[])], ..only_system() };
    assert_row(&no_users, true, implicit);
    let default_name = AuthSettings {
        accounts: vec![account("$SYS", &[UserSettings::with_password("s", "p")])],
        ..AuthSettings::default()
    };
    assert_row(&default_name, true, implicit);
    // Any `authorization` block, even an empty one, closes the implicit way in.
    let closed = AuthSettings { authorization_present: true, ..only_system() };
    assert_row(&closed, true, REFUSED);
    let forgotten_flag = AuthSettings { users: one_user().users, ..only_system() };
    assert_row(&forgotten_flag, true, REFUSED);
    // So does any other account, with users or without.
    let mut other = only_system();
    other.accounts.push(account("A", &[]));
    assert_row(&other, true, REFUSED);
    other.accounts.push(account("B", &[UserSettings::with_password("b", "b")]));
    assert_row(&other, true, REFUSED);
    let accounts = vec![account("A", &[])];
    let no_users = AuthSettings { accounts, ..AuthSettings::default() };
    assert_row(&no_users, false, ["@$G", "@$G", "x@$G"]);
    let accounts = vec![account("A", &[UserSettings::with_password("a", "b")])];
    let mut with_user = AuthSettings { accounts, ..AuthSettings::default() };
    assert_row(&with_user, true, REFUSED);
    with_user.no_auth_user = Some("a".into());
    assert_row(&with_user, false, ["a@A", "a@A", "UnknownUser"]);
    let mut system = only_system();
    system.no_auth_user = Some("s".into());
    assert_row(&system, false, ["s@SYS", "s@SYS", "UnknownUser"]);
    assert_row(&one_user(), true, REFUSED);
    let empty_block = AuthSettings { authorization_present: true, ..AuthSettings::default() };
    assert_row(&empty_block, false, ["@$G", "@$G", "x@$G"]);
    let user_only = AuthSettings { user: Some("a".into()), ..empty_block.clone() };
    assert_row(&user_only, true, REFUSED);
    let token = AuthSettings { token: Some("t".into()), ..empty_block };
    assert_row(&token, true, ["NoCredentials"; 3]);
}

#[test]
fn no_auth_user_is_for_those_without_credentials_only() {
    let table = table(&AuthSettings { no_auth_user: Some("a".into()), ..one_user() });
    for (json, expected) in [
        (r#"{"user":"a","pass":"b"}"#, "a@$G"),
        (r#"{"user":"a","pass":"c"}"#, "WrongPassword"),
        (r#"{"user":"a"}"#, "WrongPassword"),
        (r#"{"pass":"q"}"#, "UnknownUser"),
        (r#"{"auth_token":"b"}"#, "UnknownUser"),
        (r#"{"jwt":"b"}"#, "a@$G"),
        (r#"{"sig":"q"}"#, "a@$G"),
        // Without nkey users an nkey is no credential.
        (r#"{"nkey":"q"}"#, "a@$G"),
        (r#"{"user":"","pass":""}"#, "a@$G"),
    ] {
        assert_eq!(login(&table, json), expected, "{json}");
    }
}

#[test]
fn a_single_user() {
    let settings = AuthSettings {
        authorization_present: true,
        user: Some("a".into()),
        password: Some("b".into()),
        default_permissions: Some(PermissionSettings::default()),
        ..AuthSettings::default()
    };
    let first = table(&settings);
    assert_eq!(login(&first, r#"{"user":"a","pass":"b"}"#), "a@$G");
    assert_eq!(login(&first, r#"{"user":"a","pass":"c"}"#), "WrongPassword");
    assert_eq!(login(&first, r#"{"user":"b","pass":"b"}"#), "UnknownUser");
    assert_eq!(login(&first, r#"{"pass":"b"}"#), "UnknownUser");
    // The defaults are for the users list.
    let login_a = first.begin(&connect(r#"{"user":"a","pass":"b"}"#), ConnectionKind::Mqtt, b"");
    assert!(matches!(login_a, Login::Accept(Identity { permissions: None, .. })));
    let no_password = table(&AuthSettings { password: None, ..settings.clone() });
    assert_eq!(login(&no_password, r#"{"user":"a"}"#), "a@$G");
    assert_eq!(login(&no_password, r#"{"user":"a","pass":"b"}"#), "WrongPassword");
    let password_only = table(&AuthSettings { user: None, ..settings });
    assert_eq!(login(&password_only, r#"{"pass":"wrong"}"#), "@$G");
}

#[test]
fn a_token() {
    let token =
        |text: &str| table(&AuthSettings { token: Some(text.into()), ..AuthSettings::default() });
    assert_eq!(login(&token("t"), r#"{"auth_token":"t"}"#), "@$G");
    assert_eq!(login(&token("t"), r#"{"auth_token":"u"}"#), "WrongPassword");
    for json in [r#"{"user":"t"}"#, r#"{"pass":"t"}"#, r#"{"nkey":"t"}"#, "{}"] {
        assert_eq!(login(&token("t"), json), "NoCredentials", "{json}");
    }
    assert_eq!(login(&token(BCRYPT), r#"{"auth_token":"t"}"#), "VerifyPassword");
}

fn check(table: &AuthTable, json: &str) -> PasswordCheck {
    match table.begin(&connect(json), ConnectionKind::Standard, b"") {
        Login::VerifyPassword(check) => check,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bcrypt_is_verified_elsewhere() {
    let users = vec![
        UserSettings::with_password("a", BCRYPT),
        UserSettings::with_password("plain", "$2c$04$x"),
    ];
    let table = table(&AuthSettings { users, ..AuthSettings::default() });
    let of_a = || check(&table, r#"{"user":"a","pass":"b"}"#);
    assert_eq!((of_a().hash(), of_a().given()), (BCRYPT, "b"));
    assert_eq!(shown(AuthTable::finish(of_a(), true)), "a@$G");
    assert_eq!(shown(AuthTable::finish(of_a(), false)), "WrongPassword");
    // The hash itself is not the password.
    let text = format!(r#"{{"user":"a","pass":"{BCRYPT}"}}"#);
    assert_eq!(login(&table, &text), "VerifyPassword");
    // An unknown user costs a verification of the same price, and never succeeds.
    let unknown = check(&table, r#"{"user":"x","pass":"b"}"#);
    assert!(unknown.hash().starts_with("$2b$11$"));
    assert_eq!(shown(AuthTable::finish(unknown, true)), "UnknownUser");
    assert_eq!(login(&table, r#"{"user":"plain","pass":"$2c$04$x"}"#), "plain@$G");
    assert!(!format!("{:?} {table:?}", of_a()).contains("$2a$11"), "hashes are not shown");
}

#[test]
fn connect_may_not_name_an_account() {
    let open = table(&AuthSettings::default());
    let users = table(&one_user());
    let token = table(&AuthSettings { token: Some("t".into()), ..AuthSettings::default() });
    for table in [&open, &users, &token] {
        for fields in [r#""account":"$G""#, r#""account":"A""#, r#""new_account":true"#] {
            let json = format!(r#"{{"user":"a","pass":"b","auth_token":"t",{fields}}}"#);
            assert_eq!(login(table, &json), "AccountField");
        }
    }
    assert_eq!(login(&open, r#"{"account":""}"#), "@$G");
}

fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(key: &SigningKey) -> String {
    encode_public(KeyKind::User, &key.verifying_key().to_bytes())
}

fn signed(key: &SigningKey, nonce: &[u8]) -> String {
    BASE64URL_NOPAD.encode(&key.sign(nonce).to_bytes())
}

#[test]
fn nkeys_sign_the_nonce() {
    let (known, stranger) = (signing_key(1), signing_key(2));
    let nkey = public(&known);
    let mut settings = one_user();
    settings.users.push(UserSettings::with_nkey(&nkey));
    let plain_table = table(&settings);
    assert!(plain_table.nonce_required() && !table(&one_user()).nonce_required());
    let good = signed(&known, NONCE);
    let expected = format!("{nkey}@$G");
    let as_known = |sig: &str| format!(r#"{{"nkey":"{nkey}","sig":"{sig}"}}"#);
    assert_eq!(login(&plain_table, &as_known(&good)), expected);
    for bad in [signed(&stranger, NONCE), signed(&known, b"other"), "!".into(), String::new()] {
        assert_eq!(login(&plain_table, &as_known(&bad)), "Signature");
    }
    let without_nonce =
        plain_table.begin(&connect(&as_known(&signed(&known, b""))), ConnectionKind::Standard, b"");
    assert_eq!(shown(without_nonce), "Signature");
    let of_stranger =
        format!(r#"{{"nkey":"{}","sig":"{}"}}"#, public(&stranger), signed(&stranger, NONCE));
    assert_eq!(login(&plain_table, &of_stranger), "UnknownUser");
    // The nkey goes before a password, and its name is no user's.
    let both = |nkey: &str, pass: &str| {
        format!(r#"{{"user":"a","pass":"{pass}","nkey":"{nkey}","sig":"{good}"}}"#)
    };
    assert_eq!(login(&plain_table, &both(&nkey, "wrong")), expected);
    assert_eq!(login(&plain_table, &both("short", "b")), "UnknownUser");
    assert_eq!(login(&plain_table, &format!(r#"{{"user":"{nkey}"}}"#)), "UnknownUser");
    assert_eq!(login(&plain_table, r#"{"user":"a","pass":"b"}"#), "a@$G");

    settings.no_auth_user = Some(nkey.clone());
    let with_no_auth = table(&settings);
    assert_eq!(login(&with_no_auth, "{}"), expected);
    assert_eq!(login(&with_no_auth, r#"{"nkey":"short"}"#), "UnknownUser");
    assert!(!with_no_auth.auth_required() && with_no_auth.nonce_required());
}

/// One function binds identities, so each restriction holds on each path.
#[test]
fn connection_kinds_hold_on_every_path() {
    let key = signing_key(1);
    let kinds = ConnectionKinds::default().with(ConnectionKind::Websocket);
    let limited = |user: UserSettings| UserSettings { connection_kinds: kinds, ..user };
    let users = vec![
        limited(UserSettings::with_password("plain", "b")),
        limited(UserSettings::with_password("hashed", BCRYPT)),
        limited(UserSettings::with_nkey(&public(&key))),
    ];
    let settings =
        AuthSettings { users, no_auth_user: Some("plain".into()), ..AuthSettings::default() };
    let table = table(&settings);
    let by_nkey = format!(r#"{{"nkey":"{}","sig":"{}"}}"#, public(&key), signed(&key, NONCE));
    for kind in ConnectionKind::ALL {
        let logins = [
            table.begin(&connect(r#"{"user":"plain","pass":"b"}"#), kind, NONCE),
            match table.begin(&connect(r#"{"user":"hashed","pass":"b"}"#), kind, NONCE) {
                Login::VerifyPassword(check) => AuthTable::finish(check, true),
                other => other,
            },
            table.begin(&connect(&by_nkey), kind, NONCE),
            table.begin(&connect("{}"), kind, NONCE),
            table.no_auth_identity(kind),
        ];
        for login in logins {
            let accepted = matches!(login, Login::Accept(_));
            assert_eq!(accepted, kind == ConnectionKind::Websocket, "{kind:?}: {login:?}");
            assert!(accepted || matches!(login, Login::Reject(Reason::ConnectionKind)));
        }
        let all = ConnectionKinds::default();
        assert!(all.allows(kind));
        assert_eq!(ConnectionKind::from_name(&kind.name().to_lowercase()), Some(kind));
    }
    assert_eq!(ConnectionKind::from_name("FOO"), None);
}

#[test]
fn default_permissions_are_each_blocks_own() {
    let deny = |subject: &str| {
        let mut settings = PermissionSettings::default();
        settings.publish.deny.push(subject.into());
        settings
    };
    let own = |name: &str| UserSettings {
        permissions: Some(PermissionSettings::default()),
        ..UserSettings::with_password(name, "b")
    };
    let plain = |name: &str| UserSettings::with_password(name, "b");
    let settings = AuthSettings {
        users: vec![plain("a"), own("b")],
        default_permissions: Some(deny("t")),
        accounts: vec![
            account("A", &[plain("c")]),
            AccountSettings {
                default_permissions: Some(deny("d")),
                ..account("B", &[plain("d"), own("e")])
            },
        ],
        ..AuthSettings::default()
    };
    let table = table(&settings);
    for (user, denied) in
        [("a", Some("t")), ("b", None), ("c", None), ("d", Some("d")), ("e", None)]
    {
        let json = format!(r#"{{"user":"{user}","pass":"b"}}"#);
        let login = table.begin(&connect(&json), ConnectionKind::Standard, b"");
        let Login::Accept(identity) = login else { panic!("{login:?}") };
        let permissions = identity.permissions;
        assert_eq!(permissions.is_none(), user == "c");
        for subject in ["t", "d"] {
            let allowed =
                permissions.as_ref().is_none_or(|rules| rules.can_publish(subject.as_bytes()));
            assert_eq!(allowed, denied != Some(subject), "{user} {subject}");
        }
    }
}

#[test]
fn settings_that_make_no_table() {
    let error = |settings: &AuthSettings| AuthTable::new(settings).unwrap_err();
    let with_no_auth = |name: &str, settings: AuthSettings| AuthSettings {
        no_auth_user: Some(name.into()),
        ..settings
    };
    let missing = AuthError::NoAuthUser("q".into());
    assert_eq!(error(&with_no_auth("q", one_user())), missing);
    assert_eq!(error(&with_no_auth("q", AuthSettings::default())), missing);
    let single = AuthSettings { user: Some("q".into()), ..AuthSettings::default() };
    assert_eq!(error(&with_no_auth("q", single.clone())), missing);
    assert_eq!(error(&AuthSettings { users: one_user().users, ..single }), AuthError::Exclusive);
    let token = AuthSettings { token: Some("t".into()), ..one_user() };
    assert_eq!(error(&token), AuthError::Exclusive);
    let mut twice = only_system();
    twice.users.push(UserSettings::with_password("s", "q"));
    assert_eq!(error(&twice), AuthError::DuplicateUser("s".into()));
    let mut bad_key = one_user();
    bad_key.users.push(UserSettings::with_nkey("UABC"));
    assert_eq!(error(&bad_key), AuthError::Nkey("UABC".into()));
    let mut bad_rule = one_user();
    let mut permissions = PermissionSettings::default();
    permissions.publish.deny.push(" ".into());
    bad_rule.default_permissions = Some(permissions);
    assert!(matches!(error(&bad_rule), AuthError::Permission { .. }));
}

#[test]
fn the_system_account_is_marked() {
    let table = table(&only_system());
    let login = table.begin(&connect(r#"{"user":"s","pass":"p"}"#), ConnectionKind::Standard, b"");
    assert!(matches!(login, Login::Accept(Identity { is_system: true, .. })));
    let no_auth = table.no_auth_identity(ConnectionKind::Standard);
    assert!(matches!(no_auth, Login::Accept(Identity { is_system: false, .. })));
}

#[test]
fn a_reload_keeps_those_whose_credentials_stay() {
    let kind = ConnectionKind::Standard;
    let identity = |table: &AuthTable, json: &str| match table.begin(&connect(json), kind, b"") {
        Login::Accept(identity) => identity,
        other => panic!("{other:?}"),
    };
    let open = table(&AuthSettings::default());
    let before = table(&one_user());
    let a = identity(&before, r#"{"user":"a","pass":"b"}"#);
    let anonymous = identity(&open, "{}");

    let mut limited = one_user();
    let mut permissions = PermissionSettings::default();
    permissions.publish.deny.push("x".into());
    limited.default_permissions = Some(permissions);
    let now = table(&limited).rebind(&a, kind).unwrap();
    assert!(!now.permissions.unwrap().can_publish(b"x"), "new permissions hold");

    let mut changed = one_user();
    changed.users = vec![UserSettings::with_password("a", "c")];
    assert!(table(&changed).rebind(&a, kind).is_none(), "another password");
    let mut gone = one_user();
    gone.users = vec![UserSettings::with_password("z", "b")];
    assert!(table(&gone).rebind(&a, kind).is_none(), "no such user");
    let mut limited = one_user();
    limited.users[0].connection_kinds = ConnectionKinds::default().with(ConnectionKind::Mqtt);
    assert!(table(&limited).rebind(&a, kind).is_none(), "another way of connecting");
    assert!(open.rebind(&a, kind).is_some());
    assert!(before.rebind(&anonymous, kind).is_none());
    let no_auth = AuthSettings { no_auth_user: Some("a".into()), ..one_user() };
    assert_eq!(&*table(&no_auth).rebind(&anonymous, kind).unwrap().user, "a");
    let token =
        |text: &str| table(&AuthSettings { token: Some(text.into()), ..AuthSettings::default() });
    let by_token = identity(&token("t"), r#"{"auth_token":"t"}"#);
    assert!(token("t").rebind(&by_token, kind).is_some());
    assert!(token("u").rebind(&by_token, kind).is_none());
    assert!(token("t").rebind(&a, kind).is_none());
}
