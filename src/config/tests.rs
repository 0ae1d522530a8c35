//! What an operator can see of the configuration: defaults, overrides, and complaints.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write as _;

use leasehold_jobs::policy::quota::{Period, RefundOn, Scope};
use leasehold_jobs::policy::rules::{OnError, SourceKind, VerifyMode};

use super::*;

fn with_file(text: &str) -> Result<Config, ConfigError> {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Config::from_sources(Some(file.path()), [])
}

fn with_variables(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_sources(None, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn keys(error: &ConfigError) -> Vec<&str> {
    error.complaints.iter().map(|complaint| complaint.key.as_str()).collect()
}

#[test]
fn the_reference_states_the_defaults_of_the_requirements() {
    let config = Config::reference();
    let rules = &config.rules;
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:7420");
    assert_eq!(config.server.body_limit_bytes, 8 * 1024 * 1024);
    assert_eq!(config.store.data_dir.to_str(), Some("./data"));
    assert!(config.store.redis_url.is_empty() && config.webhooks.allow.is_empty() && config.secrets.is_empty());
    assert_eq!(rules.time.business_zone.name(), "Asia/Shanghai");
    assert_eq!(rules.sql.maintenance.window.unwrap().to_string(), "00:00-03:30");
    assert!(rules.sql.maintenance.end_inclusive && rules.sql.backup_default && rules.restore.safety_backup);
    assert_eq!((rules.sql.max_ahead_hours, rules.sql.change.min_lead_minutes), (24, 10));
    assert_eq!((rules.sql.on_error, rules.sql.change.inclusive), (OnError::Continue, false));
    assert_eq!((rules.sql.max_script_bytes, rules.sql.statement_timeout_seconds), (1_048_576, 3_600));
    let verify = rules.verify;
    assert_eq!((verify.mode, verify.code_ttl_seconds), (VerifyMode::Engine, 300));
    assert_eq!((verify.max_attempts, verify.resend_seconds), (5, 60));
    let quota = &rules.quota["sql_update"];
    assert_eq!((quota.limit, quota.per, quota.scope), (10, Period::Day, Scope::Tenant));
    assert_eq!(quota.refund_on, [RefundOn::PlatformFailure]);
    assert_eq!(rules.restore.letter_required_for, [SourceKind::Upload]);
    assert_eq!((rules.expiry.restrict_ops_from_day, rules.expiry.destroy_after_days), (8, 30));
    assert_eq!(rules.expiry.test.buffer_days, 15);
    assert!(rules.role.admin_implies_it_ops);
}

#[test]
fn the_variables_of_the_design_work_to_the_letter() {
    let config = with_variables(&[
        ("LEASEHOLD__VERIFY__MODE", "caller"),
        ("LEASEHOLD__WEBHOOKS__ALLOW", "127.0.0.0/8"),
        ("LEASEHOLD__SQL__MAINTENANCE__WINDOW", ""),
    ])
    .unwrap();
    assert_eq!(config.rules.verify.mode, VerifyMode::Caller);
    assert_eq!(config.webhooks.allow, ["127.0.0.0/8"]);
    assert_eq!(config.rules.sql.maintenance.window, None);
}

#[test]
fn variables_are_read_by_the_type_of_the_default() {
    let config = with_variables(&[
        ("LEASEHOLD__WEBHOOKS__ALLOW", "127.0.0.0/8, fd00::/8"),
        ("LEASEHOLD__WEBHOOKS__SCHEDULE_SECONDS", "0,1,2"),
        ("LEASEHOLD__WEBHOOKS__HTTP", "true"),
        ("LEASEHOLD__QUOTA__SQL_UPDATE__LIMIT", "3"),
        ("LEASEHOLD__QUOTA__SQL_UPDATE__REFUND_ON", ""),
        ("LEASEHOLD__QUOTA__DATA_CENTER_BACKUP__LIMIT", "4"),
        ("LEASEHOLD__SECRETS__DB_PASSWORD", "hunter2"),
        ("LEASEHOLD__EXPIRY__RESTRICTED__MODE", "unrestricted"),
        ("LEASEHOLD_KEY", "not ours"),
        ("HOME", "/root"),
    ])
    .unwrap();
    assert_eq!(config.webhooks.allow, ["127.0.0.0/8", "fd00::/8"]);
    assert_eq!((config.webhooks.schedule_seconds.as_slice(), config.webhooks.http), (&[0, 1, 2][..], true));
    assert_eq!(config.rules.quota["sql_update"].limit, 3);
    assert_eq!(config.rules.quota["sql_update"].refund_on, []);
    let backup = &config.rules.quota["data_center_backup"];
    assert_eq!((backup.limit, backup.per), (4, Period::Day), "what a quota leaves out is taken from the model");
    assert_eq!(config.secrets["db_password"].expose(), "hunter2");
}

#[test]
fn a_kind_may_be_kept_otherwise() {
    let text = "[retention]\nsucceeded = { count = 77 }\n[retention.kinds.sql_update]\nsucceeded = { seconds = 60 }\n";
    let config = with_file(text).unwrap();
    let kept = config.retention.kinds["sql_update"];
    assert_eq!(
        (kept.succeeded.seconds, kept.succeeded.count),
        (60, 77),
        "what it leaves out is taken from the general"
    );
    assert_eq!(kept.dead, config.retention.dead);
    assert_eq!((config.retention.succeeded.seconds, config.retention.kinds.len()), (604_800, 1));
    let variable = [("LEASEHOLD__RETENTION__KINDS__SQL_UPDATE__DEAD__COUNT", "5")];
    assert_eq!(with_variables(&variable).unwrap().retention.kinds["sql_update"].dead.count, 5);
    let again = with_file(&config.masked()).unwrap();
    assert_eq!(again, config, "what is shown can be read again");
    for (wrong, right) in [
        ("[retention.kinds.sql_updates.dead]\ncount = 1", "retention.kinds.sql_update.dead.count"),
        ("[retention.kinds.sql_update.died]\ncount = 1", "retention.kinds.sql_update.dead.count"),
        ("[retention.kinds.sql_update.dead]\ncounts = 1", "retention.kinds.sql_update.dead.count"),
    ] {
        let error = with_file(wrong).unwrap_err().to_string();
        assert!(error.contains(&format!("did you mean `{right}`?")), "{wrong}: {error}");
    }
}

#[test]
fn limits_of_queues_kinds_and_keys_are_read_and_checked() {
    let text = "[limits.kinds.sql_update]\nmax_running = 4\n[limits.queues.copies]\nrate = 10\nper_seconds = 60\n";
    let config = with_file(text).unwrap();
    let kind = config.limits.kinds["sql_update"];
    assert_eq!((kind.max_running, kind.rate), (4, 0));
    assert_eq!((config.limits.queues["copies"].rate, config.limits.queues["copies"].per_seconds), (10, 60));
    assert_eq!(with_file(&config.masked()).unwrap(), config, "what is shown can be read again");
    let variable = [("LEASEHOLD__LIMITS__KEYS__SQL_UPDATE__MAX_RUNNING", "1")];
    assert_eq!(with_variables(&variable).unwrap().limits.keys["sql_update"].max_running, 1);
    for (wrong, key) in [
        ("[limits.kinds.sql_update]\nrate = 5", "limits.kinds.sql_update.per_seconds"),
        ("[limits.kinds.sql_update]\nper_seconds = 5\nmax_running = 1", "limits.kinds.sql_update.per_seconds"),
        ("[limits.queues.sql]\nmax_running = 0", "limits.queues.sql.max_running"),
        ("[limits.queues.sql]\nrate = 10001\nper_seconds = 1", "limits.queues.sql.rate"),
        ("[limits.queues.sql]\nrate = 1\nper_seconds = 9999999", "limits.queues.sql.per_seconds"),
        ("[limits.queues.sql]\nmax_running = \"4\"", "limits.queues.sql.max_running"),
        ("[limits.queues.sql]\nmax_running = -4", "limits.queues.sql.max_running"),
    ] {
        let error = with_file(wrong).unwrap_err();
        assert_eq!(keys(&error), [key], "{wrong}: {error}");
    }
    for (wrong, right) in [
        ("[limits.kinds.sql_updates]\nmax_running = 1", "limits.kinds.sql_update.max_running"),
        ("[limits.kind.sql_update]\nmax_running = 1", "limits.kinds.sql_update.max_running"),
        ("[limits.queues.sql]\nmax_runing = 1", "limits.queues.sql.max_running"),
    ] {
        let error = with_file(wrong).unwrap_err().to_string();
        assert!(error.contains(&format!("did you mean `{right}`?")), "{wrong}: {error}");
    }
}

#[test]
fn an_archive_is_a_folder_or_none() {
    assert_eq!(with_variables(&[("LEASEHOLD__ARCHIVE__FILES", "")]).unwrap().archive.files, "");
    for wrong in ["s3://bucket/x", "file:", "/var/archive"] {
        let error = with_variables(&[("LEASEHOLD__ARCHIVE__FILES", wrong)]).unwrap_err();
        assert_eq!(keys(&error), ["archive.files"], "{error}");
    }
}

#[test]
fn variables_lie_on_top_of_the_file_and_the_file_on_top_of_the_reference() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"[worker]\nslots = 3\nlease_ms = 20_000\n").unwrap();
    let variable = ("LEASEHOLD__WORKER__SLOTS".to_owned(), "5".to_owned());
    let config = Config::from_sources(Some(file.path()), [variable]).unwrap();
    let reference = Config::reference().worker;
    assert_eq!((config.worker.slots, config.worker.lease_ms), (5, 20_000));
    assert_eq!(config.worker.renew_ms, reference.renew_ms);
}

#[test]
fn three_mistakes_are_all_named_with_their_lines() {
    let error =
        with_file("[sql]\nmax_ahead_huors = 24\n\n[worker]\nslots = \"many\"\n\n[verify]\nmode = \"sometimes\"\n")
            .unwrap_err();
    assert_eq!(keys(&error), ["sql.max_ahead_huors", "worker.slots", "verify.mode"]);
    let text = error.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].contains("3 mistakes"), "{text}");
    assert!(lines[1].contains(":2: ") && lines[1].contains("did you mean `sql.max_ahead_hours`?"), "{text}");
    assert!(lines[2].contains(":5: ") && lines[2].contains("a whole number, got the text `many`"), "{text}");
    assert!(lines[3].contains(":8: ") && lines[3].contains("engine") && lines[3].contains("caller"), "{text}");
}

#[test]
fn mistakes_of_all_sorts_are_told_together() {
    let error = with_file(
        "[sql.maintenance]\nwindow = \"midnight\"\n[time]\nbusiness_zone = \"Mars/Olympus\"\n[server]\nlisten = \"here\"\n\
         [webhooks]\nallow = [\"10.0.0.0/99\"]\njitter_percent = 101\n[worker]\nrenew_ms = 15_000\n",
    )
    .unwrap_err();
    for key in ["sql.maintenance.window", "time.business_zone", "server.listen", "webhooks.allow"] {
        assert!(keys(&error).contains(&key), "{key} is missing in\n{error}");
    }
    for key in ["webhooks.jitter_percent", "worker.renew_ms"] {
        assert!(keys(&error).contains(&key), "{key} is missing in\n{error}");
    }
    assert!(error.complaints.iter().all(|complaint| matches!(complaint.origin, Origin::File { .. })), "{error}");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    for (wrong, right) in [
        ("[webhook]\nallow = []", "webhooks.allow"),
        ("max_script_bytes = 1", "sql.max_script_bytes"),
        ("[quota.sql_update]\nlimits = 1", "quota.sql_update.limit"),
        ("[quota.sql_updates]\nlimit = 1", "quota.sql_update.limit"),
        ("[quota.data_center_backups]\nlimit = 1", "quota.data_center_backup.limit"),
    ] {
        let error = with_file(wrong).unwrap_err().to_string();
        assert!(error.contains(&format!("did you mean `{right}`?")), "{wrong}: {error}");
    }
    let error = with_variables(&[("LEASEHOLD__VERIFY__MOOD", "caller")]).unwrap_err().to_string();
    assert!(error.contains("LEASEHOLD__VERIFY__MOOD: `verify.mood`") && error.contains("`verify.mode`"), "{error}");
}

#[test]
fn a_variable_of_the_wrong_type_names_key_type_and_value() {
    let error = with_variables(&[("LEASEHOLD__WORKER__SLOTS", "ten")]).unwrap_err().to_string();
    assert!(error.contains("LEASEHOLD__WORKER__SLOTS: `worker.slots`: expected a whole number, got `ten`"), "{error}");
}

#[test]
fn a_table_where_a_value_belongs_and_the_reverse_are_refused() {
    let error = with_file("verify = 3\n[sql.max_ahead_hours]\nx = 1\n").unwrap_err();
    assert_eq!(keys(&error), ["verify", "sql.max_ahead_hours.x"]);
}

#[test]
fn a_file_that_is_not_toml_or_not_there_says_so() {
    let error = with_file("[server]\nlisten = \n[[[").unwrap_err();
    assert!(error.to_string().contains(":2: "), "{error}");
    let error = Config::from_sources(Some(Path::new("/nowhere/at/all.toml")), []).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all.toml"), "{error}");
}

#[test]
fn secrets_are_looked_up_and_never_shown() {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    secret.write_all(b"from a file\n").unwrap();
    let path = secret.path().display();
    let config = with_file(&format!(
        "[secrets]\nplain = \"hunter2\"\nkept = \"file:{path}\"\n[store]\nredis_url = \"redis://me:hunter3@host:1\"\n"
    ))
    .unwrap();
    assert_eq!(config.secrets["plain"].expose(), "hunter2");
    assert_eq!(config.secrets["kept"].expose(), "from a file");
    assert_eq!(config.store.redis_url.expose(), "redis://me:hunter3@host:1");
    for shown in [config.masked(), format!("{config:?}")] {
        for secret in ["hunter2", "hunter3", "from a file"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    assert!(config.masked().contains("redis://me:***@host:1"));
}

#[test]
fn a_secret_that_cannot_be_looked_up_is_a_complaint_without_values() {
    let error = with_file(
        "[secrets]\na = \"env:LEASEHOLD_NO_SUCH_VARIABLE\"\nb = \"file:/nowhere\"\nc = [\"hunter2\"]\n[worker]\nslots = 0\n",
    )
    .unwrap_err();
    assert_eq!(keys(&error), ["secrets.a", "secrets.b", "secrets.c", "worker.slots"]);
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn what_is_shown_can_be_read_again() {
    let config = with_variables(&[("LEASEHOLD__SQL__MAINTENANCE__WINDOW", "23:00-02:00")]).unwrap();
    let again = with_file(&config.masked()).unwrap();
    assert_eq!(again, config);
}

#[test]
fn every_knob_of_the_reference_is_explained_above_it() {
    let mut explained = false;
    let mut inside_list = false;
    for (number, line) in REFERENCE.lines().enumerate() {
        let line = line.trim();
        match line {
            _ if inside_list => inside_list = line != "]",
            "" => explained = false,
            _ if line.starts_with('#') => explained = true,
            _ if line.starts_with('[') => {}
            _ => {
                let above = REFERENCE.lines().nth(number.wrapping_sub(1)).unwrap_or_default().trim();
                let continues = above.contains(" = ");
                assert!(explained || continues, "line {}: `{line}` has no comment", number + 1);
                inside_list = line.ends_with('[');
            }
        }
    }
}

#[test]
fn every_number_with_a_unit_names_it_in_the_key_or_in_the_comment() {
    let units = ["byte", "second", "millisecond", "hour", "minute", "day", "percent", "character"];
    let mut comment = String::new();
    for line in REFERENCE.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix('#') {
            comment.push_str(&text.to_lowercase());
            continue;
        }
        if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.starts_with('[')) {
            for suffix in ["_ms", "_seconds", "_bytes", "_hours", "_minutes", "_percent", "_days", "_chars"] {
                assert!(
                    !key.ends_with(suffix) || units.iter().any(|unit| comment.contains(unit)),
                    "`{key}` has a unit that its comment does not tell: {comment}"
                );
            }
        } else if line.is_empty() || line.starts_with('[') {
            comment.clear();
        }
    }
}

#[test]
fn a_relative_path_lies_in_the_data_folder() {
    let config = with_variables(&[("LEASEHOLD__STORE__DATA_DIR", "/var/lib/leasehold")]).unwrap();
    assert_eq!(config.in_data_dir(&config.targets.mailbox_dir), Path::new("/var/lib/leasehold/mailbox"));
    assert_eq!(config.in_data_dir("/elsewhere"), Path::new("/elsewhere"));
}
