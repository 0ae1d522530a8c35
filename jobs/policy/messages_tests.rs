//! The texts that go out, and the templates that are refused.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::policy::testing::rules;

const NOTICE: Notice = Notice::VerificationCode;

fn parse(text: &str) -> Result<Template, TemplateError> {
    Template::parse(NOTICE, text)
}

#[test]
fn notify_21_all_templates_load_in_both_languages() {
    Messages::load().unwrap();
}

#[test]
fn notify_21_an_unknown_variable_is_an_error_when_loading() {
    let error = parse("version: 1\nsubject: x\n\none\n{code} {cod}\n").unwrap_err();
    assert!(matches!(&error, TemplateError::UnknownVariable { line: 5, variable, .. } if variable == "cod"), "{error}");
    assert!(error.to_string().contains("code, operation"), "{error}");
    assert!(parse("version: 1\nsubject: {tenant}\n\nx\n").is_err(), "the subject is checked as well");
    let mut messages = Messages::load().unwrap();
    assert!(messages.replace(NOTICE, Language::En, "version: 2\nsubject: x\n\n{nobody}\n").is_err());
    let rendered = messages.render(NOTICE, Language::En, &[]);
    assert_eq!(rendered.version, 1, "the old template stays");
}

#[test]
fn a_brace_that_stands_alone_is_an_error_and_two_write_one() {
    assert_eq!(
        parse("version: 1\nsubject: x\n\n{code\n").unwrap_err(),
        TemplateError::Brace { notice: NOTICE.as_str(), line: 4 }
    );
    assert!(parse("version: 1\nsubject: x\n\ncode}\n").is_err());
    let mut messages = Messages::load().unwrap();
    messages.replace(NOTICE, Language::Zh, "version: 2\nsubject: x\n\n{{{code}}}\n").unwrap();
    let rendered = messages.render(NOTICE, Language::Zh, &[("code", "123456".into())]);
    assert_eq!((rendered.version, rendered.body.as_str()), (2, "{123456}\n"));
}

#[test]
fn a_template_without_version_subject_or_text_is_refused() {
    for text in
        ["", "subject: x\n\nx\n", "version: one\nsubject: x\n\nx\n", "version: 1\n\nx\n", "version: 1\nsubject: x\nx\n"]
    {
        assert!(parse(text).is_err(), "{text:?}");
    }
    assert!(parse("version: 1\nsubject: x\n\n\n").is_err());
}

#[test]
fn every_variable_of_a_notice_is_used_and_filled_in_both_languages() {
    let messages = Messages::load().unwrap();
    for notice in Notice::ALL {
        let values: Vec<_> = notice.variables().iter().map(|name| (*name, format!("<{name}>"))).collect();
        for language in [Language::Zh, Language::En] {
            let Rendered { subject, body, .. } = messages.render(notice, language, &values);
            let text = format!("{subject}\n{body}");
            assert!(!text.contains(['{', '}']), "{text}");
            for (name, value) in &values {
                assert!(text.contains(value), "{notice:?} {language:?} does not use {name}");
            }
        }
    }
}

#[test]
fn notify_11_the_notice_of_an_sql_update_says_what_came_of_it() {
    let values = [("data_center", "Books".to_owned()), ("statements", "3".into()), ("failed", "1".into())];
    let messages = Messages::load().unwrap();
    let zh = messages.render(Notice::SqlUpdateCompleted, Language::Zh, &values);
    assert!(zh.subject.contains("Books 执行完成"), "{zh:?}");
    assert!(zh.body.contains("共 3 条语句，失败 1 条"), "{zh:?}");
    let en = messages.render(Notice::SqlUpdateCompleted, Language::En, &values);
    assert!(en.body.contains("3 statements, 1 failed"), "{en:?}");
}

#[test]
fn a_line_break_in_a_value_does_not_reach_the_subject_and_braces_in_it_are_only_text() {
    let messages = Messages::load().unwrap();
    let evil = [("data_center", "a\r\nBcc: {code}".to_owned()), ("tenant", "t".into())];
    let rendered = messages.render(Notice::RestoreSucceeded, Language::En, &evil);
    assert!(!rendered.subject.contains(['\r', '\n']), "{rendered:?}");
    assert!(rendered.subject.contains("{code}"), "{rendered:?}");
}

#[test]
fn the_channels_are_those_of_the_matrix() {
    let notify = rules().notify;
    assert_eq!(notify.channels(Notice::SqlUpdateCompleted), [Channel::Yunzhijia, Channel::Email]);
    assert_eq!(notify.channels(Notice::RestoreSucceeded), [Channel::Yunzhijia]);
    assert_eq!(notify.channels(Notice::VerificationCode), [Channel::Sms]);
    assert_eq!(notify.channels(Notice::BackupFinished), []);
    assert_eq!(notify.channels(Notice::JobFailed), [Channel::Email]);
    assert_eq!(notify.language, Language::Zh);
}
