use proptest::prelude::*;

use super::super::{Class, Dialect, Script, ScriptError};

const ALL: [Dialect; 3] = [Dialect::Sqlite, Dialect::Postgres, Dialect::Tsql];

fn texts(dialect: Dialect, text: &str) -> Vec<String> {
    let script = Script::parse(dialect, text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    script.statements().iter().map(|statement| statement.text.clone()).collect()
}

fn refused(dialect: Dialect, text: &str) -> ScriptError {
    match Script::parse(dialect, text) {
        Err(error) => error,
        Ok(script) => panic!("{text:?} was taken: {script:?}"),
    }
}

#[test]
fn go_is_a_separator_only_alone_on_its_line_and_in_code() {
    for dialect in ALL {
        for (text, batches) in [
            ("select 'a\nGO\nb'", 1),
            ("/* \nGO\n */ select 1", 1),
            ("select 1 -- GO", 1),
            ("create table go(id int)", 1),
            ("select 1\ngo\n\nGO", 1),
            ("select 1\nGO\nselect 2", 2),
            ("--'\nGO\nselect 1", 1),
            ("select 1\r\nGO\r\nselect 2\r\n", 2),
            ("select 1\nGO 3 -- thrice\nselect 2", 4),
            ("select 1\n \tgo /* twice */\t\nselect 2", 2),
            ("select \"a\nGO\n\"", 1),
            ("select 1 from x\ngoto_table", 1),
        ] {
            assert_eq!(texts(dialect, text).len(), batches, "{dialect:?} {text:?}");
        }
    }
    assert_eq!(texts(Dialect::Tsql, "select 1 as [a]]\nGO\n]").len(), 1);
    assert_eq!(texts(Dialect::Tsql, "/* /* */\nGO\n */ select 1").len(), 1);
    assert_eq!(texts(Dialect::Postgres, "/* /* */\nGO\n */ select 1").len(), 1);
    assert_eq!(texts(Dialect::Tsql, "goto x").len(), 1);
    assert_eq!(texts(Dialect::Postgres, "select $x$\nGO\n$x$").len(), 1);
    assert_eq!(texts(Dialect::Tsql, "select 1; select 2\nGO"), ["select 1; select 2"]);
}

#[test]
fn go_with_anything_else_is_refused_with_its_line() {
    for dialect in ALL {
        for line in ["GO abc", "GO 0", "GO -1", "GO;", "GO 1001", "go 2;", "GO 99999999999"] {
            assert_eq!(refused(dialect, &format!("select 1\n{line}\n")).line, 2, "{line}");
        }
        for line in [":r other.sql", "!!dir", ":setvar a b", "\\connect x", "  :CONNECT y"] {
            assert_eq!(refused(dialect, &format!("select 1;\n\n{line}\n")).line, 3, "{line}");
        }
    }
    assert_eq!(refused(Dialect::Tsql, "select $(x)").line, 1);
}

#[test]
fn an_open_quote_names_the_line_where_it_was_opened() {
    for dialect in ALL {
        for open in ["'", "\"", "/*"] {
            let error = refused(dialect, &format!("select 1;\nselect {open} a\n\n;\nselect 2"));
            assert_eq!((error.line, error.column), (2, 8), "{dialect:?} {open}");
        }
    }
    assert_eq!(refused(Dialect::Postgres, "select 1;\r\n select $a$ x $b$").line, 2);
    assert_eq!(refused(Dialect::Tsql, "\n\nselect [a").line, 3);
    assert_eq!(refused(Dialect::Postgres, "/* /* */ select 1").line, 1);
}

#[test]
fn quotes_of_postgres_hold_semicolons() {
    let pg = |text: &str| texts(Dialect::Postgres, text);
    assert_eq!(pg("select E'a\\';b'; select 2").len(), 2);
    assert_eq!(pg("select 'a\\'; select 2").len(), 2);
    assert_eq!(pg("select $$;$$; select $t$;$$;$t$").len(), 2);
    assert_eq!(pg("select $1; select a$b$c; select 1"), ["select $1", "select a$b$c", "select 1"]);
    assert_eq!(pg("do $$ begin; perform 1; end $$; select 1").len(), 2);
    assert_eq!(pg("create rule r as on insert to t do (select 1; select 2); select 3").len(), 2);
    let body = "create or replace function f() returns int language sql begin atomic select case when true then 1 else 2 \
                end; select 2; end; select 3";
    assert_eq!(pg(body).len(), 2);
    assert_eq!(pg("begin; select atomic; end; select 1").len(), 4);
}

#[test]
fn a_trigger_of_sqlite_stays_whole() {
    let lite = |text: &str| texts(Dialect::Sqlite, text);
    let trigger = "create temp trigger x after insert on t begin update t set a = case when 1 then 2 else 3 end; \
                   select 1; end";
    assert_eq!(lite(&format!("{trigger}; select 1")), [trigger, "select 1"]);
    assert_eq!(lite("select [a;b], `c;d`, 'e;f'; select 2").len(), 2);
    assert_eq!(lite("select /* /* */ 1; select 2").len(), 2);
    assert_eq!(lite("explain create trigger x after insert on t begin select 1; end; select 1").len(), 2);
}

#[test]
fn empty_statements_vanish_and_lines_are_those_of_the_script() {
    let text = "\u{feff};;\r\n-- a\r\nselect 1; /* x */ ;\r\n\r\n  select\r\n 2\r\nGO\r\n;\rselect 3";
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        let script = Script::parse(dialect, text).unwrap_or_else(|error| panic!("{error}"));
        let lines: Vec<u32> = script.statements().iter().map(|statement| statement.line).collect();
        assert_eq!(lines, [3, 5, 9]);
    }
    assert!(texts(Dialect::Tsql, " \n-- nothing\nGO\n").is_empty());
}

#[test]
fn rows_from_the_client_are_refused() {
    let error = refused(Dialect::Postgres, "select 1;\ncopy t (a) from stdin;\n1\n\\.\n");
    assert!(error.line == 2 || error.line == 4, "{error}");
    assert_eq!(refused(Dialect::Postgres, "copy t from STDIN with csv").line, 1);
}

#[test]
fn how_a_statement_must_be_run_is_read_from_its_words() {
    let class = |dialect, text: &str| match Script::parse(dialect, text) {
        Ok(script) => script.statements()[0].class,
        Err(error) => panic!("{error}"),
    };
    let pg = |text| class(Dialect::Postgres, text);
    for text in [
        "vacuum",
        "VACUUM (full) t",
        "create unique index concurrently i on t (a)",
        "drop index concurrently i",
        "create database x",
        "drop database x",
        "alter system set a = 1",
        "reindex index concurrently i",
        "discard all",
        "commit prepared 'x'",
    ] {
        assert_eq!(pg(text), Class::Alone, "{text}");
    }
    for text in [
        "delete from leasehold.statements",
        "delete from \"leasehold\" . fence",
        "drop schema leasehold cascade",
        "prepare transaction 'x'",
        "commit and chain",
        "copy t to program 'rm'",
        "drop schema if exists \"leasehold\"",
    ] {
        assert!(matches!(pg(text), Class::Refused(_)), "{text}");
    }
    assert_eq!(pg("begin read only"), Class::Begin { read_only: true });
    assert_eq!(pg("start transaction isolation level serializable"), Class::Begin { read_only: false });
    assert_eq!(pg("end"), Class::Commit);
    assert_eq!(pg("abort"), Class::Rollback);
    assert_eq!(pg("rollback to savepoint a"), Class::RollbackTo);
    assert_eq!(pg("commit and no chain"), Class::Commit);
    let lite = |text| class(Dialect::Sqlite, text);
    assert_eq!(lite("vacuum"), Class::Alone);
    assert_eq!(lite("pragma foreign_keys = on"), Class::Alone);
    assert_eq!(lite("begin immediate"), Class::Begin { read_only: false });
    for text in ["attach 'x' as y", "vacuum into 'x'", "drop table leasehold_fence", "select * from [leasehold_fence]"]
    {
        assert!(matches!(lite(text), Class::Refused(_)), "{text}");
    }
}

/// A statement with whatever may hold a `;`, and no separator outside of it.
fn piece(dialect: Dialect) -> impl Strategy<Value = String> {
    let quoted = prop::sample::select(match dialect {
        Dialect::Postgres => {
            vec![
                "'a;b'",
                "'it''s;'",
                "\"q;\"\"r\"",
                "$$;'$$",
                "$t$;$$ ;$t$",
                "E'\\';'",
                "/* ; /* ' */ ; */",
                "-- ; ' $$ \n",
                "(1;2)",
            ]
        }
        Dialect::Sqlite => vec!["'a;b'", "'it''s;'", "\"q;\"\"r\"", "[a;]", "`;``;`", "/* ; /* ' */", "-- ; ' [ \n"],
        Dialect::Tsql => vec!["'a;b\nGO\n'", "[a]];\nGO\n]", "/* \nGO\n /* */ ' */", "-- '\n", "; select", "goto"],
    });
    let words = prop::sample::select(vec!["x", "1", "+", "名", ",", "end", "e", "\n", "\r\n", " ", "case", "a.b"]);
    prop::collection::vec(prop_oneof![quoted, words], 0..8).prop_map(|parts| format!("select {}", parts.join(" ")))
}

fn case() -> impl Strategy<Value = (Dialect, Vec<String>)> {
    prop::sample::select(ALL.to_vec())
        .prop_flat_map(|dialect| (Just(dialect), prop::collection::vec(piece(dialect), 1..6)))
}

proptest! {
    #[test]
    fn nothing_is_lost_and_no_quoted_separator_cuts((dialect, pieces) in case()) {
        let separator = if dialect == Dialect::Tsql { "\nGO\n" } else { "\n;\n" };
        let script = Script::parse(dialect, &pieces.join(separator));
        let script = match script { Ok(script) => script, Err(error) => return Err(TestCaseError::fail(error.to_string())) };
        prop_assert_eq!(script.len(), pieces.len());
        for (statement, piece) in script.statements().iter().zip(&pieces) {
            prop_assert!(piece.trim().starts_with(&statement.text), "{:?} of {:?}", statement.text, piece);
            let rest = piece.trim()[statement.text.len()..].trim();
            prop_assert!(rest.is_empty() || rest.starts_with("--") || rest.starts_with("/*"), "lost {:?}", rest);
        }
        // A statement alone is one statement, the same one.
        for statement in script.statements() {
            prop_assert_eq!(texts(dialect, &statement.text), vec![statement.text.clone()]);
        }
    }

    #[test]
    fn any_text_is_cut_or_refused_without_a_panic(text in "(?s)[a-zA-Z0-9 ;'\"$\\[\\]`/*\\-\n\r\\\\:!().名]{0,60}") {
        for dialect in ALL {
            if let Ok(script) = Script::parse(dialect, &text) {
                for statement in script.statements() {
                    prop_assert!(text.contains(&statement.text));
                    prop_assert!(statement.line >= 1);
                }
            }
        }
    }

    #[test]
    fn go_counts_multiply(count in 1_u32..20) {
        for dialect in ALL {
            prop_assert_eq!(texts(dialect, &format!("select 1\nGO {count}\n")).len(), count as usize);
        }
    }
}
